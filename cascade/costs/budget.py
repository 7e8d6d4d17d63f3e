"""Money, calls and samples: held back before a request, settled after it; of one run, and of all runs of a day."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from time import perf_counter, time
from typing import Literal, NamedTuple, Protocol

from cascade.result import CallRecord
from cascade.util.totals import plus

Stop = Literal["budget", "max_calls", "max_samples"]


class LimitReached(Exception):
    """The next request would pass a limit; the engine turns it into the run's reason. ``str()`` says which limit."""

    def __init__(self, reason: Stop, detail: str = "") -> None:
        super().__init__(detail or reason)
        self.reason: Stop = reason


class Reservation(NamedTuple):
    """Money held back for one request: an upper estimate in USD, in every scope that limits it. ``key`` is the ledger's."""

    usd: float
    scopes: tuple[str, ...] = ()
    key: str = ""


class Ledger(Protocol):
    """What was spent in scopes that many runs share, such as a policy's day. Every method is atomic for all who share it."""

    async def reserve(self, limits: Mapping[str, float], usd: float) -> Reservation:
        """Holds back ``usd`` in every scope of ``limits`` (scope -> USD), or in none: LimitReached where one has no room."""
        ...

    async def settle(self, ticket: Reservation, usd: float | None) -> None:
        """Puts what was really spent in the place of what was held back; None (unknown) leaves the estimate as spent."""
        ...

    async def spent(self, scope: str) -> float:
        """USD spent and held back in a scope."""
        ...


class MemoryLedger:
    """A ledger for one process, safe for threads and event loops."""

    def __init__(self) -> None:
        self._spent: dict[str, float] = {}
        self._lock = threading.Lock()

    async def reserve(self, limits: Mapping[str, float], usd: float) -> Reservation:
        """See Ledger."""
        with self._lock:
            spent = self._spent
            for scope, limit in limits.items():
                had = spent.get(scope, 0.0)
                if had + usd > limit or had >= limit:
                    check_room(scope, had, usd, limit)
            for scope in limits:
                spent[scope] = spent.get(scope, 0.0) + usd
        return Reservation(usd, tuple(limits))

    async def settle(self, ticket: Reservation, usd: float | None) -> None:
        """See Ledger."""
        if usd is None:
            return
        with self._lock:
            for scope in ticket.scopes:
                self._spent[scope] = self._spent.get(scope, 0.0) + usd - ticket.usd

    async def spent(self, scope: str) -> float:
        """See Ledger."""
        with self._lock:
            return self._spent.get(scope, 0.0)


def check_room(scope: str, spent: float, usd: float, limit: float) -> None:
    """Raises LimitReached where ``usd`` more would pass the scope's limit."""
    if spent + usd > limit or spent >= limit:
        told = f"budget of {scope}: ${spent:.6g} of ${limit:.6g} spent or held back, ${usd:.6g} asked for"
        raise LimitReached("budget", told)


def today() -> str:
    """The UTC day, over which daily budgets run."""
    return _day(int(time() // 86400))


@lru_cache(maxsize=2)
def _day(days: int) -> str:
    return date.fromordinal(date(1970, 1, 1).toordinal() + days).isoformat()


@dataclass(slots=True)
class RunBudget:
    """What a run has spent.

    ``usd`` is None from the first request on whose cost is unknown: unknown is never 0. ``charged`` is what counts against
    the budget: there an unknown cost counts as the estimate that was held back for it. ``log`` holds every request in order;
    ``began`` is the clock's reading when the run began, in seconds. ``limits`` are the scopes that other runs share, with
    their limits in USD, kept by ``ledger``. ``closed``: the run has ended, whatever still goes on of it may spend nothing.
    """

    max_calls: int
    budget_usd: float | None = None
    max_samples: int | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    ledger: Ledger | None = None
    usd: float | None = 0.0
    charged: float = 0.0
    calls: int = 0
    samples: int = 0
    log: list[CallRecord] = field(default_factory=list)
    began: float = field(default_factory=perf_counter)
    closed: bool = False

    @property
    def bounded(self) -> bool:
        """Whether any budget is set."""
        return self.budget_usd is not None or bool(self.limits)

    def admit(self, n: int, *, sample: bool = False) -> None:
        """Makes room for ``n`` answers. Raises LimitReached."""
        if self.closed:
            raise LimitReached("max_calls", "the run has ended")
        if self.calls + n > self.max_calls:
            raise LimitReached("max_calls", f"{self.calls} of max_calls {self.max_calls} were used, {n} asked for")
        if sample:
            if self.max_samples is not None and self.samples + n > self.max_samples:
                told = f"{self.samples} of max_samples {self.max_samples} were used, {n} asked for"
                raise LimitReached("max_samples", told)
            self.samples += n
        self.calls += n

    async def hold(self, estimate_usd: float | None) -> Reservation:
        """Holds back an upper estimate (None: not known, which counts as 0). Raises LimitReached.

        With a budget set, a run whose spending is unknown and was not estimated either stops: nothing could show that it
        kept its budget.
        """
        usd = estimate_usd or 0.0
        if self.budget_usd is not None:
            if self.usd is None and not self.charged:
                raise LimitReached("budget", "the budget cannot be kept: a request of unknown cost was made")
            check_room("the run", self.charged, usd, self.budget_usd)
        # Before the wait, because requests of the same run must not hold the same money back.
        self.charged += usd
        try:
            return (
                await self.ledger.reserve(self.limits, usd) if self.ledger is not None and self.limits else Reservation(usd)
            )
        except BaseException:
            self.charged -= usd
            raise

    async def release(self, ticket: Reservation, usd: float | None) -> None:
        """Puts what a request really cost in the place of what was held back for it; None (unknown) leaves the estimate."""
        if usd is not None:
            self.charged += usd - ticket.usd
        if ticket.scopes and self.ledger is not None:
            await self.ledger.settle(ticket, usd)

    def settle(self, usd: float | None) -> None:
        """Adds what was spent (None: unknown)."""
        self.usd = plus(self.usd, usd)
