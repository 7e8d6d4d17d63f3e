"""Evidence against "the mean is at most a limit" that may be looked at after every value: test martingales by betting.

An e-process starts at 1 and multiplies by ``1 + bet * weight * (value - limit)``. Where the mean of every value, given the
past, is at most the limit, it is a non-negative supermartingale, so it ever reaches 1 / alpha with probability at most alpha
(Ville's inequality; Waudby-Smith & Ramdas 2024). Bets may use the past in any way. This one is a mixture of bets that are
always placed, and of bets that are placed only while a sum of recent evidence (CUSUM; Page 1954) is above a gate: they lose
next to nothing in a long healthy time, so that a later change is found about as fast as one at the start.

Values that are observed with different probabilities enter with weights in (0, 1], in proportion to 1 / probability: an
unobserved value then leaves the process as it is. Where the values that matter have small weights, stakes are raised by as
much. Plain Python; ``evals.audit.e_values`` does the same for many streams.
"""

from collections.abc import Mapping, Sequence
from math import exp, inf, log, log1p
from typing import Any, NamedTuple


class Bet(NamedTuple):
    """One bet of the mixture.

    Attributes:
        share: The stake, as a share of the largest that cannot go bankrupt.
        gate: Natural logarithm of the recent evidence from which on the bet is placed; 0: always.
        weight: Its weight in the mixture, relative to the others.
    """

    share: float
    gate: float
    weight: float


# Tuned by simulation (tests/benchmarks/bench_promise.py): a slip of 3 or 4 points, at once and after 5,000 healthy values.
# The last one is never staked: with it, false alarms stay below alpha by a tenth.
BETS = (Bet(0.5, 0.0, 0.5), Bet(0.45, 1.5, 1.0), Bet(0.0, 0.0, 0.15))
LARGEST_SHARE = 0.95
WEIGHT_PRIOR = 1.0
"""The number of values of weight 1 and size 1 that are added to the past ones before their weights are used."""
STEADY_BETS = (Bet(0.95, 0.0, 1.0), Bet(0.5, 0.0, 1.0), Bet(0.2, 0.0, 0.5))
"""Bets for a mean that lies below or above its limit from the first value on, however few values differ from 0."""
_DETECTOR_SHARES = (0.15, 0.4, 0.9)


class EProcess:
    """An e-process for the null hypothesis "the mean is at most ``limit``".

    Args:
        limit: The largest mean under the hypothesis, in (low, high].
        low: The smallest possible value.
        high: The largest possible value.
        bets: The mixture.

    Attributes:
        n: How many values were observed.
        log_value: The natural logarithm of the e-value; 0 at the start.
        log_max: The largest that it ever was.
    """

    def __init__(self, limit: float, *, low: float = -1.0, high: float = 1.0, bets: Sequence[Bet] = BETS) -> None:
        if not low < limit <= high:
            raise ValueError(f"limit must lie above {low:g} and at most at {high:g}, got {limit!r}")
        self.limit, self.low, self.high, self._bets = limit, low, high, tuple(bets)
        self.n, self.log_value, self.log_max = 0, 0.0, 0.0
        total = sum(bet.weight for bet in bets)
        self._sizes = [WEIGHT_PRIOR, WEIGHT_PRIOR]  # sums of weight * value^2 and weight^2 * value^2
        self._wealth = [log(bet.weight / total) for bet in bets]
        self._gates = [0.0] * len(bets)

    def update(self, value: float, weight: float = 1.0) -> float:
        """Takes one more value into account.

        Args:
            value: In [low, high].
            weight: In (0, 1]: the smallest probability with which any value is observed, over that of this one.

        Returns:
            The natural logarithm of the e-value.

        Raises:
            ValueError: The value or the weight is out of range.
        """
        checked(value, weight, self.low, self.high)
        x = weight * (value - self.limit)
        gates, wealth, sizes, width = self._gates, self._wealth, self._sizes, self.limit - self.low
        raised = sizes[0] / sizes[1]
        for i, bet in enumerate(self._bets):
            share, gate = bet.share * raised, gates[i]
            gain = log1p((share if share < LARGEST_SHARE else LARGEST_SHARE) / width * x)
            if gate >= bet.gate:  # by the evidence before this value
                wealth[i] += gain
            gate += gain
            gates[i] = gate if gate > 0.0 else 0.0
        size = weight * value * value
        sizes[0] += size
        sizes[1] += size * weight
        self.n += 1
        self.log_value = log_sum(wealth)
        self.log_max = max(self.log_max, self.log_value)
        return self.log_value

    def rejects(self, alpha: float) -> bool:
        """Whether the e-value ever reached 1 / alpha; under the hypothesis that has at most the probability alpha."""
        return self.log_max >= -log(alpha)

    def to_json(self) -> dict[str, Any]:
        """The state as plain data."""
        return {
            "limit": self.limit,
            "low": self.low,
            "high": self.high,
            "n": self.n,
            "log_max": self.log_max,
            "wealth": list(self._wealth),
            "gates": list(self._gates),
            "sizes": list(self._sizes),
        }

    @classmethod
    def from_json(cls, state: Mapping[str, Any], bets: Sequence[Bet] = BETS) -> "EProcess":
        """The e-process whose state ``to_json`` gave. Raises KeyError or ValueError for another state."""
        process = cls(float(state["limit"]), low=float(state["low"]), high=float(state["high"]), bets=bets)
        wealth, gates = [float(w) for w in state["wealth"]], [float(g) for g in state["gates"]]
        if not len(wealth) == len(gates) == len(bets):
            raise ValueError(f"an e-process has {len(bets)} bets, this state has {len(wealth)}")
        process.n, process._wealth, process._gates = int(state["n"]), wealth, gates
        process._sizes = [float(size) for size in state["sizes"]]
        process.log_value, process.log_max = log_sum(wealth), float(state["log_max"])
        return process


class EDetector:
    """A detector of a mean that rises above ``limit`` at an unknown time; it forgives the distant past.

    A mixture over all starting times of e-processes (Shiryaev-Roberts e-detector; Shin, Ramdas & Rinaldo 2023). While the
    mean stays at most at the limit, the average number of values until it first reaches a threshold is at least that
    threshold: so false alarms do come, at a known rate.

    Args:
        limit: The largest mean of a healthy stream.
        low: The smallest possible value.
        high: The largest possible value.

    Attributes:
        log_value: The natural logarithm of the detector; minus infinity before the first value.
    """

    def __init__(self, limit: float, *, low: float = -1.0, high: float = 1.0) -> None:
        if not low < limit <= high:
            raise ValueError(f"limit must lie above {low:g} and at most at {high:g}, got {limit!r}")
        self.limit, self.low, self.high = limit, low, high
        self._sums = [-inf] * len(_DETECTOR_SHARES)
        self.log_value = -inf

    def update(self, value: float, weight: float = 1.0) -> float:
        """Takes one more value into account; see ``EProcess.update``."""
        checked(value, weight, self.low, self.high)
        x = weight * (value - self.limit) / (self.limit - self.low)
        for i, share in enumerate(_DETECTOR_SHARES):
            self._sums[i] = log_sum((self._sums[i], 0.0)) + log1p(share * x)
        self.log_value = log_sum(self._sums) - log(len(self._sums))
        return self.log_value

    def to_json(self) -> dict[str, Any]:
        """The state as plain data."""
        sums = None if self.log_value == -inf else list(self._sums)
        return {"limit": self.limit, "low": self.low, "high": self.high, "sums": sums}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> "EDetector":
        """The detector whose state ``to_json`` gave. Raises KeyError or ValueError for another state."""
        detector = cls(float(state["limit"]), low=float(state["low"]), high=float(state["high"]))
        if state["sums"] is not None:
            if len(state["sums"]) != len(_DETECTOR_SHARES):
                raise ValueError(f"a detector has {len(_DETECTOR_SHARES)} bets, this state has {len(state['sums'])}")
            detector._sums = [float(s) for s in state["sums"]]
            detector.log_value = log_sum(detector._sums) - log(len(detector._sums))
        return detector


def checked(value: float, weight: float, low: float, high: float) -> None:
    """Raises ValueError where a value or its weight is out of range: a bet could then lose more than there is."""
    if not low <= value <= high:
        raise ValueError(f"a value must lie in [{low:g}, {high:g}], got {value!r}")
    if not 0.0 < weight <= 1.0:
        raise ValueError(f"a weight must lie in (0, 1], got {weight!r}")


def log_sum(logs: Sequence[float]) -> float:
    """The logarithm of a sum, from the logarithms of its terms."""
    largest = max(logs)
    return -inf if largest == -inf else largest + log(sum([exp(term - largest) for term in logs]))
