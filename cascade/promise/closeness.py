"""Is traffic shown to be like the recording? Evidence that a mean lies below a limit, and how many more values it takes.

A check that finds no drift may have had too few runs to find one. So each check is also tested against "there is a change of
MATERIAL or more": only where that is rejected is the traffic like the recording, else there is not enough evidence.
"""

from collections.abc import Mapping, Sequence
from math import ceil, log, log1p
from typing import Any

from .e_process import STEADY_BETS, EProcess

MATERIAL = 0.1
"""The change that is to be ruled out, beyond what counts as no drift: of a share, an advantage or a mean."""
_PRIOR = 10.0  # imaginary values like the recording's


class Closeness:
    """An e-process for the null hypothesis "the mean is at least ``limit``", valid at every look.

    Args:
        limit: The mean that is to be ruled out.
        expected: The mean where traffic is like the recording.
        variance: The variance of a value then.
        low: The smallest possible value.
        high: The largest possible value.
    """

    def __init__(self, limit: float, *, expected: float, variance: float, low: float, high: float) -> None:
        self._limit = limit
        self._evidence = EProcess(-limit, low=-high, high=-low, bets=STEADY_BETS)
        self._sums = [_PRIOR, _PRIOR * expected, _PRIOR * (variance + expected * expected), 0.0]

    def update(self, value: float, weight: float = 1.0) -> None:
        """Takes one more value into account; see ``EProcess.update``."""
        self._evidence.update(-value, weight)
        for i, term in enumerate((1.0, value, value * value)):
            self._sums[i] += weight * term
        self._sums[3] += 1.0

    def needed(self, alpha: float) -> int | None:
        """Roughly how many more values like those so far rule the mean out; 0: it is ruled out; None: no number would do."""
        goal = -log(alpha) - max(self._evidence.log_value, 0.0)
        if self._evidence.rejects(alpha):
            return 0
        weight, total, squares, n = self._sums
        mean = total / weight
        gain, variance = self._limit - mean, max(squares / weight - mean * mean, 0.0)
        if gain <= 0.0:
            return None
        growth = max(self._growth(bet.share, gain, variance) for bet in STEADY_BETS)
        share = (weight - _PRIOR) / n if n else 1.0  # a value's mean weight
        return max(1, ceil(goal / (share * growth))) if growth > 0.0 else None

    def _growth(self, share: float, gain: float, variance: float) -> float:
        """What a bet wins per value, in logarithms: the least that the mean allows, or by the variance for a small bet."""
        one = self._evidence
        width = one.limit - one.low
        stake, wins = share / width, (width + gain) / (one.high - one.low)
        least = wins * log1p(stake * (one.high - one.limit)) + (1.0 - wins) * log1p(-share)
        by_variance = stake * gain - 0.5 * stake * stake * (variance + gain * gain) if share <= 0.5 else least
        return max(least, by_variance)

    def to_json(self) -> dict[str, Any]:
        """The state as plain data."""
        return {"evidence": self._evidence.to_json(), "sums": list(self._sums)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state that ``to_json`` gave. Raises KeyError or ValueError for another state."""
        sums = [float(value) for value in state["sums"]]
        if len(sums) != len(self._sums):
            raise ValueError(f"a closeness has {len(self._sums)} sums, this state has {len(sums)}")
        self._evidence, self._sums = EProcess.from_json(state["evidence"], STEADY_BETS), sums


def most_of(needs: Sequence[int | None]) -> int | None:
    """What several checks together need; None where one would need more than any number."""
    known_needs = [need for need in needs if need is not None]
    return max(known_needs, default=0) if len(known_needs) == len(needs) else None
