"""Does an event become more or less frequent than it was in a recording? Two bets, valid however often one looks.

The recording is a sample itself, so its share of the event is known up to an interval alone. The hypothesis is that the
share of the traffic lies inside that interval, widened by a tolerance.
"""

from collections.abc import Mapping
from math import log
from typing import Any

from .closeness import MATERIAL, Closeness, most_of
from .e_process import EProcess

TOLERANCE = 0.02
"""A change of a share that is no drift, however large the recording is."""


class ShareTest:
    """Follows the share of runs with an event.

    Half of ``alpha`` is for the interval of the recording's share, half for the two bets.

    Args:
        events: How many examples of the recording had the event.
        n: How many examples there were.
        alpha: The probability of ever calling a share changed that is not.

    Attributes:
        recorded: The share in the recording.
        n: How many runs were compared.
    """

    def __init__(self, events: int, n: int, alpha: float) -> None:
        if not 0 <= events <= n or n < 1:
            raise ValueError(f"events must lie between 0 and n, got {events} of {n}")
        self.recorded, self.alpha, self.n, self._events = events / n, alpha, 0, 0
        low, high = interval(events, n, alpha / 2.0)
        # A share cannot lie below 0 or above 1: there is nothing to bet on there.
        self._more = EProcess(high + TOLERANCE, low=0.0) if high + TOLERANCE < 1.0 else None
        self._less = EProcess(1.0 - low + TOLERANCE, low=0.0) if low - TOLERANCE > 0.0 else None
        variance = self.recorded * (1.0 - self.recorded)
        most, least = high + TOLERANCE + MATERIAL, low - TOLERANCE - MATERIAL
        self._not_more = self._not_less = None
        if most < 1.0:
            self._not_more = Closeness(most, expected=self.recorded, variance=variance, low=0.0, high=1.0)
        if least > 0.0:
            self._not_less = Closeness(1.0 - least, expected=1.0 - self.recorded, variance=variance, low=0.0, high=1.0)

    def update(self, event: bool) -> None:
        """Takes one run into account."""
        self.n += 1
        self._events += event
        if self._more is not None:
            self._more.update(float(event))
        if self._less is not None:
            self._less.update(float(not event))
        if self._not_more is not None:
            self._not_more.update(float(event))
        if self._not_less is not None:
            self._not_less.update(float(not event))

    @property
    def needed(self) -> int | None:
        """Roughly how many more runs show that the share differs by less than MATERIAL; 0: they do; None: no number does."""
        # Each of the two must be ruled out, so neither costs the other anything; the interval has half of alpha.
        needs = [one.needed(self.alpha / 2.0) for one in (self._not_more, self._not_less) if one is not None]
        return most_of(needs)

    @property
    def share(self) -> float | None:
        """The share of the runs so far; None before the first."""
        return self._events / self.n if self.n else None

    @property
    def log_evidence(self) -> float:
        """The largest log e-value so far, less what two bets and the recording's interval cost: compare it with 1/alpha."""
        return max((bet.log_max for bet in self._bets), default=0.0) - log(4.0)

    @property
    def log_now(self) -> float:
        """The present one."""
        return max((bet.log_value for bet in self._bets), default=0.0) - log(4.0)

    @property
    def _bets(self) -> list[EProcess]:
        return [bet for bet in (self._more, self._less) if bet is not None]

    def to_json(self) -> dict[str, Any]:
        """The state as plain data, without what the recording states."""
        more, less = (None if bet is None else bet.to_json() for bet in (self._more, self._less))
        close = [None if one is None else one.to_json() for one in (self._not_more, self._not_less)]
        return {"n": self.n, "events": self._events, "more": more, "less": less, "close": close}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state that ``to_json`` gave. Raises KeyError or ValueError for another state."""
        self.n, self._events = int(state["n"]), int(state["events"])
        self._more = None if state["more"] is None else EProcess.from_json(state["more"])
        self._less = None if state["less"] is None else EProcess.from_json(state["less"])
        for one, stored in zip((self._not_more, self._not_less), state["close"], strict=True):
            if one is not None:
                one.restore(stored)


def interval(events: int, n: int, alpha: float) -> tuple[float, float]:
    """An interval for the probability of an event, by Chernoff's bound: exact in that it covers at any sample size.

    Args:
        events: How often it happened.
        n: Of how many examples.
        alpha: The probability that the interval misses.
    """
    share, limit = events / n, log(2.0 / alpha) / n

    def edge(inside: float, outside: float) -> float:
        for _ in range(50):
            middle = 0.5 * (inside + outside)
            inside, outside = (middle, outside) if _divergence(share, middle) <= limit else (inside, middle)
        return outside

    return (edge(share, 0.0) if events else 0.0, edge(share, 1.0) if events < n else 1.0)


def _divergence(share: float, p: float) -> float:
    """Of two events' probabilities, by Kullback and Leibler."""
    if not 0.0 < p < 1.0:
        return float("inf")
    first = share * log(share / p) if share else 0.0
    return first + ((1.0 - share) * log((1.0 - share) / (1.0 - p)) if share < 1.0 else 0.0)
