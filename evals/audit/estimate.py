"""The mean over all runs from a labelled sample of them: inverse-propensity weighted, sharpened by predictions.

Let ``xi`` be whether a run was labelled, ``pi`` the recorded probability of that, ``f`` a prediction that every run has and
``c`` its strength. The estimate is ``mean(c f + xi (y - c f) / pi)``: unbiased whatever ``f`` is, since ``c`` comes from
earlier runs alone (prediction-powered inference, Angelopoulos, Bates, Fannjiang, Jordan & Zrnic 2023; tuned as in
Angelopoulos, Duchi & Zrnic 2023; for sampling by probabilities as in Zrnic & Candes 2024). The interval is a confidence
sequence: it holds at every look.
"""

from dataclasses import dataclass
from math import log, sqrt

import numpy as np
import numpy.typing as npt

from cascade.promise.confidence_sequence import CONTROL_LIMIT, LARGEST_STAKE, PRIOR_VARIANCE, bound_of, grid

Array = npt.NDArray[np.float64]
_ROWS = 10_000  # at once: with some 80 candidates, 6 MB
_STEP = 20
_PRIOR_LABELS = 20.0  # the number of imaginary labels that agree with no prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean over all runs.

    Attributes:
        mean: The estimate.
        standard_error: Its standard error, from the increments.
        lower: The lower bound of the confidence sequence.
        upper: Its upper bound.
        runs: How many runs there were.
        labels: How many of them were labelled.
        strength: How much the predictions counted in the end, from 0 to 1.
    """

    mean: float
    standard_error: float
    lower: float
    upper: float
    runs: int
    labels: int
    strength: float


def estimate_mean(
    values: Array,
    probabilities: Array,
    predictions: Array | None = None,
    *,
    floor: float | None = None,
    low: float = -1.0,
    high: float = 1.0,
    alpha: float = 0.05,
) -> Estimate:
    """Estimates the mean of ``values`` over all runs.

    Args:
        values: (n,), in [low, high], in the order of the runs; NaN where a run was not labelled.
        probabilities: (n,), in (0, 1]: that with which each run was to be labelled, decided without its label.
        predictions: (n,), in [low, high]: a prediction of each value that uses no label of this or a later run. None: none.
        floor: The smallest probability that the design allows. Default: the smallest here.
        low: The smallest possible value.
        high: The largest possible value.
        alpha: The probability that the interval ever misses the mean.

    Returns:
        The estimate.

    Raises:
        ValueError: A value, a probability or a prediction is out of range, or there is no run.
    """
    n = len(values)
    if n == 0:
        raise ValueError("there are no runs to estimate from")
    labelled = ~np.isnan(values)
    floor = float(probabilities.min()) if floor is None else floor
    if not (0.0 < floor <= probabilities.min() and probabilities.max() <= 1.0):
        raise ValueError("sampling probabilities must lie in (0, 1], and none below the floor")
    y = np.where(labelled, values, 0.0)
    f = np.zeros(n) if predictions is None else np.asarray(predictions, dtype=np.float64)
    for name, row in (("values", y[labelled]), ("predictions", f if predictions is not None else f[:0])):
        if len(row) and not (low <= row.min() and row.max() <= high):
            raise ValueError(f"{name} must lie in [{low:g}, {high:g}]")
    inverse = np.where(labelled, 1.0 / probabilities, 0.0)
    strength = np.zeros(n) if predictions is None else strengths(y, f, inverse)
    terms = strength * f + inverse * (y - strength * f)
    lower, upper = _interval(y, inverse * floor, f, strength, floor=floor, low=low, high=high, alpha=alpha)
    return Estimate(
        mean=float(terms.mean()),
        standard_error=float(terms.std(ddof=1) / sqrt(n)) if n > 1 else float("nan"),
        lower=lower,
        upper=upper,
        runs=n,
        labels=int(labelled.sum()),
        strength=float(strength[-1]),
    )


def strengths(values: Array, predictions: Array, inverse: Array) -> Array:
    """(n,): how much each run's prediction counts, in [0, 1], by the labelled runs before it.

    It is the slope of the values on the predictions, which makes the variance smallest.

    Args:
        values: (n,); whatever where a run was not labelled.
        predictions: (n,).
        inverse: (n,): 1 / probability where a run was labelled, else 0.
    """

    def before(row: Array) -> Array:
        return np.concatenate([[0.0], np.cumsum(inverse * row)[:-1]])

    one, y, f = before(np.ones_like(values)), before(values), before(predictions)
    fy, ff = before(values * predictions), before(predictions**2)
    weight = np.maximum(one, 1e-12)
    covariance, variance = fy - f * y / weight, ff - f * f / weight
    labels = np.concatenate([[0.0], np.cumsum(inverse > 0)[:-1]])
    slope = np.divide(covariance, variance, out=np.zeros_like(values), where=variance > 1e-9 * weight)
    return np.asarray(np.clip(slope, 0.0, 1.0) * labels / (labels + _PRIOR_LABELS))


def _interval(
    values: Array,
    weights: Array,
    predictions: Array,
    strength: Array,
    *,
    floor: float,
    low: float,
    high: float,
    alpha: float,
) -> tuple[float, float]:
    """The confidence sequence at its last run; see ``cascade.promise.confidence_sequence``, which goes run by run."""
    n = len(values)
    means = np.concatenate([[0.0], np.cumsum(predictions)[:-1] / np.arange(1, n)])
    most = CONTROL_LIMIT * (high - low)
    control = np.clip(strength * (predictions - means), -most, most)
    x = weights * values - control * (weights - floor)
    labelled = weights > 0
    best = _stakes(x, weights, labelled, alpha)
    # Runs that change nothing are left out: those without a label where nothing is predicted.
    at = np.flatnonzero(labelled | (x != 0.0))
    bets = _Bets(x=x[at], weights=weights[at], best=best[at], looks=labelled[at])
    candidates = np.array(grid(low, high))
    bounds = np.array([bound_of(m, low, high) for m in candidates])
    limit = log(2.0 / alpha)

    def evidence(places: npt.NDArray[np.intp]) -> Array:
        return bets.evidence(candidates[places], LARGEST_STAKE / bounds[places])

    # Every twentieth candidate first, then those around the ends of what is left: the evidence against a candidate grows
    # with its distance from the mean.
    coarse = np.arange(0, len(candidates), _STEP)
    against = evidence(coarse)
    left = np.flatnonzero(against < limit)
    nearest = int(against.argmin())
    first, last = (left[0], left[-1]) if len(left) else (nearest, nearest)
    ends = {int(coarse[k]) + j for k in (first, last) for j in range(-_STEP + 1, _STEP)}
    fine = np.array(sorted(j for j in ends if 0 <= j < len(candidates)), dtype=np.intp)
    inside = fine[evidence(fine) < limit]
    if not len(inside):
        return low, high
    return float(candidates[max(inside[0] - 1, 0)]), float(candidates[min(inside[-1] + 1, len(candidates) - 1)])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bets:
    """What is bet on: increments and their weights, the stakes without a bound, and after which runs one may look."""

    x: Array
    weights: Array
    best: Array
    looks: npt.NDArray[np.bool_]

    def evidence(self, candidates: Array, largest: Array) -> Array:
        """The largest log wealth, of a bet above and one below each candidate mean, at any look."""
        above, below = np.zeros(len(candidates)), np.zeros(len(candidates))
        most = np.full(len(candidates), -np.inf)
        for begin in range(0, len(self.x), _ROWS):
            rows = slice(begin, begin + _ROWS)
            won = np.minimum(self.best[rows, None], largest) * (self.x[rows, None] - self.weights[rows, None] * candidates)
            ups, downs = above + np.cumsum(np.log1p(won), axis=0), below + np.cumsum(np.log1p(-won), axis=0)
            above, below = ups[-1], downs[-1]
            looks = self.looks[rows]
            if looks.any():
                most = np.maximum(most, np.maximum(ups[looks].max(axis=0), downs[looks].max(axis=0)))
        return most


def _stakes(x: Array, weights: Array, labelled: npt.NDArray[np.bool_], alpha: float) -> Array:
    """(n,): ``cascade.promise.confidence_sequence.stake_of`` for each run, by the runs before it."""
    weight = np.concatenate([[0.0], np.cumsum(weights)[:-1]])
    total = np.concatenate([[0.0], np.cumsum(np.where(labelled, x, 0.0))[:-1]])
    mean = np.divide(total, weight, out=np.zeros_like(x), where=weight > 0)
    squares = np.concatenate([[0.0], np.cumsum((x - weights * mean) ** 2)[:-1]])
    return np.asarray(np.sqrt(2.0 * log(2.0 / alpha) / ((squares + PRIOR_VARIANCE) * np.maximum(1.0, np.log1p(weight)))))
