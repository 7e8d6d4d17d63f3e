"""One mapping of each kind, fitted on given folds: raw, logistic, isotonic.

The logistic mapping is Platt's (1999) with several scores, a ridge penalty and an indicator for a score that can be missing;
the isotonic one is Zadrozny and Elkan's (2002), smoothed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cascade.policy.calibrators import Calibrator, Feature, Isotonic, Logistic, Transform
from evals.replay.statistics.metrics import losses
from evals.replay.statistics.regression import logistic, pava, pool, ridge_logistic

from .apply_mapping import isotonic_values, transformed

Array: TypeAlias = NDArray[np.float64]
Folds: TypeAlias = NDArray[np.intp]


TRANSFORMS: tuple[Transform, ...] = ("logit", "log", "identity")


# Strongest first: of equal log-losses the flatter mapping is taken.
RIDGES = (10.0, 1.0, 0.1)


# Less spread than this is rounding, and dividing by it would blow coefficients up.
_CONSTANT = 1e-6


_EDGE = 1e-9


def raw_mapping(scores: Mapping[str, Array], missing: float) -> Calibrator:
    """The confidence without a calibration: the score itself, or of several the mean of their logits."""
    if len(scores) == 1:
        [judge] = scores
        # Clipped: a judge may score 0 or 1, but a probability of 0 or 1 could cost an infinite log-loss.
        return Isotonic(judge, ((0.0, _EDGE), (1.0, 1.0 - _EDGE)), missing)
    weights = (1.0 / len(scores),) * len(scores)
    features = tuple(
        Feature(judge, "logit", _column(judge, "logit", column).feature.fill) for judge, column in scores.items()
    )
    return Logistic(features, weights, (0.0,) * len(scores), 0.0)


def method_of(mapping: Calibrator) -> str:
    """The mapping's method; "raw" for one that leaves the confidence as it is without a calibration."""
    if isinstance(mapping, Isotonic) and mapping.knots == ((0.0, _EDGE), (1.0, 1.0 - _EDGE)):
        return "raw"
    if isinstance(mapping, Logistic) and mapping.features and mapping.intercept == 0.0 and not any(mapping.missing):
        weight = 1.0 / len(mapping.features)
        if all(c == weight and f.transform == "logit" for c, f in zip(mapping.coefficients, mapping.features, strict=True)):
            return "raw"
    return str(mapping.to_json()["method"])


def fit_isotonic(judge: str, column: Array, y: Array, fold: Folds) -> tuple[Isotonic, Array]:
    out = np.empty(len(y))
    for k in range(int(fold.max()) + 1):
        seen = fold != k
        out[~seen] = isotonic_values(_isotonic(judge, column[seen], y[seen]), column[~seen])
    return _isotonic(judge, column, y), out


def _isotonic(judge: str, column: Array, y: Array) -> Isotonic:
    """Ties pooled, blocks fitted, each block's mean drawn to the overall rate as if by one row more, then monotone again.

    The extra row keeps P off 0 and 1, and most where a block is small. Each block has a knot at both ends.
    """
    rate = (float(y.sum()) + 0.5) / (len(y) + 1)
    absent = np.isnan(column)
    missing = (float(y[absent].sum()) + rate) / (int(absent.sum()) + 1)
    x, where = np.unique(column[~absent], return_inverse=True)
    if not len(x):
        return Isotonic(judge, ((0.5, rate),), missing)
    rows = np.bincount(where).astype(np.float64)
    means, sizes, totals = pool(np.bincount(where, weights=y[~absent]) / rows, rows)
    levels = pava((means * totals + rate) / (totals + 1.0), totals + 1.0)
    ends = np.cumsum(sizes)
    knots: list[tuple[float, float]] = []
    for first, last, level in zip((ends - sizes).tolist(), (ends - 1).tolist(), levels.tolist(), strict=True):
        knots += [(float(x[i]), min(1.0, max(0.0, level))) for i in sorted({first, last})]
    return Isotonic(judge, tuple(knots), missing)


@dataclass(frozen=True, slots=True, eq=False)
class _Column:
    """One score as columns of the design: standardised values (missing: 0, the mean) and, if any is missing, an indicator.

    The indicator is not scaled: a ridge then shrinks it more, the fewer rows are missing.
    """

    feature: Feature
    scale: float
    columns: Array


def _column(judge: str, transform: Transform, scores: Array) -> _Column:
    t = transformed(transform, scores)
    absent = np.isnan(t)
    fill = float(t[~absent].mean())
    centred = np.where(absent, 0.0, t - fill)
    scale = float(np.sqrt(np.mean(centred**2)))
    # A score that varies only in being missing is represented by its indicator alone.
    values = centred / scale if scale > _CONSTANT else np.zeros_like(centred)
    columns = np.column_stack([values, absent]) if absent.any() else values[:, None]
    return _Column(Feature(judge, transform, fill), scale, columns)


def fit_logistic(scores: Mapping[str, Array], y: Array, fold: Folds) -> tuple[Logistic, Array] | None:
    chosen: list[_Column] = []
    for judge, values in scores.items():
        # Agreement is 0 or 1: a transform of two values changes nothing.
        binary = bool(np.all((values == 0.0) | (values == 1.0) | np.isnan(values)))
        options = [_column(judge, kind, values) for kind in (("identity",) if binary else TRANSFORMS)]
        if len(options) > 1:
            tried = [_cross_fit(_design([option]), y, fold, (1.0,)) for option in options]
            mean = [np.inf if p is None else float(losses(p[0], y).mean()) for p in tried]
            options = [options[int(np.argmin(mean))]]
        chosen += options
    x = _design(chosen)
    folded = _cross_fit(x, y, fold, RIDGES)
    if folded is None:
        return None
    best = int(np.argmin([losses(p, y).mean() for p in folded]))
    final = ridge_logistic(x, y, np.ones((1, len(y))), _penalties(x, (RIDGES[best],)))
    if final is None:
        return None
    b = final[0].tolist()
    intercept, at, coefficients, missing = b[0], 1, [], []
    for column in chosen:
        slope = b[at] / column.scale if column.scale > _CONSTANT else 0.0
        intercept -= slope * column.feature.fill
        coefficients.append(slope)
        missing.append(b[at + 1] if column.columns.shape[1] == 2 else 0.0)
        at += column.columns.shape[1]
    return Logistic(tuple(c.feature for c in chosen), tuple(coefficients), tuple(missing), intercept), folded[best]


def _cross_fit(x: Array, y: Array, fold: Folds, ridges: Sequence[float]) -> Array | None:
    """Out-of-fold P (len(ridges), n): all ridges and folds are fitted as one batch; None where one does not converge."""
    count = int(fold.max()) + 1
    seen = (fold != np.arange(count)[:, None]).astype(np.float64)
    penalties = np.repeat(_penalties(x, ridges), count, axis=0)
    b = ridge_logistic(x, y, np.tile(seen, (len(ridges), 1)), penalties)
    if b is None:
        return None
    own = b.reshape(len(ridges), count, -1)[:, fold, :]
    return logistic(np.einsum("rnd,nd->rn", own, x))


def _design(columns: Sequence[_Column]) -> Array:
    return np.column_stack([np.ones(len(columns[0].columns)), *(c.columns for c in columns)])


def _penalties(x: Array, ridges: Sequence[float]) -> Array:
    """The penalty of each column; the intercept has none."""
    return np.outer(ridges, np.arange(x.shape[1]) > 0).astype(np.float64)


def varies(column: Array) -> bool:
    present = column[~np.isnan(column)]
    if not len(present):
        return False
    return len(present) < len(column) or any(_column("x", t, present).scale > _CONSTANT for t in TRANSFORMS)
