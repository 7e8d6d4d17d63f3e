"""Skip thresholds in the exact sweep: tier i is not asked where P(it is right | the prompt) is below ``e_i``.

For each tier i but the last let u_i be the number of its skip cuts that are <= the row's probability, and v_i the number of
its accept cuts that are <= the row's confidence. With the cuts of index s_i and a_i the tier is asked where u_i > s_i, and
accepts where u_i > s_i and v_i > a_i. A row gets past it where it does not accept: the complement of a quadrant. So

    quality = sum_j [past 1] ... [past j-1] [j accepts] q_j + [past all] q_last
    cost    = sum_j [past 1] ... [past j-1] [j is asked] c_j + [past all] c_last

and each term, summed over the rows, follows from one histogram over (u_1, v_1, ..., u_j, v_j) by suffix sums and totals
along its axes. Where the answer to fall back on depends on which tiers were asked, the last term is split by that. It takes
O(n + number of vectors) operations, with exact results.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations
from typing import Literal

import numpy as np
import numpy.typing as npt

from evals.replay.simulate import CandidateTier, SimulatedCascade
from evals.replay.sweep_result import Candidate, SweepResult
from evals.replay.threshold_sweep import ACCEPT_NONE, cut_points

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Part = Literal["asked", "accepts", "past", "skipped", "asked_past"]

# Skip cuts and accept cuts of each tier, by the number of tiers before the last.
CUTS = {1: (40, 120), 2: (12, 14), 3: (5, 6), 4: (3, 4)}


@dataclass(frozen=True, slots=True, eq=False)
class SkipSweep(SweepResult):
    """One cascade's every vector of skip and accept thresholds; the flat index runs over (skip, accept) of each tier.

    ``skip_cuts`` has one array for each tier but the last; the cut 0 skips nothing.
    """

    skip_cuts: tuple[Array, ...]

    def candidate(self, flat: int, limit: float) -> Candidate:
        """The vector at a flat index; its tiers have their skip thresholds."""
        shape = tuple(chain.from_iterable((len(s), len(a)) for s, a in zip(self.skip_cuts, self.cuts, strict=True)))
        at = np.unravel_index(flat, shape)
        skips = [float(cuts[i]) for cuts, i in zip(self.skip_cuts, at[0::2], strict=True)]
        thresholds = tuple(float(cuts[i]) for cuts, i in zip(self.cuts, at[1::2], strict=True))
        tiers = [replace(t, skip_below=e or None) for t, e in zip(self.cascade.tiers[:-1], skips, strict=True)]
        cascade = SimulatedCascade.from_tiers([*tiers, self.cascade.tiers[-1]], self.cascade.final, self.cascade.vote)
        return Candidate(
            cascade=cascade,
            thresholds=thresholds,
            loss=float(self.loss[flat]),
            variance=float(self.variance(limit)[flat]),
            usd=float(self.usd[flat]),
        )


def can_skip(cascade: SimulatedCascade) -> bool:
    """Whether a tier before the last has a predictor, and no confidence depends on which tiers were asked."""
    before = cascade.tiers[:-1]
    reads_prompts = any(tier.prompt is not None and tier.prompt.predictor is not None for tier in before)
    return reads_prompts and len(before) in CUTS and not any(tier.uses_agreement for tier in cascade.tiers)


def skip_cut_points(tier: CandidateTier, rows: Rows, count: int) -> Array:
    """At most ``count`` ascending skip thresholds in [0, 1], from 0 on, which skips nothing."""
    if tier.prompt is None or tier.prompt.predictor is None:
        return np.zeros(1)
    probability = tier.prompt.probability[rows]
    probability = probability[~np.isnan(probability)]
    cuts = cut_points(probability, count) if len(probability) else np.zeros(1)
    return np.asarray(cuts[cuts < ACCEPT_NONE])


def sweep_with_skips(
    cascade: SimulatedCascade,
    rows: Rows,
    qualities: Sequence[Array],
    skip_cuts: Sequence[Array],
    accept_cuts: Sequence[Array],
) -> tuple[Array, Array]:
    """Mean quality and mean USD of every vector, exactly.

    Args:
        cascade: The cascade, whose tiers skip nothing yet.
        rows: The rows.
        qualities: (n,) for each tier, in place of the recorded ones.
        skip_cuts: Ascending skip thresholds of each tier but the last.
        accept_cuts: Ascending accept thresholds of each tier but the last.

    Returns:
        Two arrays of the shape (skip cuts of tier 1, accept cuts of tier 1, skip cuts of tier 2, ...).
    """
    k, outcomes = len(skip_cuts), cascade.tier_outcomes
    bins: list[npt.NDArray[np.intp]] = []
    sizes: list[int] = []
    for i in range(k):
        prompt = cascade.tiers[i].prompt
        probability = np.full(len(rows), np.nan) if prompt is None else prompt.probability[rows]
        # A prompt unlike the recording passes the cut 0 alone, which skips nothing.
        passed = np.searchsorted(skip_cuts[i], probability, side="right")
        bins.append(np.where(np.isnan(probability), np.searchsorted(skip_cuts[i], 0.0, side="right"), passed))
        bins.append(np.searchsorted(accept_cuts[i], outcomes[i].effective_confidence[rows], side="right"))
        sizes += [len(skip_cuts[i]) + 1, len(accept_cuts[i]) + 1]

    def total(values: Array, parts: Sequence[Part], some: npt.NDArray[np.bool_] | None = None) -> Array:
        """The sum of ``values`` (m,) over the rows that go through the tiers by ``parts``, for every vector."""
        depth = 2 * len(parts)
        shape = tuple(sizes[:depth])
        use = slice(None) if some is None else some
        flat = np.ravel_multi_index(tuple(b[use] for b in bins[:depth]), shape) if depth else np.zeros(len(values), np.intp)
        size = int(np.prod(shape, dtype=np.int64))
        sums: Array = np.bincount(flat, values, size).reshape(shape or (1,)).astype(np.float64)
        for i, part in enumerate(parts):
            sums = _along(sums, 2 * i, part)
        return np.asarray(sums.reshape(sums.shape[:depth] + (1,) * (2 * (k - len(parts)))))

    n = max(len(rows), 1)
    whole = tuple(size - 1 for size in sizes)
    quality, cost = np.zeros(whole), np.zeros(whole)
    for j in range(k):
        before: list[Part] = ["past"] * j
        quality += total(qualities[j][rows], [*before, "accepts"])
        cost += total(outcomes[j].cost_usd[rows], [*before, "asked"])
    cost += total(outcomes[k].cost_usd[rows], ["past"] * k)
    patterns = {skipped: cascade.fallback_tier(skipped)[rows] for skipped in _subsets(k)}
    same = np.all([place == k for place in patterns.values()], axis=0)
    quality += total(qualities[k][rows][same], ["past"] * k, same)
    if not same.all():
        for skipped, place in patterns.items():
            fallback = np.choose(place, [q[rows] for q in qualities])[~same]
            quality += total(fallback, ["skipped" if i in skipped else "asked_past" for i in range(k)], ~same)
    return quality / n, cost / n


def _subsets(k: int) -> Iterator[tuple[int, ...]]:
    return chain.from_iterable(combinations(range(k), size) for size in range(k + 1))


def _along(sums: Array, axis: int, part: Part) -> Array:
    """Bins (u, v) along two axes -> the sums for every pair of cuts (s, a) of the rows that the tier treats so."""
    u, v = axis, axis + 1
    # Suffix sums without the first entry: the rows with u > s.
    beyond_u = np.flip(np.cumsum(np.flip(sums, u), axis=u), u).take(range(1, sums.shape[u]), axis=u)
    all_v = beyond_u.sum(axis=v, keepdims=True)
    accepts: Array = np.flip(np.cumsum(np.flip(beyond_u, v), axis=v), v).take(range(1, sums.shape[v]), axis=v)
    every = sums.sum(axis=(u, v), keepdims=True)
    if part == "accepts":
        return accepts
    of_part = {"past": every, "asked_past": all_v}
    if part in of_part:
        return np.asarray(of_part[part] - accepts)
    return np.asarray(np.broadcast_to(all_v if part == "asked" else every - all_v, accepts.shape))
