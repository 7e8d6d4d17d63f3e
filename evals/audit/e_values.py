"""``cascade.promise.EProcess`` for many streams at once, for simulations and for audits; a test holds the two equal."""

import numpy as np
import numpy.typing as npt

from cascade.promise.e_process import BETS

Array = npt.NDArray[np.float64]


def log_e_values(values: Array, limit: float, *, weights: Array | None = None, low: float = -1.0) -> Array:
    """The logarithms of the e-values against "the mean is at most ``limit``" after every value.

    Args:
        values: (streams, n), in [low, 1].
        limit: The largest mean under the hypothesis.
        weights: (streams, n), in (0, 1], or 0 for a value that was not observed; None: all 1.
        low: The smallest possible value.

    Returns:
        (streams, n).
    """
    x = values - limit if weights is None else weights * (values - limit)
    streams, n = x.shape
    stakes = np.array([bet.share for bet in BETS])[:, None] / (limit - low)
    opens = np.array([bet.gate for bet in BETS])[:, None]
    prior = np.array([bet.weight for bet in BETS])
    wealth = np.repeat(np.log(prior / prior.sum())[:, None], streams, axis=1)
    gates = np.zeros_like(wealth)
    result = np.empty((streams, n))
    for t in range(n):
        gains = np.log1p(stakes * x[:, t])
        wealth += np.where(gates >= opens, gains, 0.0)
        gates = np.maximum(0.0, gates + gains)
        top = wealth.max(axis=0)
        result[:, t] = top + np.log(np.exp(wealth - top).sum(axis=0))
    return result


def first_alarm(log_values: Array, alpha: float) -> npt.NDArray[np.int64]:
    """(streams,): the number of values at which each stream first reached 1 / alpha; 0 where it never did."""
    alarms = log_values >= -np.log(alpha)
    return np.where(alarms.any(axis=1), alarms.argmax(axis=1) + 1, 0)
