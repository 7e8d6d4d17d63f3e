"""Applies a fitted mapping to whole columns, as `cascade.policy.calibrators` does to one row: they agree to 1e-9."""

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cascade.policy.calibrators import LOG_OFFSET, LOGIT_CLIP, Calibrator, Constant, Isotonic, Transform
from evals.replay.statistics.regression import logistic

Array: TypeAlias = NDArray[np.float64]


def apply(mapping: Calibrator, scores: Mapping[str, Array], *, n: int | None = None) -> Array:
    """P(correct) of n rows, (n,): ``mapping.probability`` row by row, in numpy. NaN, or a judge that is absent, is missing.

    ``n`` is needed only where ``scores`` is empty; without it that is a ValueError, as are columns of unequal length.
    """
    lengths = {len(column) for column in scores.values()} | ({n} if n is not None else set())
    if len(lengths) != 1:
        raise ValueError(f"scores: columns of one length are needed, got {sorted(lengths)}")
    (rows,) = lengths
    missing = np.full(rows, np.nan)
    if isinstance(mapping, Constant):
        return np.full(rows, mapping.p)
    if isinstance(mapping, Isotonic):
        return isotonic_values(mapping, np.asarray(scores.get(mapping.judge, missing), np.float64))
    z = np.full(rows, mapping.intercept)
    for feature, coefficient, absent in zip(mapping.features, mapping.coefficients, mapping.missing, strict=True):
        t = transformed(feature.transform, np.asarray(scores.get(feature.judge, missing), np.float64))
        z += np.where(np.isnan(t), coefficient * feature.fill + absent, coefficient * t)
    return logistic(z)


def transformed(transform: Transform, scores: Array) -> Array:
    """`cascade.policy.calibrators.transformed` for an array; NaN stays NaN."""
    if transform == "logit":
        s = np.clip(scores, LOGIT_CLIP, 1.0 - LOGIT_CLIP)
        return np.asarray(np.log(s / (1.0 - s)))
    s = np.clip(scores, 0.0, 1.0)
    return np.asarray(s if transform == "identity" else -np.log(1.0 - s + LOG_OFFSET))


def isotonic_values(mapping: Isotonic, column: Array) -> Array:
    x, y = np.array(mapping.knots).T
    above = np.searchsorted(x, column, side="right")
    low, high = np.maximum(above - 1, 0), np.minimum(above, len(x) - 1)
    width = np.where(high > low, x[high] - x[low], 1.0)
    values = y[low] + np.clip((column - x[low]) / width, 0.0, 1.0) * (y[high] - y[low])
    return np.where(np.isnan(column), mapping.missing, values)
