"""Budgets of money, calls and samples, of one run and of all runs of a day: reserved before a request, settled after it."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from time import perf_counter, time
from typing import Literal, NamedTuple, Protocol

from cascade.result import CallRecord
from cascade.util.after_fork import restart_after_fork
from cascade.util.totals import plus

from . import budget_alarms
from .output_lengths import OutputLengths

THE_RUN = "the run"
MONTH = "month of "
"""How a shared budget's scope begins where it is that of a UTC month instead of a UTC day."""
Stop = Literal["budget", "max_calls", "max_samples"]


class LimitReached(Exception):
    """The next request would exceed a limit, which the message names; the engine turns it into the run's reason.

    Attributes:
        reason: The kind of limit.
        waits: Whether there is room as soon as other requests are settled, which mostly cost less than they reserve.
        starved: Whether less than half of the budget is really spent.
    """

    def __init__(self, reason: Stop, detail: str = "", *, waits: bool = False, starved: bool = False) -> None:
        super().__init__(detail or reason)
        self.reason: Stop = reason
        self.waits, self.starved = waits, starved


class Reservation(NamedTuple):
    """Money reserved for one request.

    Attributes:
        usd: An upper estimate of the cost in USD.
        scopes: The scopes of the ledger in which it is reserved.
        key: The ledger's key of the reservation.
    """

    usd: float
    scopes: tuple[str, ...] = ()
    key: str = ""


class Ledger(Protocol):
    """Keeps what was spent in scopes that many runs share, such as a policy's day. Every method is atomic."""

    async def reserve(self, limits: Mapping[str, float], usd: float) -> Reservation:
        """Reserves money in several scopes, or in none.

        Args:
            limits: The scopes with their limits in USD.
            usd: The amount to reserve in each.

        Raises:
            LimitReached: The amount would exceed the limit of a scope.
        """
        ...

    async def settle(self, reservation: Reservation, usd: float | None) -> None:
        """Replaces a reservation by the actual cost in USD; None (unknown) counts the reserved amount as spent."""
        ...

    async def spent(self, scope: str) -> float:
        """Returns the USD spent and reserved in a scope."""
        ...


_MOST_SCOPES = 10_000  # that a ledger in memory holds before it forgets past ones


class MemoryLedger:
    """A ledger for one process, safe for threads and event loops."""

    def __init__(self) -> None:
        self._spent: dict[str, float] = {}
        self._reserved: dict[str, float] = {}  # the part of it that is not settled
        self._purge_at = _MOST_SCOPES
        self._lock = threading.Lock()
        restart_after_fork(self)

    def restart(self) -> None:
        """See ``Restartable``. What the parent has in flight stays counted: it is money of the same day."""
        self._lock = threading.Lock()

    async def reserve(self, limits: Mapping[str, float], usd: float) -> Reservation:
        """See Ledger."""
        with self._lock:
            spent = self._spent
            for scope, limit in limits.items():
                amount = spent.get(scope, 0.0)
                if amount + usd > limit or amount >= limit:
                    check_room(scope, amount, usd, limit, self._reserved.get(scope, 0.0))
                if amount >= budget_alarms.FIRST * limit:
                    budget_alarms.check(scope, amount - self._reserved.get(scope, 0.0), limit)
            reserved = self._reserved
            for scope in limits:
                spent[scope] = spent.get(scope, 0.0) + usd
                reserved[scope] = reserved.get(scope, 0.0) + usd
            if len(spent) > self._purge_at:
                self._forget_past_periods()
        return Reservation(usd, tuple(limits))

    def _forget_past_periods(self) -> None:
        """Drops the scopes of earlier days and months: callers choose tags, and each value of one is a scope.

        Those of yesterday stay: a run over midnight is under the budgets of the day on which it began.
        """
        days = (today(), _day(int(time() // 86400) - 1))
        current = tuple(f"{period} " for day in days for period in (day, day[:7]))
        open_scopes = {scope for scope, usd in self._reserved.items() if usd > 1e-12}
        for amounts in (self._spent, self._reserved):
            for scope in [scope for scope in amounts if not scope.startswith(current) and scope not in open_scopes]:
                del amounts[scope]
        self._purge_at = 2 * len(self._spent) + _MOST_SCOPES

    async def settle(self, reservation: Reservation, usd: float | None) -> None:
        """See Ledger."""
        with self._lock:
            for scope in reservation.scopes:
                self._reserved[scope] = self._reserved.get(scope, 0.0) - reservation.usd
                if usd is not None:
                    self._spent[scope] = self._spent.get(scope, 0.0) + usd - reservation.usd

    async def spent(self, scope: str) -> float:
        """See Ledger."""
        with self._lock:
            return self._spent.get(scope, 0.0)


def check_room(scope: str, spent: float, usd: float, limit: float, reserved: float = 0.0) -> None:
    """Checks that a scope has room.

    Args:
        scope: The scope's name.
        spent: What is spent and reserved in it, in USD.
        usd: What is needed.
        limit: The scope's limit.
        reserved: The part of ``spent`` that is reserved by requests in progress.

    Raises:
        LimitReached: The scope has no room.
    """
    if spent + usd > limit or spent >= limit:
        message = f"budget of {scope}: ${spent:.6g} of ${limit:.6g} spent or reserved, ${usd:.6g} more needed"
        settled = spent - reserved
        # Sums of reservations may miss 0 by rounding: nothing waits for that.
        waits = reserved > 1e-12 and settled + usd <= limit and settled < limit
        starved = settled < 0.5 * limit
        if not waits and not starved and scope != THE_RUN:
            budget_alarms.check(scope, settled, limit, refused=True)
        raise LimitReached("budget", message, waits=waits, starved=starved)


def today() -> str:
    """Returns the UTC day (2026-01-31), the period of daily budgets."""
    return _day(int(time() // 86400))


@lru_cache(maxsize=2)
def _day(days: int) -> str:
    return date.fromordinal(date(1970, 1, 1).toordinal() + days).isoformat()


@dataclass(slots=True, kw_only=True)
class RunBudget:
    """What one run may spend, and what it has spent.

    Attributes:
        max_calls: The most answers that the run may request.
        budget_usd: The most that the run may spend in USD; None: no limit.
        max_samples: The most further samples that judges may request; None: no limit.
        limits: The scopes that other runs share, with their limits in USD.
        ledger: Keeps what is spent in those scopes.
        usd: The cost so far; None from the first request on whose cost is unknown: unknown is never 0.
        charged: What counts against ``budget_usd``: an unknown cost counts as the estimate that was reserved for it.
        calls: The answers requested so far.
        samples: The samples requested so far.
        log: Every request in order.
        began: The reading of ``perf_counter`` when the run began, in seconds.
        reserved: The part of ``charged`` that is reserved by requests in progress.
        lengths: The lengths of the policy's answers; None: they are not learned.
        closed: The run has ended: what is still in progress of it may spend nothing.
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
    reserved: float = 0.0
    lengths: OutputLengths | None = None
    closed: bool = False

    @property
    def bounded(self) -> bool:
        """Whether any budget is set."""
        return self.budget_usd is not None or bool(self.limits)

    def check_limits(self, n: int, *, sample: bool = False) -> None:
        """Counts ``n`` answers that are about to be requested.

        Args:
            n: The number of answers.
            sample: Whether they are further samples of an answer.

        Raises:
            LimitReached: They would exceed ``max_calls`` or ``max_samples``, or the run has ended.
        """
        if self.closed:
            raise LimitReached("max_calls", "the run has ended")
        if self.calls + n > self.max_calls:
            raise LimitReached("max_calls", f"{self.calls} of max_calls {self.max_calls} used, {n} more needed")
        if sample:
            if self.max_samples is not None and self.samples + n > self.max_samples:
                message = f"{self.samples} of max_samples {self.max_samples} used, {n} more needed"
                raise LimitReached("max_samples", message)
            self.samples += n
        self.calls += n

    def uncount(self, n: int, *, sample: bool = False) -> None:
        """Takes back what ``check_limits`` counted, where the request was not sent."""
        self.calls -= n
        if sample:
            self.samples -= n

    async def reserve(self, estimate_usd: float | None) -> Reservation:
        """Reserves money for a request.

        Args:
            estimate_usd: An upper estimate of its cost; None is unknown, and reserves nothing.

        Raises:
            LimitReached: The estimate would exceed a budget; or a budget is set, and the cost of a previous request is
                neither known nor estimated, so that the budget cannot be enforced.
        """
        usd = estimate_usd or 0.0
        if self.budget_usd is not None:
            if self.usd is None and not self.charged:
                raise LimitReached("budget", "the budget cannot be enforced: the cost of a request is unknown")
            check_room(THE_RUN, self.charged, usd, self.budget_usd, self.reserved)
        # Before the await, because requests of the same run must not reserve the same money.
        self.charged += usd
        self.reserved += usd
        try:
            if self.ledger is None or not self.limits:
                return Reservation(usd)
            return await self.ledger.reserve(self.limits, usd)
        except BaseException:
            self.charged -= usd
            self.reserved -= usd
            raise

    async def settle(self, reservation: Reservation, usd: float | None) -> None:
        """Replaces a reservation by the request's actual cost; None (unknown) leaves the estimate."""
        self.reserved -= reservation.usd
        if usd is not None:
            self.charged += usd - reservation.usd
        if reservation.scopes and self.ledger is not None:
            await self.ledger.settle(reservation, usd)

    def add_cost(self, usd: float | None) -> None:
        """Adds a request's cost to ``usd`` (None: unknown)."""
        self.usd = plus(self.usd, usd)
