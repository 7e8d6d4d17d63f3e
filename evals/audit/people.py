"""A mean by few labels of people and many verdicts of a judge model that may be biased: one interval, to be looked at once.

People label a random part of what the judge has graded, the uncertain ones more often (``cascade.promise.review_sampling``).
A prediction of their label is fitted to the judge's verdict and to the confidence of the answer; the estimate is the mean
prediction over everything, plus the mean of what people's labels differ by, weighted by their probabilities. Each label's
prediction is fitted without the labels of its own fold (cross-prediction-powered inference, Zrnic & Candes 2024), so a judge
that is biased, useless or even reversed costs width and not coverage. Of several predictions (none, a straight line, a
monotone function, logistic regressions on verdict and confidence) the one with the smallest error is used.

How narrow the interval can become depends on what verdict and confidence say. With labels given uniformly it is at least
``sqrt(1 - r^2)`` times as wide as that of the labels alone, r the correlation of a label with its best prediction. However
the labels are chosen, it is at least the mean conditional standard deviation of a label over its standard deviation. The
AUROC decides neither. tests/benchmarks/promise/bench_judge.py has both limits beside what is reached.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

from evals.common.intervals import student_quantile

from .label_predictors import FOLDS, Split, by_regressions, by_verdict, features, line, monotone, none

Array = npt.NDArray[np.float64]
LEAST_LABELS = 20
"""With fewer labels nothing is estimated."""
_PRIOR_SQUARES, _PRIOR_LABELS = 1.0, 4.0  # imaginary labels, after Agresti & Coull (1998) and Agresti & Min (2005)
_RARE = 8.0  # where labels and predictions differ by more squares in all, the imaginary ones count less


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
        narrower: The standard error over that of as many labels alone, chosen uniformly.
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
            f"make the interval {self.narrower:.2f} times as wide as one by as many labels alone"
        )


def estimate_by_people(
    labels: Array,
    verdicts: Array,
    *,
    confidences: Array | None = None,
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
        confidences: (n,), in [0, 1]: how sure the cascade was of what is labelled; NaN where unknown. None: not used.
        chances: (n,), above 0: the probability with which each was given to people, decided without their label, or what
            ``chances_of_draws`` has in its place. None: all alike.
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
    if not (chance.min() > 0.0 and np.isfinite(chance).all() and w.min() > 0.0 and np.isfinite(verdicts).all()):
        raise ValueError("chances must lie above 0, weights above 0, and verdicts must be finite")
    inverse = (w / chance)[labelled]
    sample = _Sample(
        labels=y,
        labelled=labelled,
        inverse=inverse,
        weights=w,
        folds=np.random.default_rng(0).permutation(n) % FOLDS,
        size=min(high - low, 1.0),
    )
    predictions = [by_verdict(fit, sample.split, verdicts) for fit in (none, line, monotone)]
    if confidences is not None:
        regressions = by_regressions(sample.split, features(verdicts, confidences), low, high)
        predictions += [] if regressions is None else [regressions]
    mean, error = min((sample.estimate(np.clip(every, low, high)) for every in predictions), key=lambda part: part[1])
    half = student_quantile(1.0 - 0.5 * alpha, n - 2) * error
    return PeopleEstimate(
        mean=mean,
        lower=max(low, mean - half),
        upper=min(high, mean + half),
        labels=n,
        verdicts=count,
        bias=float(np.average(verdicts, weights=w)) - mean,
        narrower=error / sample.error_alone(predictions[0]),
    )


def chances_of_draws(shares: Array, count: int) -> Array:
    """The chances of labels that were drawn one after another without replacement, each from those that were left.

    With the probability p_t of the t-th of n draws from N, the mean is estimated without bias by the mean of the labels
    times ``1 + (N - n) / (N - t) * (1 / ((N - t + 1) p_t) - 1)`` (Farquhar, Gal & Rainforth 2021); the chance is n / N over
    that.

    Args:
        shares: (n,), above 0, in the order of the draws: each probability times the number of those that were left.
        count: N.
    """
    n = len(shares)
    left = np.maximum(count - np.arange(1, n + 1), 1)
    return np.asarray(n / count / (1.0 + (count - n) / left * (1.0 / shares - 1.0)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sample:
    """Labels, and how much each counts."""

    labels: Array
    labelled: npt.NDArray[np.bool_]
    inverse: Array
    weights: Array
    folds: npt.NDArray[np.intp]
    size: float

    @property
    def split(self) -> Split:
        """What the predictions are fitted to."""
        return Split(labels=self.labels, labelled=self.labelled, inverse=self.inverse, folds=self.folds)

    def estimate(self, predictions: Array) -> tuple[float, float]:
        """The mean, and its standard error, by predictions (FOLDS, n), each fitted without one fold."""
        inverse, weights, n = self.inverse, self.weights, len(self.labels)
        everywhere = predictions.mean(axis=0)
        errors = self.labels - predictions[self.folds, np.flatnonzero(self.labelled)]
        base, correction = np.average(everywhere, weights=weights), np.average(errors, weights=inverse)
        predicted = np.sum((weights * (everywhere - base)) ** 2) / weights.sum() ** 2
        squares = np.sum((inverse * (errors - correction)) ** 2) * (n / inverse.sum()) ** 2
        return float(base + correction), sqrt(predicted + self._variance(squares) / n)

    def error_alone(self, means: Array) -> float:
        """The standard error of as many labels alone that are chosen uniformly.

        Args:
            means: (FOLDS, n): the mean labels without each fold.
        """
        n, weights = len(self.labels), self.weights[self.labelled]
        uniform = self.inverse / weights
        errors = self.labels - means[self.folds, 0]
        errors = weights * (errors - np.average(errors, weights=self.inverse))
        squares = np.average(errors**2, weights=uniform) / np.average(weights, weights=uniform) ** 2
        return sqrt(self._variance(n * float(squares)) / n)

    def _variance(self, squares: float) -> float:
        return variance_of(squares, len(self.labels), self.size)


def variance_of(squares: float, n: int, size: float = 1.0) -> float:
    """The variance of what n labels differ by from their predictions.

    Imaginary labels keep the interval wide enough where few of the labels differ: four, with squares that add up to 1; less
    where the labels have many squares of their own.

    Args:
        squares: The sum of the squared differences.
        n: The number of labels.
        size: The largest difference that is common.
    """
    prior = _PRIOR_SQUARES * size**2
    return float((squares + prior * min(1.0, _RARE * size**2 / max(squares, 1e-12))) / (n + _PRIOR_LABELS - 2.0))
