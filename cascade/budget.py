"""Money and calls of one run: checked before each call, counted after it."""

from dataclasses import dataclass, field
from time import perf_counter
from typing import Literal

from .result import CallRecord

Stop = Literal["budget", "max_calls"]


class LimitReached(Exception):
    """The next call would pass a limit of the run; the engine turns it into the run's reason."""

    def __init__(self, reason: Stop) -> None:
        super().__init__(reason)
        self.reason: Stop = reason


@dataclass(slots=True)
class Spend:
    """What a run has spent. ``usd`` is None from the first call on whose price is unknown: unknown is never 0.

    ``log`` holds every request in order; ``began`` is the clock's reading when the run began, in seconds.
    """

    max_calls: int
    budget_usd: float | None = None
    usd: float | None = 0.0
    calls: int = 0
    log: list[CallRecord] = field(default_factory=list)
    began: float = field(default_factory=perf_counter)

    def reserve(self, calls: int, estimate_usd: float | None) -> None:
        """Makes room for ``calls`` answers costing at most ``estimate_usd`` (None: not known), or raises LimitReached.

        With a budget set, a run whose spending is unknown stops: nothing could show that it kept its budget.
        """
        if self.calls + calls > self.max_calls:
            raise LimitReached("max_calls")
        if self.budget_usd is not None and (
            self.usd is None or self.usd >= self.budget_usd or self.usd + (estimate_usd or 0.0) > self.budget_usd
        ):
            raise LimitReached("budget")
        self.calls += calls

    def settle(self, usd: float | None) -> None:
        """Adds what a call cost (None: unknown)."""
        self.usd = None if usd is None or self.usd is None else self.usd + usd

    @property
    def calls_left(self) -> int:
        """How many more answers the run may ask for."""
        return self.max_calls - self.calls
