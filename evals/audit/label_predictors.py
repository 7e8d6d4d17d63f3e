"""Predictions of people's labels by verdict and confidence, each fitted without the labels of one fold."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evals.replay.statistics.regression import logistic, pava, ridge_logistic

Array = npt.NDArray[np.float64]
FOLDS = 10
_CLIP = 1e-3
_RIDGES = (0.0, 0.3, 0.3, 0.1)

Predictor = Callable[[Array, Array, Array, Array], Array]
"""Fitted to (verdicts, labels, weights), the predictions for further verdicts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Labels in folds.

    Attributes:
        labels: (n,).
        labelled: (count,): which of everything they belong to.
        inverse: (n,): how much each counts.
        folds: (n,): the fold of each.
    """

    labels: Array
    labelled: npt.NDArray[np.bool_]
    inverse: Array
    folds: npt.NDArray[np.intp]


def none(x: Array, y: Array, weights: Array, at: Array) -> Array:
    """The mean label."""
    return np.full(len(at), np.average(y, weights=weights))


def line(x: Array, y: Array, weights: Array, at: Array) -> Array:
    """Linear regression."""
    middle, mean = np.average(x, weights=weights), np.average(y, weights=weights)
    variance = np.average((x - middle) ** 2, weights=weights)
    slope = np.average((x - middle) * (y - mean), weights=weights) / variance if variance > 1e-12 else 0.0
    return np.asarray(mean + slope * (at - middle))


def monotone(x: Array, y: Array, weights: Array, at: Array) -> Array:
    """Isotonic regression, in the direction of the line, with straight lines between the middles of its steps."""
    values, index = np.unique(x, return_inverse=True)
    totals = np.bincount(index, weights).astype(np.float64)
    means = np.bincount(index, weights * y) / totals
    ends = line(x, y, weights, values[[0, -1]])
    sign = -1.0 if ends[0] > ends[1] else 1.0
    fitted = sign * pava(np.array(sign * means, dtype=float), totals)
    steps = np.concatenate([[0], np.cumsum(np.diff(fitted) != 0.0)])
    centres = np.bincount(steps, totals * values) / np.bincount(steps, totals)
    return np.interp(at, centres, fitted[np.searchsorted(steps, np.arange(steps[-1] + 1))])


def by_verdict(fit: Predictor, split: Split, verdicts: Array) -> Array:
    """(FOLDS, count): the predictions of everything by its verdict."""
    values, index = np.unique(verdicts, return_inverse=True)
    x, out = verdicts[split.labelled], np.empty((FOLDS, len(values)))
    for fold in range(FOLDS):
        inside = split.folds != fold
        out[fold] = fit(x[inside], split.labels[inside], split.inverse[inside], values)
    return out[:, index]


def features(verdicts: Array, confidences: Array) -> Array:
    """(count, 4): the intercept, the verdict, its square, and the logit of the confidence; unknown counts as the mean."""
    deviation = verdicts.std()
    z = (verdicts - verdicts.mean()) / (deviation if deviation > 1e-12 else 1.0)
    p = np.clip(confidences, _CLIP, 1.0 - _CLIP)
    logits = np.log(p / (1.0 - p))
    has_value = ~np.isnan(logits)
    logits = np.where(has_value, logits - (logits[has_value].mean() if has_value.any() else 0.0), 0.0)
    return np.stack([np.ones(len(z)), z, z * z - 1.0, logits], axis=1)


def by_regressions(split: Split, x: Array, low: float, high: float) -> Array | None:
    """(FOLDS, count): logistic regressions of how far a label lies above 0 (or ``low``) and below; None: no fit."""
    zero = min(max(0.0, low), high)
    rows = x[split.labelled]
    inside = (split.folds[None, :] != np.arange(FOLDS)[:, None]) * 1.0
    ridges = np.tile(np.array(_RIDGES), (FOLDS, 1))
    out = np.full((FOLDS, len(x)), zero)
    for reach in (high - zero, low - zero):
        if reach == 0.0:
            continue
        targets = np.clip((split.labels - zero) / reach, 0.0, 1.0)
        coefficients = ridge_logistic(rows, targets, inside, ridges)
        if coefficients is None:
            return None
        out += reach * logistic(coefficients @ x.T)
    return out
