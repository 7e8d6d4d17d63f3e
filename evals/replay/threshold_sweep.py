"""Mean quality and mean cost of every threshold vector of a ladder, exactly: bin once, then prefix sums.

For k tiers and G cut points a tier this takes O(n + G^(k-1)) time for n rows, where evaluating each vector by itself takes
O(n * G^(k-1)). The rule is the one of ``cascade.engine.decide``:
the first tier whose confidence is at least its threshold answers.

Write b_i for the number of tier i's cuts that are <= the row's confidence, and take the threshold with index g_i. Tier i
gives the row up exactly where b_i <= g_i. Let N_j = [b_1 <= g_1] ... [b_j <= g_j], one where the row gets past tier j. Then

    quality = q_1 + sum_{j<k} N_j (q_{j+1} - q_j)        cost = c_1 + sum_{j<k} N_j c_{j+1}

so term j, summed over the rows, depends on the first j bins alone: it is the prefix sum of a j-dimensional histogram with
the weights q_{j+1} - q_j, or c_{j+1}. Only the last histogram is as large as the surface.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
FloatArray = NDArray[Any]  # float32 or float64

ACCEPT_NONE = float(np.nextafter(1.0, 2.0))
"""The least threshold that no confidence in [0, 1] reaches."""

MAX_VECTORS = 100_000_000
"""Most threshold vectors of one tally; its histograms and its surface take 32 bytes a vector."""

CHUNK = 1 << 18
"""Rows that are counted at once: bounds the temporary arrays (a few MB each) and the rounding error of one cell."""
# A power of two, so that confidence * _BUCKETS is exact and a bucket's edges are exact floats.
_BUCKETS = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class TierColumns:
    """One tier's outcome on n rows: arrays of shape (n,), best of float32 or float64, which are read without a copy.

    ``confidence`` is in [0, 1], or -inf where the answer is vetoed; of the last tier it is not read and may be None.
    ``quality`` is in [0, 1]. ``cost`` is the USD that asking and judging this tier adds, >= 0.
    """

    confidence: ArrayLike | None
    quality: ArrayLike
    cost: ArrayLike


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """Mean quality and mean USD over ``n`` rows of every threshold vector.

    ``quality[g_1, ..., g_{k-1}]`` belongs to the thresholds ``cuts[0][g_1], ..., cuts[k-2][g_{k-1}]``; both arrays have the
    shape (G_1, ..., G_{k-1}), which is () for a single tier. Vectors that route every row alike have the same numbers to
    the last bit.
    """

    cuts: tuple[Floats, ...]
    quality: Floats
    cost: Floats
    n: int

    def thresholds(self, flat: int) -> tuple[float, ...]:
        """The threshold vector at a flat (row-major) index, such as ``pareto`` returns."""
        at = np.unravel_index(flat, self.quality.shape) if self.cuts else ()
        return tuple(float(cuts[g]) for cuts, g in zip(self.cuts, at, strict=True))


class _Bins:
    """Counts, for each confidence, the cuts at or below it: by one table look-up where there are many; exact for ties."""

    def __init__(self, cuts: Floats) -> None:
        self.cuts = cuts
        self._table: _BucketTable | None = None

    def __call__(self, confidence: FloatArray) -> Ints:
        if self._table is None:
            if confidence.size < _BUCKETS // 4:  # a table costs more than a few rows
                return np.searchsorted(self.cuts, confidence, side="right")
            self._table = _BucketTable(self.cuts)
        return self._table(confidence)


class _BucketTable:
    """The cuts at or below each of many equal parts of [0, 1], and the first cut inside it."""

    def __init__(self, cuts: Floats) -> None:
        self.cuts = cuts
        edges = np.arange(_BUCKETS + 2) / _BUCKETS
        below = np.searchsorted(cuts, edges[:-1], side="right")
        inside = np.searchsorted(cuts, edges[1:], side="left") - below
        first = np.where(inside > 0, cuts[np.minimum(below, cuts.size - 1)], np.inf)
        # The entry after the bucket of 1.0 is index -1 as well: vetoes go there, below every cut.
        self._below = np.append(below, 0)
        self._first = np.append(first, np.inf)
        self._crowded = np.append(inside > 1, False)
        self._any_crowded = bool(self._crowded.any())

    def __call__(self, confidence: FloatArray) -> Ints:
        bucket = np.maximum(confidence * confidence.dtype.type(_BUCKETS), -1).astype(np.intp)
        bins: Ints = self._below[bucket]
        bins += confidence >= self._first[bucket]
        if self._any_crowded:
            crowded = np.flatnonzero(self._crowded[bucket])
            bins[crowded] = np.searchsorted(self.cuts, confidence[crowded], side="right")
        return bins


class Tally:
    """Histograms of rows, from which the surface follows; rows may come in any number of chunks, in any order.

    ``cuts`` holds one ascending array of thresholds for each tier but the last, each with at least one entry. Memory is
    that of two arrays of the surface's size, whatever the number of rows.

    Raises:
        ValueError: a tier has no cut, or its cuts do not ascend or are NaN or -inf, or there are over MAX_VECTORS vectors.
    """

    def __init__(self, cuts: Sequence[ArrayLike]) -> None:
        self.cuts = tuple(_checked_cuts(tier, each) for tier, each in enumerate(cuts, 1))
        vectors = math.prod(each.size for each in self.cuts)
        if vectors > MAX_VECTORS:
            raise ValueError(f"{vectors:,} threshold vectors, more than {MAX_VECTORS:,}: use fewer cut points a tier")
        self.n = 0
        self._quality = 0.0
        self._cost = 0.0
        self._bins = [_Bins(each) for each in self.cuts]
        # One bin more than cuts: the rows that a tier accepts at its highest cut. Nothing reads their sums.
        self._shapes = [tuple(c.size + 1 for c in self.cuts[: tier + 1]) for tier in range(len(self.cuts))]
        self._gains = [np.zeros(math.prod(shape)) for shape in self._shapes]
        self._costs = [np.zeros(math.prod(shape)) for shape in self._shapes]

    def add(self, tiers: Sequence[TierColumns]) -> None:
        """Counts the rows of ``tiers``, one entry for each tier. Rows that are refused leave the tally as it was.

        Sums are float64; each mean is within 1e-9 of the exact one for costs up to 1 USD and 10^8 rows.

        Raises:
            ValueError: the tiers differ in length, or are not as many as the tiers, or a number is NaN or out of range.
        """
        if len(tiers) != len(self.cuts) + 1:
            raise ValueError(f"columns of {len(tiers)} tiers, but the lists of cuts are for {len(self.cuts) + 1} tiers")
        confidence, quality, cost = _checked(tiers)
        for start in range(0, quality[0].size, CHUNK):
            self._add(*([values[start : start + CHUNK] for values in each] for each in (confidence, quality, cost)))

    def _add(self, confidence: list[FloatArray], quality: list[FloatArray], cost: list[FloatArray]) -> None:
        self.n += quality[0].size
        self._quality += float(quality[0].sum(dtype=np.float64))
        self._cost += float(cost[0].sum(dtype=np.float64))
        flat: Ints | None = None
        for tier, bins_of in enumerate(self._bins):
            bins = bins_of(confidence[tier])
            flat = bins if flat is None else flat * self._shapes[tier][-1] + bins
            gain = np.subtract(quality[tier + 1], quality[tier], dtype=np.float64)
            _accumulate(self._gains[tier], flat, gain)
            _accumulate(self._costs[tier], flat, cost[tier + 1])

    def merge(self, other: "Tally") -> None:
        """Adds the rows that ``other`` has counted; ``other`` stays as it is.

        Raises:
            ValueError: the cuts of the two are not the same.
        """
        if len(self.cuts) != len(other.cuts) or not all(map(np.array_equal, self.cuts, other.cuts)):
            raise ValueError("only tallies of the same cuts can be merged")
        self.n += other.n
        self._quality += other._quality
        self._cost += other._cost
        for mine, theirs in zip(self._gains + self._costs, other._gains + other._costs, strict=True):
            mine += theirs

    def surface(self) -> Surface:
        """Mean quality and mean USD of every threshold vector on the rows counted so far; more may be added after.

        Raises:
            ValueError: no rows were counted.
        """
        if not self.n:
            raise ValueError("no rows were counted")
        quality = self._means(self._quality, self._gains, 1.0)
        cost = self._means(self._cost, self._costs, math.inf)
        return Surface(self.cuts, quality, cost, self.n)

    def _means(self, first: float, histograms: list[Floats], most: float) -> Floats:
        total = np.asarray(first)
        for shape, histogram in zip(self._shapes, histograms, strict=True):
            sums = histogram.reshape(shape)[(slice(-1),) * len(shape)].copy()
            for axis in range(sums.ndim):
                np.cumsum(sums, axis=axis, out=sums)
            sums += total[..., np.newaxis]
            total = sums
        total /= self.n
        # Rounding can leave the range by a last digit, which readers of a mean need not expect.
        np.clip(total, 0.0, most, out=total)
        return total


def sweep_surface(tiers: Sequence[TierColumns], cuts: Sequence[ArrayLike]) -> Surface:
    """Mean quality and mean USD of every threshold vector on rows in memory; see ``Tally`` for arguments and errors."""
    tally = Tally(cuts)
    tally.add(tiers)
    return tally.surface()


def pareto(quality: ArrayLike, cost: ArrayLike) -> Ints:
    """Flat indices of the points that no other point dominates, cheapest first: cost and quality both rise strictly.

    A point dominates another that is no better and no cheaper, unless they are equal; of equal points the one with the
    lowest index represents all. The arrays may have any shape, the same for both.

    Raises:
        ValueError: the shapes differ, or a number is NaN.
    """
    worth, usd = np.asarray(quality), np.asarray(cost)
    if worth.shape != usd.shape:
        raise ValueError(f"quality has the shape {worth.shape}, cost {usd.shape}")
    worth, usd = worth.ravel(), usd.ravel()
    if np.isnan(worth).any() or np.isnan(usd).any():
        raise ValueError("quality and cost must not be NaN")
    if not worth.size:
        return np.empty(0, dtype=np.intp)
    order = np.argsort(usd, kind="stable")
    ranked = worth[order]
    rising = np.append(True, ranked[1:] > np.maximum.accumulate(ranked)[:-1])
    front: Ints = order[rising]
    # Of points that cost the same, the last one that rose is the best.
    last: Ints = front[np.append(usd[front[1:]] > usd[front[:-1]], True)]
    return last


def cut_points(confidence: ArrayLike, count: int) -> Floats:
    """At most ``count`` ascending thresholds: 0 (accept all that is not vetoed), quantiles, and ACCEPT_NONE.

    The quantiles are values that occur among the finite confidences, at evenly spaced ranks; where few enough values
    occur, all of them, so that the thresholds tell apart all that can be told apart. They depend on the data: a certificate
    needs other rows than these, or a grid fixed beforehand, such as ``numpy.linspace(0, 1, count)``.

    Raises:
        ValueError: ``count`` is below 2, or a confidence is neither in [0, 1] nor -inf.
    """
    if count < 2:
        raise ValueError(f"count is {count}: at least 2, to accept all and to accept none")
    values = _array(confidence).ravel()
    _check(values, "confidence", 1.0, veto=True)
    ordered = np.sort(values[values >= 0]).astype(np.float64)
    # The lowest value accepts the same rows as 0.
    values = np.unique(ordered)[1:]
    room = count - 2
    if values.size > room:
        values = ordered[np.arange(1, room + 1) * ordered.size // (room + 1)]
        values = values[values > ordered[0]]
    return np.unique(np.concatenate(([0.0], values, [ACCEPT_NONE])))


def _accumulate(sums: Floats, flat: Ints, weights: FloatArray) -> None:
    # A dense histogram of a short chunk would mostly add zeros.
    if flat.size < sums.size // 16:
        np.add.at(sums, flat, weights)
    else:
        sums += np.bincount(flat, weights, sums.size)


def _array(values: ArrayLike) -> FloatArray:
    values = np.asarray(values)
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float64)


def _checked(tiers: Sequence[TierColumns]) -> tuple[list[FloatArray], list[FloatArray], list[FloatArray]]:
    """The confidences (without the last tier's), the qualities and the costs, after every check."""
    quality = [_array(tier.quality) for tier in tiers]
    cost = [_array(tier.cost) for tier in tiers]
    confidence = [_array(() if tier.confidence is None else tier.confidence) for tier in tiers[:-1]]
    shape = (quality[0].size,)
    for name, arrays in (("quality", quality), ("cost", cost), ("confidence", confidence)):
        for tier, values in enumerate(arrays, 1):
            if values.shape != shape:
                raise ValueError(f"tier {tier}: {name} has the shape {values.shape}, not {shape}")
            _check(values, f"tier {tier}: {name}", math.inf if name == "cost" else 1.0, veto=name == "confidence")
    return confidence, quality, cost


def _check(values: FloatArray, what: str, most: float, *, veto: bool) -> None:
    if not values.size:
        return
    least, highest = float(values.min()), float(values.max())
    # NaN fails every comparison, since min and max pass it on.
    if highest <= most and highest < math.inf and (least >= 0 or (veto and not np.any((values < 0) & (values > -np.inf)))):
        return
    bounds = "finite and >= 0" if most == math.inf else "in [0, 1]"
    raise ValueError(f"{what} must be {bounds}{', or -inf for a veto' if veto else ''}")


def _checked_cuts(tier: int, cuts: ArrayLike) -> Floats:
    values = np.array(cuts, dtype=np.float64)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"tier {tier}: cuts must be one list of at least one threshold")
    if not (np.all(values > -np.inf) and np.all(values[1:] >= values[:-1])):
        raise ValueError(f"tier {tier}: cuts must ascend, without NaN and -inf")
    return values
