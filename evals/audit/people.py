"""A mean by few labels of people and many verdicts of a judge model that may be biased: one interval, to be looked at once.

People label a random part of what the judge has graded. A prediction of their label is fitted to the judge's verdict; the
estimate is the mean prediction over everything, plus the mean of what people's labels differ by. Each label's prediction is
fitted without the labels of its own fold (cross-prediction-powered inference, Zrnic & Candes 2024), so a judge that is
biased, useless or even reversed costs width and not coverage. Of three predictions (none, a straight line, a monotone
function) the one with the smallest error is used.

How narrow the interval can become depends on the judge. With labels given at random it is at least ``sqrt(1 - r^2)`` times
as wide as that of the labels alone, r the correlation of a label with its best prediction. However the labels are chosen, it
is at least the Bhattacharyya coefficient of the verdicts on right and on wrong answers. The AUROC decides neither: at 0.8,
with 70 % of the answers right, a judge with normal scores of equal spread allows 0.87 and 0.84, one that rejects no right
answer 0.70 and 0.63 (tests/benchmarks/promise/bench_judge.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

from evals.common.intervals import student_quantile
from evals.replay.statistics.regression import pava

Array = npt.NDArray[np.float64]
FOLDS = 10
LEAST_LABELS = 20
"""With fewer labels nothing is estimated."""
_PRIOR_SQUARES, _PRIOR_LABELS = 1.0, 4.0  # imaginary labels, after Agresti & Coull (1998) and Agresti & Min (2005)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeopleEstimate:
    """A mean by labels of people and verdicts of a judge.

    Attributes:
        mean: The estimate.
        lower: The lower limit of its interval.
        upper: The upper limit.
        labels: How many labels of people there were.
        verdicts: How many verdicts of the judge.
        bias: The judge's mean verdict less the estimate: how much it overstates the mean.
        narrower: The standard error over that of the labels alone; 1 where the judge says nothing about the labels.
    """

    mean: float
    lower: float
    upper: float
    labels: int
    verdicts: int
    bias: float
    narrower: float

    @property
    def words(self) -> str:
        """The estimate of a mean loss in a sentence."""
        return (
            f"by what people said of {self.labels:,} runs, the mean loss is {self.mean:+.4f} (95 %: {self.lower:+.4f} to "
            f"{self.upper:+.4f}, for one look); the grader finds {self.bias:+.4f} more, and its {self.verdicts:,} verdicts "
            f"make the interval {self.narrower:.2f} times as wide as the labels alone"
        )


def estimate_by_people(
    labels: Array,
    verdicts: Array,
    *,
    chances: Array | None = None,
    weights: Array | None = None,
    low: float = -1.0,
    high: float = 1.0,
    alpha: float = 0.05,
) -> PeopleEstimate:
    """Estimates the mean label of everything that a judge has graded.

    Args:
        labels: (n,), in [low, high]: what people say; NaN where nobody looked.
        verdicts: (n,): what the judge says, on any scale.
        chances: (n,), in (0, 1]: the probability with which each was given to people, decided without their label. None: all
            alike.
        weights: (n,), above 0: how many runs each stands for, such as 1 / its sampling probability. None: all alike.
        low: The smallest possible label.
        high: The largest possible label.
        alpha: The probability that the interval misses the mean. It is not valid at every look.

    Returns:
        The estimate.

    Raises:
        ValueError: Fewer than LEAST_LABELS labels, or a value is out of range.
    """
    labelled = ~np.isnan(labels)
    n, count = int(labelled.sum()), len(labels)
    if n < LEAST_LABELS:
        raise ValueError(f"at least {LEAST_LABELS} labels of people are needed, got {n}")
    y, w = labels[labelled], np.ones(count) if weights is None else weights
    chance = np.full(count, n / count) if chances is None else chances
    if not (low <= y.min() and y.max() <= high):
        raise ValueError(f"labels must lie in [{low:g}, {high:g}]")
    if not (chance.min() > 0.0 and chance.max() <= 1.0 and w.min() > 0.0 and np.isfinite(verdicts).all()):
        raise ValueError("chances must lie in (0, 1], weights above 0, and verdicts must be finite")
    inverse = (w / chance)[labelled]
    folds = np.random.default_rng(0).permutation(n) % FOLDS
    values, index = np.unique(verdicts, return_inverse=True)
    sample = _Sample(
        labels=y,
        places=index[labelled],
        inverse=inverse,
        values=values,
        index=index,
        weights=w,
        folds=folds,
        limits=(low, high),
    )
    parts = [_with_predictor(fit, sample) for fit in (_none, _line, _monotone)]
    alone = parts[0]
    best = min(parts, key=lambda part: part[1])
    mean, error = best[0], best[1]
    half = student_quantile(1.0 - 0.5 * alpha, n - 2) * error
    return PeopleEstimate(
        mean=mean,
        lower=max(low, mean - half),
        upper=min(high, mean + half),
        labels=n,
        verdicts=count,
        bias=float(np.average(verdicts, weights=w)) - mean,
        narrower=error / alone[1],
    )


Predictor = Callable[[Array, Array, Array, Array], Array]
"""Fitted to (verdicts, labels, weights), the predictions for further verdicts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sample:
    """Labels, and the verdicts on everything by their different values."""

    labels: Array
    places: npt.NDArray[np.intp]
    inverse: Array
    values: Array
    index: npt.NDArray[np.intp]
    weights: Array
    folds: npt.NDArray[np.intp]
    limits: tuple[float, float]


def _none(x: Array, y: Array, weights: Array, at: Array) -> Array:
    return np.full(len(at), np.average(y, weights=weights))


def _line(x: Array, y: Array, weights: Array, at: Array) -> Array:
    middle, mean = np.average(x, weights=weights), np.average(y, weights=weights)
    variance = np.average((x - middle) ** 2, weights=weights)
    slope = np.average((x - middle) * (y - mean), weights=weights) / variance if variance > 1e-12 else 0.0
    return np.asarray(mean + slope * (at - middle))


def _monotone(x: Array, y: Array, weights: Array, at: Array) -> Array:
    """Isotonic regression, in the direction of the line, with straight lines between the middles of its steps."""
    values, index = np.unique(x, return_inverse=True)
    totals = np.bincount(index, weights).astype(np.float64)
    means = np.bincount(index, weights * y) / totals
    ends = _line(x, y, weights, values[[0, -1]])
    sign = -1.0 if ends[0] > ends[1] else 1.0
    fitted = sign * pava(np.array(sign * means, dtype=float), totals)
    steps = np.concatenate([[0], np.cumsum(np.diff(fitted) != 0.0)])
    centres = np.bincount(steps, totals * values) / np.bincount(steps, totals)
    return np.interp(at, centres, fitted[np.searchsorted(steps, np.arange(steps[-1] + 1))])


def _with_predictor(fit: Predictor, sample: _Sample) -> tuple[float, float]:
    """The estimate with one predictor, and its standard error."""
    y, inverse, weights, n = sample.labels, sample.inverse, sample.weights, len(sample.labels)
    x = sample.values[sample.places]
    predictions, errors = np.zeros(len(sample.values)), np.empty(n)
    for fold in range(FOLDS):
        inside = sample.folds != fold
        prediction = np.clip(fit(x[inside], y[inside], inverse[inside], sample.values), *sample.limits)
        predictions += prediction / FOLDS
        errors[~inside] = y[~inside] - prediction[sample.places[~inside]]
    everywhere = predictions[sample.index]
    base, correction = np.average(everywhere, weights=weights), np.average(errors, weights=inverse)
    predicted = np.sum((weights * (everywhere - base)) ** 2) / weights.sum() ** 2
    squares = np.sum((inverse * (errors - correction)) ** 2) * (n / inverse.sum()) ** 2
    size = min(sample.limits[1] - sample.limits[0], 1.0)
    variance = (squares + _PRIOR_SQUARES * size**2) / (n + _PRIOR_LABELS - 2.0)
    return float(base + correction), sqrt(predicted + variance / n)
