"""Chooses thresholds on graded rows: every sub-ladder, a grid of thresholds, the cheapest that keeps quality. Pure."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product

# Bounds the search for long ladders: with more tiers the grid gets coarser, never the run longer.
MAX_VECTORS = 1500


@dataclass(frozen=True, slots=True)
class Scored:
    """One tier's outcome on one row.

    ``quality`` and ``cost_usd`` (with judging) hold after the judges, ``bare_quality`` and ``bare_cost_usd`` for the answer
    alone, as it counts where the tier is the ladder's last and its answer is returned whatever judges would say.
    """

    confidence: float
    vetoed: bool
    quality: float
    cost_usd: float
    bare_quality: float
    bare_cost_usd: float


@dataclass(frozen=True, slots=True)
class Choice:
    """A ladder: tier indices in order, one threshold for each but the last, mean quality and mean USD on the rows."""

    tiers: tuple[int, ...]
    thresholds: tuple[float, ...]
    quality: float
    cost_usd: float


def candidates(confidences: Sequence[float], count: int = 20) -> list[float]:
    """Thresholds worth trying: 0 (accept all), about ``count`` quantiles of the confidences, and 1."""
    ordered = sorted(confidences)
    n = len(ordered)
    inner = {ordered[min(n - 1, i * n // (count + 1))] for i in range(1, count + 1)} if n else set()
    return sorted({0.0, *inner, 1.0})


def outcome(row: Sequence[Scored], tiers: Sequence[int], thresholds: Sequence[float]) -> tuple[float, float, int]:
    """(quality, USD, tier that answered) of one row, exactly as the engine decides it."""
    usd = 0.0
    for tier, threshold in zip(tiers, thresholds, strict=False):
        scored = row[tier]
        usd += scored.cost_usd
        if not scored.vetoed and scored.confidence >= threshold:
            return scored.quality, usd, tier
    last = row[tiers[-1]]
    return last.bare_quality, usd + last.bare_cost_usd, tiers[-1]


def ladders(rows: Sequence[Sequence[Scored]], tiers: int) -> Iterator[Choice]:
    """Every candidate: each tier alone, then each sub-ladder with each vector of candidate thresholds."""
    n = len(rows)
    for size in range(1, tiers + 1):
        count = 20
        while size > 1 and (count + 2) ** (size - 1) > MAX_VECTORS and count > 1:
            count -= 1
        for chosen in combinations(range(tiers), size):
            grids = [candidates([row[t].confidence for row in rows], count) for t in chosen[:-1]]
            # How many of the sorted candidates accept the row: a comparison of integers then decides each vector.
            ranked = [
                [0 if row[t].vetoed else _accepted(g, row[t].confidence) for t, g in zip(chosen, grids, strict=False)]
                for row in rows
            ]
            for vector in product(*(range(len(g)) for g in grids)):
                quality = usd = 0.0
                for row, ranks in zip(rows, ranked, strict=True):
                    for position, index in enumerate(vector):
                        scored = row[chosen[position]]
                        usd += scored.cost_usd
                        if index < ranks[position]:
                            quality += scored.quality
                            break
                    else:
                        last = row[chosen[-1]]
                        quality += last.bare_quality
                        usd += last.bare_cost_usd
                thresholds = tuple(g[i] for g, i in zip(grids, vector, strict=True))
                yield Choice(chosen, thresholds, quality / n, usd / n)


def _accepted(grid: Sequence[float], confidence: float) -> int:
    """How many thresholds of the sorted grid accept ``confidence``."""
    place = bisect_left(grid, confidence)
    return place + 1 if place < len(grid) and grid[place] == confidence else place


def choose(rows: Sequence[Sequence[Scored]], tiers: int, max_loss: float) -> Choice:
    """The cheapest candidate whose quality is at least the last tier's alone less ``max_loss``.

    Equal costs go to the better quality. The last tier alone is a candidate, so there always is a choice. Raises
    ValueError where there are no rows.
    """
    if not rows:
        raise ValueError("no rows to choose thresholds on")
    premium = sum(row[tiers - 1].bare_quality for row in rows) / len(rows)
    floor = premium - max_loss - 1e-12  # a loss of exactly max_loss is allowed, whatever the rounding
    kept = (c for c in ladders(rows, tiers) if c.quality >= floor)
    return min(kept, key=lambda c: (c.cost_usd, -c.quality, len(c.tiers)))
