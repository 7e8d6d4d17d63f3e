"""Score table -> a fitted mapping from scores to P(correct), chosen by cross-validated log-loss.

The logistic mapping is Platt's (1999) with several scores, a ridge penalty and an indicator for each score that can be
missing; the isotonic one is Zadrozny & Elkan's (2002), smoothed. `cascade.policy.calibrators` applies what is fitted here.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cascade.policy.calibrators import (
    Calibrator,
    Constant,
    is_agreement,
)
from evals.replay.statistics.metrics import losses

from .apply_mapping import apply
from .fit_mappings import fit_isotonic, fit_logistic, raw_mapping, varies

Array: TypeAlias = NDArray[np.float64]
Folds: TypeAlias = NDArray[np.intp]

CANDIDATES = ("raw", "logistic", "isotonic")
_STREAM = 1
# A replay and its baselines fit the same columns many times: the last fits are cached, 40 MB at most.
_MOST_KEPT = 256
_MOST_ROWS_KEPT = 20_000
SURE = 1.645
"""How many standard errors above 0 a gain must be, to be above 0 with 95 % confidence (one-sided)."""


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
        """Whether the mean is more than ``errors`` standard errors above 0."""
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
    usable = {name: column for name, column in scores.items() if varies(column)} if minority >= 2 else {}
    if usable and "raw" in candidates and not any(map(is_agreement, usable)):
        raw = raw_mapping(usable, constant.p)
        fits["raw"] = (raw, apply(raw, usable))
    if usable and "logistic" in candidates and (fitted := fit_logistic(usable, y, fold)) is not None:
        fits["logistic"] = fitted
    if len(usable) == 1 and "isotonic" in candidates:
        [(judge, column)] = usable.items()
        fits["isotonic"] = fit_isotonic(judge, column, y, fold)
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


def _constants(y: Array, fold: Folds) -> Array:
    """The constant of the other folds, for each row."""
    good, rows = y.sum() - np.bincount(fold, weights=y), len(y) - np.bincount(fold)
    return np.asarray(((good + 0.5) / (rows + 1.0))[fold])


def _folds(y: Array, seed: int, count: int) -> Folds:
    """Rows in order of quality, ties shuffled, are dealt to the folds in turn: every fold gets its share of each quality.

    So two right rows lie in two folds, and no training part is without one, which would leave the intercept no optimum.
    """
    # A random stream of its own: otherwise rows simulated from the same seed would be dealt by the numbers that made them.
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
