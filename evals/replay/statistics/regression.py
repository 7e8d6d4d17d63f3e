"""The regressions that a calibration is made of: ridge logistic by Newton steps, isotonic by pooling adjacent violators."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]


def ridge_logistic(x: Array, y: Array, weights: Array, penalties: Array) -> Array | None:
    """Coefficients (m, d) of m logistic regressions on the same rows, by damped Newton steps; None where one fails.

    ``x`` is (n, d), its first column the intercept, all ones; ``y`` (n,) in [0, 1]; ``weights`` (m, n) the rows of each
    regression; ``penalties`` (m, d) the ridge l in the objective sum w (log(1 + exp(x b)) - y x b) + sum l b^2 / 2.
    """
    n, d = x.shape
    xt = np.ascontiguousarray(x.T)
    products = (x[:, :, None] * x[:, None, :]).reshape(n, d * d)
    reach = float(np.abs(x).max()) * d
    share = np.clip(weights @ y / weights.sum(axis=1), 1e-9, 1.0 - 1e-9)
    b = np.zeros((len(weights), d))
    b[:, 0] = np.log(share / (1.0 - share))
    # Keeps the matrix regular where all p have saturated; it bends the path, not the goal.
    ridge = penalties[:, :, None] * np.eye(d) + 1e-9 * np.eye(d)
    p, value = _objective(b, xt, y, weights, penalties)
    for _ in range(60):
        gradient = (weights * (p - y)) @ x + penalties * b
        hessian = ((weights * (p * (1.0 - p))) @ products).reshape(-1, d, d) + ridge
        step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        scale = np.ones((len(b), 1))
        for _ in range(40):
            new = b - scale * step
            p, now = _objective(new, xt, y, weights, penalties)
            if not (worse := now > value + 1e-12 * (1.0 + np.abs(value))).any():
                break
            scale[worse] /= 2.0
        b, value = new, now
        # Newton squares the error: after a step that moves no logit by more than this, the next would be near rounding.
        if float(np.abs(scale * step).max()) * reach < 1e-5:
            return b if bool(np.isfinite(b).all()) else None
    return None


def pava(y: Array, weights: Array) -> Array:
    """The non-decreasing sequence nearest to y (n,) in weighted squares: pool adjacent violators (Ayer et al. 1955)."""
    means, sizes, _ = pool(y, weights)
    return np.repeat(means, sizes)


def pool(y: Array, weights: Array) -> tuple[Array, NDArray[np.intp], Array]:
    """The blocks of `pava`: their means, how many entries each holds, their weights."""
    means: list[float] = []
    sizes: list[int] = []
    totals: list[float] = []
    for mean, total in zip(y.tolist(), weights.tolist(), strict=True):
        size = 1
        while means and means[-1] >= mean:
            weight = totals.pop()
            mean = (means.pop() * weight + mean * total) / (weight + total)
            total += weight
            size += sizes.pop()
        means.append(mean)
        sizes.append(size)
        totals.append(total)
    return np.array(means), np.array(sizes, np.intp), np.array(totals)


def _objective(b: Array, xt: Array, y: Array, weights: Array, penalties: Array) -> tuple[Array, Array]:
    """P (m, n) and the penalised loss (m,) of coefficients (m, d)."""
    z = b @ xt
    e = np.exp(-np.abs(z))
    loss = weights * (np.maximum(z, 0.0) + np.log1p(e) - y * z)
    return _logistic(z, e), loss.sum(axis=1) + 0.5 * np.sum(penalties * b * b, axis=1)


def logistic(z: Array) -> Array:
    """1 / (1 + exp(-z)), without overflow."""
    return _logistic(z, np.exp(-np.abs(z)))


def _logistic(z: Array, e: Array) -> Array:
    return np.where(z >= 0.0, 1.0, e) / (1.0 + e)
