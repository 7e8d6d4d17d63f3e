"""Which ladder, which thresholds, in which order to test them: learned on the fit rows alone.

Every sub-ladder of the models, with and without their dear judges, is swept exactly (``threshold_sweep``). The outcome is a
walk: candidates from the safest to the cheapest, for ``certify`` to test in that order on rows that this never saw.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import numpy.typing as npt

from .calibrate import apply, fit
from .candidate_tiers import columns_of, compares, with_agreement
from .score_table import TierScores
from .simulate import CandidateTier, Outcome, SimulatedCascade
from .threshold_sweep import cut_points, pareto, surface

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

MAX_TIERS = 5
# Cut points a threshold, by the number of thresholds: the sweep stays under about 20,000 vectors a ladder.
CUTS = {1: 200, 2: 60, 3: 20, 4: 12}
# Ladders of more than two tiers take each model's best few steps, as found on the ladders of two.
BEST_STEPS = 3
# The fit rows are few: their graded qualities are noisy, the fitted confidences smooth but possibly off. This much of the
# former in the blend did best among 0, 0.25, 0.5 and 1 on recordings of real models.
GRADED_SHARE = 0.25
# Pseudo-rows with a loss, so that no variance is taken for 0.
PRIOR_ROWS = 2.0
# A ladder is ranked by its cost where its predicted margin is this many standard errors of the certificate's rows; one that
# does not end in the premium tier has no safe end to begin the walk at, and must be predicted to pass more surely.
MARGIN = 1.2
UNSAFE_MARGIN = 2.5
LONGEST_WALK = 80
# How many ladders are tried with agreement between tiers as evidence, and with the best answer so far.
REFINED = 3


@dataclass(frozen=True, slots=True, eq=False)
class Goal:
    """What is promised of the mean loss: at most ``limit``, where a row's loss is ``reference`` minus the quality returned.

    ``reference`` (n,): the premium tier's quality for a promise on the loss, 1 for a promise on the quality itself.
    ``premium``: the model that the loss is against, whose own signals make the prediction sharper.
    """

    reference: Array
    limit: float
    premium: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A ladder with its thresholds, and what the fit rows predict of it: mean loss, its variance a row, mean USD."""

    ladder: SimulatedCascade
    thresholds: tuple[float, ...]
    loss: float
    variance: float
    usd: float
    last_at: float = 0.0

    def outcome(self, rows: Rows) -> Outcome:
        """What it does on ``rows``."""
        return self.ladder.outcome(self.thresholds, rows, self.last_at)


@dataclass(frozen=True, slots=True, eq=False)
class SweepResult:
    """One ladder's every threshold vector: the predictions, flat."""

    ladder: SimulatedCascade
    cuts: tuple[Array, ...]
    loss: Array
    variance: Array
    usd: Array

    def margin(self, limit: float, n: int) -> Array:
        """By how many standard errors of ``n`` rows each vector is predicted to keep the limit."""
        return (limit - self.loss) / np.sqrt(self.variance / max(n, 1))

    def candidate(self, flat: int) -> Candidate:
        """The vector at a flat index."""
        at = np.unravel_index(flat, tuple(len(c) for c in self.cuts)) if self.cuts else ()
        thresholds = tuple(float(c[g]) for c, g in zip(self.cuts, at, strict=True))
        return Candidate(self.ladder, thresholds, float(self.loss[flat]), float(self.variance[flat]), float(self.usd[flat]))


class Tuner:
    """Sweeps ladders on the fit rows. ``columns``: each model's columns, one for each list of judges to be tried."""

    def __init__(self, columns: Mapping[str, Sequence[TierScores]], fit_rows: Rows, goal: Goal, seed: int) -> None:
        self.rows, self.goal, self.seed = fit_rows, goal, seed
        self.steps = columns_of(columns, fit_rows, seed)
        self.order = list(columns)
        self._expected: dict[int, Array] = {}
        self._kept: list[CandidateTier] = []  # ids are keys only while the steps live

    def sweep(self, ladder: SimulatedCascade) -> SweepResult:
        """Predicted loss, variance and cost of every threshold vector of ``ladder`` on the fit rows."""
        rows, reference = self.rows, self.goal.reference
        # A tier that accepts nothing only costs, and the ladder without it takes part by itself; but where later tiers read
        # their agreement with it, it may be worth asking as a witness.
        grid = CUTS.get(len(ladder.steps) - 1, 2)
        cuts = []
        for settled in ladder.settled[:-1]:
            found = cut_points(np.clip(settled.reach[rows], 0.0, 1.0), grid)
            found = found[found <= 1.0]
            cuts.append(np.union1d(found, [1.0]) if compares(ladder.steps) else found)
        graded = [s.quality for s in ladder.settled]
        losses = [reference - q for q in graded]
        smooth = [np.clip(self._loss_at(step, i == len(graded) - 1), -1.0, 1.0) for i, step in enumerate(ladder.steps)]
        blend = [GRADED_SHARE * g + (1 - GRADED_SHARE) * s for g, s in zip(losses, smooth, strict=True)]
        # The kernel takes qualities in [0, 1]: losses in [-1, 1] are moved there and back.
        mean = surface(ladder.rungs(rows, [(1.0 - x) / 2.0 for x in blend]), cuts)
        square = surface(ladder.rungs(rows, [x**2 for x in losses]), cuts)
        m = len(rows)
        second = (square.quality.ravel() * m + PRIOR_ROWS) / (m + 2 * PRIOR_ROWS)
        loss = 1.0 - 2.0 * mean.quality.ravel()
        floor = max(self.goal.limit, 0.0) ** 2
        return SweepResult(ladder, tuple(cuts), loss, np.maximum(second - floor, 1e-6), mean.cost.ravel())

    def _loss_at(self, step: CandidateTier, last: bool) -> Array:
        """(n,): the loss to be expected where this step answers, given its confidence (and the premium's own signals)."""
        own = step.confidence[:, -1]
        if self.goal.premium is None:
            return 1.0 - own
        if last and step.model == self.goal.premium and not step.rules:
            return np.zeros(len(own))
        known = self._expected.get(id(step))
        if known is None:
            scores = {"own": own}
            reference = fit({"own": own[self.rows]}, self.goal.reference[self.rows], seed=self.seed)
            premium = apply(reference.mapping, scores)
            premium[self.rows] = reference.out_of_fold
            known = self._expected[id(step)] = premium - own
            self._kept.append(step)
        if last and step.model == self.goal.premium:
            return np.zeros(len(own))
        return known

    def ladders(self, must_end: str | None = None) -> list[SimulatedCascade]:
        """Single models, every pair of steps, and longer sub-ladders of each model's best steps, in the given order."""
        found: list[SimulatedCascade] = []
        last = {model: _bare(steps) for model, steps in self.steps.items()}
        ends = [m for m in self.order if must_end is None or m == must_end]
        found += [SimulatedCascade.of([last[m]]) for m in ends]
        # Pairs tell which of a model's steps are worth taking on longer ladders.
        worth: dict[str, dict[int, float]] = {m: {} for m in self.order}
        for i, model in enumerate(self.order):
            for end in (m for m in self.order[i + 1 :] if m in ends):
                for j, step in enumerate(self.steps[model]):
                    ladder = SimulatedCascade.of([step, last[end]])
                    found.append(ladder)
                    if end == (must_end or self.order[-1]):
                        worth[model][j] = self._price(self.sweep(ladder), 300)
        best = {
            model: [self.steps[model][j] for j, _ in sorted(w.items(), key=lambda item: item[1])[:BEST_STEPS]]
            for model, w in worth.items()
        }
        for size in range(3, min(MAX_TIERS, len(self.order)) + 1):
            keep = BEST_STEPS if len(self.order) <= 4 else 1
            for models in combinations(self.order, size):
                if models[-1] in ends:
                    tiers = [best[m][:keep] or self.steps[m][:1] for m in models[:-1]]
                    found += [SimulatedCascade.of([*chosen, last[models[-1]]]) for chosen in product(*tiers)]
        return found

    def _price(self, swept: SweepResult, n: int) -> float:
        """The least USD at which the ladder is predicted to keep the limit with ``MARGIN`` standard errors of n rows."""
        safe = self.goal.premium in (None, swept.ladder.models[-1])
        kept = swept.margin(self.goal.limit, n) >= (MARGIN if safe else UNSAFE_MARGIN)
        return float(swept.usd[kept].min()) if kept.any() else float("inf")

    def walk(self, n: int, *, must_end: str | None = None) -> tuple[list[Candidate], list[str]]:
        """Candidates of the most promising ladder, from the safest to the cheapest, to be tested on ``n`` rows; and notes.

        The ladder is the one that is predicted to be cheapest where it keeps the limit with a margin. One ladder only: its
        neighbours' test results rise and fall together, so that the walk seldom stops by chance; mixing ladders, or
        splitting the level between several, did worse on recordings of real models.
        """
        swept = [self.sweep(ladder) for ladder in self.ladders(must_end)]
        found: list[tuple[SweepResult, list[str]]] = [(each, []) for each in swept]
        found += self._refined(swept, n)
        chosen, notes = min(found, key=lambda item: self._rank(item[0], n))
        margin = chosen.margin(self.goal.limit, n)
        # Pareto in (margin, cost): the kernel's front wants a quality, and any rising number will do.
        front = pareto(margin, chosen.usd)[::-1]
        if len(front) > LONGEST_WALK:
            front = front[np.unique(np.linspace(0, len(front) - 1, LONGEST_WALK).round().astype(np.int64))]
        return [chosen.candidate(int(i)) for i in front], notes

    def _rank(self, swept: SweepResult, n: int) -> tuple[float, float, int]:
        """What is preferred: the cheapest with a margin, then the widest margin, then the shorter ladder."""
        return self._price(swept, n), -float(swept.margin(self.goal.limit, n).max()), len(swept.ladder.steps)

    def _refined(self, swept: Sequence[SweepResult], n: int) -> list[tuple[SweepResult, list[str]]]:
        """The most promising ladders with agreement as evidence, and with the best answer so far, where that shows a gain.

        Agreement is tried on the longest ladders too: where no judge tells anything it may be all the evidence there is.
        """
        several = [each for each in swept if len(each.ladder.steps) > 1]
        ranked = sorted(several, key=lambda each: self._rank(each, n))[:REFINED]
        longest = sorted(several, key=lambda each: -len(each.ladder.steps))[:REFINED]
        made: list[tuple[SweepResult, list[str]]] = []
        for each in {id(x): x for x in (*ranked, *longest)}.values():
            steps, notes = with_agreement(each.ladder.steps, self.rows, self.seed)
            tried: list[tuple[SweepResult, list[str]]] = [(each, [])]
            if notes:
                tried.append((self.sweep(SimulatedCascade.of(steps)), notes))
            made += tried[1:]
            for one, told in tried:
                best = one.ladder.with_final("best")
                gained = np.choose(best.end(), [s.quality for s in best.settled])
                kept = np.choose(one.ladder.end(), [s.quality for s in best.settled])
                difference = (gained - kept)[self.rows]
                if difference.mean() > difference.std() / np.sqrt(len(difference)):
                    why = "the surest answer of all tiers asked is returned, not the last one: better on the fit rows"
                    made.append((self.sweep(best), [*told, why]))
        return made


def _bare(steps: Sequence[CandidateTier]) -> CandidateTier:
    """The step that a model takes as the last tier: judged only by what is free."""
    from .candidate_tiers import first

    return first(steps[0], steps[0].column.free)
