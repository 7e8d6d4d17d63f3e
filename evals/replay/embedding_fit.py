"""Fits what the embedding of a prompt adds to its n-grams: ridge logistic regression on it and on the n-grams' logit.

The strength of the ridge is chosen by cross-validated log-loss; the gain is that over the n-grams alone, or over a constant
where they say nothing.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cascade.policy.predictor import MOST_LEVELS, EmbeddingWeights

from .router import kernel_logistic
from .statistics.metrics import losses
from .statistics.regression import logistic

Array = npt.NDArray[np.float64]

RIDGES = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
FOLDS = 5
LEAST_GAIN = 1.645
"""By how many standard errors an embedding must lower the cross-validated log-loss: it costs money in every run."""
_LOGIT_SCALE = 10.0  # the ridge of the n-grams' logit, which is one number and hardly penalised
_CLIP = 1e-6
_STREAM = 13


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FittedEmbedding:
    """A fitted embedding predictor.

    Attributes:
        shows_gain: Whether cross-validation shows a gain.
        note: The gain in words.
        out_of_fold: (m,), P(right) of the fit rows, each fitted without its fold.
        direction: (dimensions,), the weights.
        slope: The weight of the n-grams' logit.
        intercept: The logit where all else is 0.
    """

    shows_gain: bool
    note: str
    out_of_fold: Array
    direction: Array
    slope: float
    intercept: float

    def weights(self, model: str) -> EmbeddingWeights:
        """The weights in the form that a predictor reads: whole multiples of a scale."""
        scale = float(np.abs(self.direction).max(initial=0.0)) / MOST_LEVELS or 1.0
        levels = np.round(self.direction / scale).astype(int).tolist()
        return EmbeddingWeights(model=model, intercept=self.intercept, slope=self.slope, weights=tuple(levels), scale=scale)


def fit_embedding(vectors: Array, y: Array, by_ngrams: Array | None, *, seed: int) -> FittedEmbedding:
    """Fits the embedding beside the n-grams.

    Args:
        vectors: (m, dimensions), the embeddings of the fit rows.
        y: (m,), the quality of the tier's answers, in [0, 1].
        by_ngrams: (m,), P(right) by the n-grams, of predictors that have not seen the row; None: they say nothing.
        seed: The seed of the folds.
    """
    rng = np.random.default_rng((seed, _STREAM))
    order = np.lexsort((rng.random(len(y)), y))
    fold = np.empty(len(y), np.intp)
    fold[order] = np.arange(len(y)) % FOLDS
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = vectors / np.where(lengths > 0.0, lengths, 1.0)
    mean = units.mean(axis=0)
    table = units - mean
    if by_ngrams is not None:
        p = np.clip(np.nan_to_num(by_ngrams, nan=float(y.mean())), _CLIP, 1.0 - _CLIP)
        table = np.column_stack([table, _LOGIT_SCALE * np.log(p / (1.0 - p))])
    kernel = table @ table.T
    tried = {ridge: _out_of_fold(kernel, y, fold, ridge) for ridge in RIDGES}
    ridge = min(tried, key=lambda r: float(losses(tried[r], y).mean()))
    constant = np.array([(y[fold != k].sum() + 0.5) / ((fold != k).sum() + 1) for k in range(FOLDS)])[fold]
    before = constant if by_ngrams is None else p
    difference = losses(before, y) - losses(tried[ridge], y)
    error = float(difference.std(ddof=1)) / len(y) ** 0.5
    gains = bool(difference.mean() > LEAST_GAIN * error)
    other = "a constant" if by_ngrams is None else "n-grams alone"
    a, b = kernel_logistic(kernel, y, ridge)
    weights = table.T @ a
    slope = 0.0 if by_ngrams is None else float(weights[-1]) * _LOGIT_SCALE
    direction = weights if by_ngrams is None else weights[:-1]
    return FittedEmbedding(
        shows_gain=gains and (by_ngrams is None or slope != 0.0),
        note=(
            f"{'used' if gains else 'not used'}, cross-validated log-loss {difference.mean():+.4f} better than {other}, "
            f"standard error {error:.4f} ({len(y)} fit rows)"
        ),
        out_of_fold=tried[ridge],
        direction=direction,
        slope=slope,
        intercept=b - float(mean @ direction),
    )


def _out_of_fold(kernel: Array, y: Array, fold: npt.NDArray[np.intp], ridge: float) -> Array:
    """(m,): P(right) of each row, fitted without its fold."""
    out = np.zeros(len(y))
    for k in range(FOLDS):
        training, held_out = fold != k, fold == k
        a, b = kernel_logistic(kernel[np.ix_(training, training)], y[training], ridge)
        out[held_out] = kernel[np.ix_(held_out, training)] @ a + b
    return np.asarray(logistic(out))
