"""``cascade.promise.e_process.EProcess`` for many streams at once, for simulations and audits; a test compares the two."""

import numpy as np
import numpy.typing as npt

from cascade.promise.e_process import BETS, LARGEST_SHARE, WEIGHT_PRIOR

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
    w = np.ones_like(values) if weights is None else weights
    x = w * (values - limit)
    streams, n = x.shape
    shares = np.array([bet.share for bet in BETS])[:, None]
    # The sums before each value.
    linear, square = w * values**2, w**2 * values**2
    raised = (WEIGHT_PRIOR + np.cumsum(linear, axis=1) - linear) / (WEIGHT_PRIOR + np.cumsum(square, axis=1) - square)
    opens = np.array([bet.gate for bet in BETS])[:, None]
    prior = np.array([bet.weight for bet in BETS])
    wealth = np.repeat(np.log(prior / prior.sum())[:, None], streams, axis=1)
    gates = np.zeros_like(wealth)
    result = np.empty((streams, n))
    for t in range(n):
        gains = np.log1p(np.minimum(shares * raised[:, t], LARGEST_SHARE) / (limit - low) * x[:, t])
        wealth += np.where(gates >= opens, gains, 0.0)
        gates = np.maximum(0.0, gates + gains)
        top = wealth.max(axis=0)
        result[:, t] = top + np.log(np.exp(wealth - top).sum(axis=0))
    return result


def first_alarm(log_values: Array, alpha: float) -> npt.NDArray[np.int64]:
    """(streams,): the number of values at which each stream first reached 1 / alpha; 0 where it never did."""
    alarms = log_values >= -np.log(alpha)
    return np.where(alarms.any(axis=1), alarms.argmax(axis=1) + 1, 0)
