"""Score table -> a fitted mapping from scores to P(correct), chosen by cross-validated log-loss.

The logistic mapping is Platt's (1999) with several scores, a ridge penalty and an indicator a score that can be missing;
the isotonic one is Zadrozny & Elkan's (2002), smoothed. `cascade.policy.calibrators` applies what is fitted here.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cascade.policy.calibrators import (
    LOG_OFFSET,
    LOGIT_CLIP,
    Calibrator,
    Constant,
    Feature,
    Isotonic,
    Logistic,
    Transform,
    is_agreement,
)

from .statistics.metrics import losses
from .statistics.regression import logistic, pava, pool, ridge_logistic

Array: TypeAlias = NDArray[np.float64]
Folds: TypeAlias = NDArray[np.intp]

CANDIDATES = ("raw", "logistic", "isotonic")
TRANSFORMS: tuple[Transform, ...] = ("logit", "log", "identity")
# Strongest first: of equal log-losses the flatter mapping is taken.
RIDGES = (10.0, 1.0, 0.1)
# Less spread than this is rounding, and dividing by it would blow coefficients up.
_CONSTANT = 1e-6
_EDGE = 1e-9
_STREAM = 1
# A replay and its baselines fit the same columns again and again: the last fits are kept, 40 MB at most.
_MOST_KEPT = 256
_MOST_ROWS_KEPT = 20_000
SURE = 1.645
"""Standard errors of a gain that is more than 0 with 95 % confidence, one-sided."""


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A calibration and how it did on rows that it had not seen.

    ``log_loss_cv`` is the mean out-of-fold log-loss in nats of "constant" and of each candidate that could be fitted.
    ``out_of_fold`` (n,) holds for each row the P(correct) of the chosen method fitted without the row's fold; transforms,
    ridge and method were chosen on the same folds, fill values and scales on all rows (without their labels).
    """

    mapping: Calibrator
    method: str
    log_loss_cv: Mapping[str, float]
    out_of_fold: Array
    n: int


@dataclass(frozen=True, slots=True)
class Gain:
    """By how much a mapping lowers the cross-validated log-loss: mean of the paired differences and its standard error."""

    mean: float
    standard_error: float

    @property
    def is_significant(self) -> bool:
        """Whether the mean is more than one standard error above 0."""
        return self.exceeds(1.0)

    def exceeds(self, errors: float) -> bool:
        """Whether the mean is more than so many standard errors above 0."""
        return self.mean > errors * self.standard_error


def fit(
    scores: Mapping[str, Array],
    correct: Array,
    *,
    seed: int = 0,
    folds: int = 5,
    candidates: Sequence[str] = CANDIDATES,
    errors: float = 1.0,
) -> Fitted:
    """Fits P(correct) on n rows.

    ``scores`` holds (n,) in [0, 1] by judge, NaN where missing; ``correct`` is (n,) in [0, 1]. Scores that never vary, in
    value or in being missing, are dropped. Folds are stratified by ``correct`` and drawn from ``seed``.

    Each score's transform is chosen by cross-validated log-loss with that score alone, then the ridge with all scores.
    "raw" is the confidence without a calibration, as ``cascade.engine.confidence`` combines scores: nothing of it is fitted,
    so that it cannot fit noise. "logistic" and "isotonic" replace "raw", and "isotonic" replaces "logistic", only where the
    cross-validated log-loss is lower by more than ``errors`` standard errors of the paired difference: a calibration that
    does not clearly help is not used. Either replaces "constant" where its log-loss is lower at all, since a weak ranking is
    better than none. The constant is (correct + 0.5) / (n + 1), and all there is where fewer than two rows are right or
    fewer than two wrong. "isotonic" takes part where exactly one score is left, "raw" where no score is agreement with
    another tier.

    Raises ValueError on unequal lengths, values outside [0, 1], unknown candidates, fewer than two folds.
    """
    y = _checked(scores, correct)
    if folds < 2 or set(candidates) - set(CANDIDATES):
        raise ValueError(f"folds must be 2 or more and candidates among {CANDIDATES}; got {folds} and {tuple(candidates)}")
    if len(y) > _MOST_ROWS_KEPT:
        return _fit(scores, y, seed=seed, folds=folds, candidates=candidates, errors=errors)
    digest = blake2b(repr((tuple(scores), seed, folds, tuple(candidates), errors)).encode())
    for column in (y, *scores.values()):
        digest.update(np.ascontiguousarray(column, np.float64).tobytes())
    key = digest.digest()
    fitted = _FITS.get(key)
    if fitted is None:
        fitted = _FITS[key] = _fit(scores, y, seed=seed, folds=folds, candidates=candidates, errors=errors)
        fitted.out_of_fold.flags.writeable = False
        if len(_FITS) > _MOST_KEPT:
            _FITS.popitem(last=False)
    return fitted


_FITS: OrderedDict[bytes, Fitted] = OrderedDict()


def _fit(
    scores: Mapping[str, Array], y: Array, *, seed: int, folds: int, candidates: Sequence[str], errors: float
) -> Fitted:
    n = len(y)
    constant = Constant((float(y.sum()) + 0.5) / (n + 1))
    if n < 2:
        return Fitted(constant, "constant", {}, np.full(n, constant.p), n)
    minority = int(min(np.sum(y > 0), np.sum(y < 1)))
    fold = _folds(y, seed, min(folds, n))
    fits: dict[str, tuple[Calibrator, Array]] = {"constant": (constant, _constants(y, fold))}
    usable = {name: column for name, column in scores.items() if _varies(column)} if minority >= 2 else {}
    if usable and "raw" in candidates and not any(map(is_agreement, usable)):
        raw = _raw(usable, constant.p)
        fits["raw"] = (raw, apply(raw, usable))
    if usable and "logistic" in candidates and (fitted := _fit_logistic(usable, y, fold)) is not None:
        fits["logistic"] = fitted
    if len(usable) == 1 and "isotonic" in candidates:
        [(judge, column)] = usable.items()
        fits["isotonic"] = _fit_isotonic(judge, column, y, fold)
    rows = {name: losses(p, y) for name, (_, p) in fits.items()}
    mean = {name: float(row.mean()) for name, row in rows.items()}
    method = "constant"
    for name in fits:  # in the order of simplicity
        if mean[name] < mean["constant"] if method == "constant" else _gain(rows[method], rows[name]).exceeds(errors):
            method = name
    mapping, out_of_fold = fits[method]
    return Fitted(mapping, method, mean, out_of_fold, n)


def gain(scores: Mapping[str, Array], extra: Mapping[str, Array], correct: Array, seed: int = 0) -> Gain:
    """What ``extra`` scores add to ``scores``: both logistic fits on the same folds, the losses compared row by row.

    Raises ValueError where a name is in both, and as `fit` does.
    """
    if both := scores.keys() & extra.keys():
        raise ValueError(f"in scores and in extra: {', '.join(sorted(both))}")
    without = fit(scores, correct, seed=seed, candidates=("logistic",))
    joined = fit({**scores, **extra}, correct, seed=seed, candidates=("logistic",))
    y = np.asarray(correct, np.float64)
    return _gain(losses(without.out_of_fold, y), losses(joined.out_of_fold, y))


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
        return _isotonic_values(mapping, np.asarray(scores.get(mapping.judge, missing), np.float64))
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


def _raw(scores: Mapping[str, Array], missing: float) -> Calibrator:
    """The confidence without a calibration: the score itself, or of several the mean of their logits."""
    if len(scores) == 1:
        [judge] = scores
        # Never certain: a score of 0 or 1 is a judge's word, and a probability of 0 or 1 would cost an infinite log-loss.
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


def _fit_isotonic(judge: str, column: Array, y: Array, fold: Folds) -> tuple[Isotonic, Array]:
    out = np.empty(len(y))
    for k in range(int(fold.max()) + 1):
        seen = fold != k
        out[~seen] = _isotonic_values(_isotonic(judge, column[seen], y[seen]), column[~seen])
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


def _isotonic_values(mapping: Isotonic, column: Array) -> Array:
    x, y = np.array(mapping.knots).T
    above = np.searchsorted(x, column, side="right")
    low, high = np.maximum(above - 1, 0), np.minimum(above, len(x) - 1)
    width = np.where(high > low, x[high] - x[low], 1.0)
    values = y[low] + np.clip((column - x[low]) / width, 0.0, 1.0) * (y[high] - y[low])
    return np.where(np.isnan(column), mapping.missing, values)


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
    # A score that only ever varies in being missing keeps its indicator alone.
    values = centred / scale if scale > _CONSTANT else np.zeros_like(centred)
    columns = np.column_stack([values, absent]) if absent.any() else values[:, None]
    return _Column(Feature(judge, transform, fill), scale, columns)


def _fit_logistic(scores: Mapping[str, Array], y: Array, fold: Folds) -> tuple[Logistic, Array] | None:
    chosen: list[_Column] = []
    for judge, values in scores.items():
        # Agreement is 0 or 1, and two values are two values under any transform.
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
    """The intercept is free."""
    return np.outer(ridges, np.arange(x.shape[1]) > 0).astype(np.float64)


def _constants(y: Array, fold: Folds) -> Array:
    """The constant of the other folds, for each row."""
    good, rows = y.sum() - np.bincount(fold, weights=y), len(y) - np.bincount(fold)
    return np.asarray(((good + 0.5) / (rows + 1.0))[fold])


def _folds(y: Array, seed: int, count: int) -> Folds:
    """Rows in order of quality, ties shuffled, are dealt to the folds in turn: every fold gets its share of each quality.

    So two right rows lie in two folds, and no training part is without one, which would leave the intercept no optimum.
    """
    # A stream of its own: rows simulated from the same seed would else be dealt by their own random numbers.
    order = np.lexsort((np.random.default_rng((seed, _STREAM)).random(len(y)), y))
    fold = np.empty(len(y), np.intp)
    fold[order] = np.arange(len(y)) % count
    return fold


def _gain(before: Array, after: Array) -> Gain:
    difference = before - after
    n = len(difference)
    if n < 2:
        return Gain(0.0, 0.0)
    return Gain(float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(n)))


def _varies(column: Array) -> bool:
    present = column[~np.isnan(column)]
    if not len(present):
        return False
    return len(present) < len(column) or any(_column("x", t, present).scale > _CONSTANT for t in TRANSFORMS)


def _checked(scores: Mapping[str, Array], correct: Array) -> Array:
    y = np.asarray(correct, np.float64)
    for name, values in (("correct", y), *scores.items()):
        if values.shape != (len(y),):
            raise ValueError(f"{name}: expected {len(y)} numbers, got the shape {values.shape}")
        # NaN is a missing score; for `correct` it compares false, as it should.
        fine = (values >= 0.0) & (values <= 1.0) | (np.isnan(values) if name != "correct" else False)
        if not fine.all():
            raise ValueError(f"{name}: a value is outside [0, 1]")
    return y
