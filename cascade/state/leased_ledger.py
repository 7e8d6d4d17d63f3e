"""A Ledger over a store that processes share: requests reserve from blocks of money that this process took in advance."""

import asyncio
import logging
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Generic, TypedDict, TypeVar

from cascade.costs.budget import Reservation
from cascade.errors import StateError
from cascade.resilience.connection import C
from cascade.resilience.store_health import StoreHealth
from cascade.result import new_run_id
from cascade.util.fork_safety import Pause, register
from cascade.util.log_events import Event, LimitedLog

from .budget_blocks import BudgetBlocks, Entry
from .report_loop import report_until
from .session import StateSession

T = TypeVar("T")
log = logging.getLogger("cascade.state")

EXPIRE_S = 900.0
"""Seconds after which a block that is not renewed is free again, since its process must have died."""
SHARE = 1 / 32
"""The part of what is left of a budget that a process takes in advance."""
IDLE_S = 1.0
"""After how many seconds without a request a process returns what it took in advance."""
WAIT_S = 5.0
"""How long a step of the store may take before the store counts as away, in seconds."""
ROUNDING = 1e-12  # USD
_RENEWALS = 3  # in ``EXPIRE_S``, so that two may fail
_REPORT_S, _RETRY_S = 0.05, 1.0  # between reports of what was spent, and after one that failed
_MOST_WAITS = 3  # that a request waits for its turn; on a busy machine many wait although the store answers
_MOST_KNOWN = 10_000  # scopes


class LedgerSettings(TypedDict, total=False):
    """The settings of a LeasedLedger, as each kind of store takes them; see there."""

    expire_s: float
    share: float
    idle_s: float
    wait_s: float
    ping_s: float | None


class LeasedLedger(ABC, Generic[C]):
    """Implements Ledger. A thread takes blocks of money for this process, and reports what its requests cost.

    A block is a lease, which is renewed as long as the process lives. What was spent is in the store at most ``_REPORT_S``
    later; until then the block counts for it. The closer the limit, the smaller the blocks, and idle ones are returned, so
    that almost all of a limit can be used.

    While the store is unavailable, ``reserve`` continues within the blocks. Beyond them ``health.fail`` decides: ``closed``
    raises StateError; with ``open`` this process keeps the limit alone, over what it knows to be spent. ``settle`` never
    waits and does not raise: what was spent is reported once the store is back.

    Args:
        connect: Opens a connection.
        health: The store's state.
        expire_s: See ``EXPIRE_S``.
        share: See ``SHARE``; 0: nothing is taken in advance.
        idle_s: See ``IDLE_S``.
        wait_s: See ``WAIT_S``.
        ping_s: How often the store is used even if nothing asks for it, in seconds; None: it is not.
    """

    def __init__(
        self,
        connect: Callable[[], C],
        health: StoreHealth,
        *,
        expire_s: float = EXPIRE_S,
        share: float = SHARE,
        idle_s: float = IDLE_S,
        wait_s: float = WAIT_S,
        ping_s: float | None = None,
    ) -> None:
        self._connect, self.health = connect, health
        self._expire_s, self._share, self._idle_s, self._wait_s, self._ping_s = expire_s, share, idle_s, wait_s, ping_s
        self._warnings = LimitedLog(log)
        self.restart()
        register(self)

    def restart(self) -> None:
        """See ``ForkAware.restart``."""
        self._pool: ThreadPoolExecutor | None = None
        self._session: StateSession[C] = StateSession(self._connect, self.health)
        # A lease is believed for a little less long than the store holds it.
        self._blocks = BudgetBlocks(0.9 * self._expire_s, self._idle_s)
        self._owner = new_run_id()
        self._grants: dict[tuple[str, ...], Future[bool]] = {}  # in progress, by their scopes
        self._grants_lock = threading.Lock()
        self._known_spent: dict[str, float] = {}
        self._changed = threading.Event()
        self.pause_s = _REPORT_S
        self._reporting: Future[None] | None = None
        self._busy_since: float | None = None  # since when the thread waits for the store
        self._closing: threading.Event | None = None

    def pause(self, pause: Pause) -> None:
        """See ``ForkAware.pause``: closes the connection; it is opened again after the fork."""
        if self._pool is not None:
            self._pool.submit(pause.hold, self._session.close, pause.new_future())

    @abstractmethod
    def _take(self, connection: C, lacking: Mapping[str, float], usd: float, now: float) -> Mapping[str, float]:
        """Takes a block of each scope, in one transaction; the amounts. Raises LimitReached where one has no room.

        Args:
            connection: The store.
            lacking: The scopes with their limits in USD.
            usd: What the request needs in each of them.
            now: The monotonic clock.
        """

    @abstractmethod
    def _enter(self, connection: C, entries: Mapping[str, Entry]) -> None:
        """Enters what was spent and what is held from now on, in one transaction."""

    @abstractmethod
    def _spent_and_held(self, connection: C, scope: str) -> float:
        """What is spent and held in a scope by everybody, in USD."""

    @abstractmethod
    def _token(self, connection: C, key: str, interval_s: float, capacity: float) -> float:
        """See ``take_token``, in one transaction."""

    @abstractmethod
    def _ping(self, connection: C) -> None:
        """Raises an error where the store is unavailable."""

    async def reserve(self, limits: Mapping[str, float], usd: float) -> Reservation:
        """See Ledger. Raises StateError where the store is unavailable and the rule for that is ``closed``."""
        reservation = Reservation(usd, tuple(limits))
        while lacking := self._blocks.take(limits, usd, monotonic()):
            if self.health.away:
                self._reserve_alone(limits, usd)
                break
            granted, first = self._grant(lacking, limits, usd)
            try:
                done = await self._wait(granted)
            except asyncio.CancelledError:
                if first:
                    granted.add_done_callback(partial(self._give_back, reservation))
                raise
            if not done:
                if first:
                    granted.add_done_callback(partial(self._give_back, reservation))
                self._failed("no answer in time")
            elif first:
                try:
                    if granted.result():
                        break
                except StateError:
                    self._reserve_alone(limits, usd)
                    break
        return reservation

    def _reserve_alone(self, limits: Mapping[str, float], usd: float) -> None:
        """Applies the rule for an outage. Raises StateError or LimitReached."""
        if self.health.fail == "closed":
            self.health.refused += 1
            raise StateError(f"{self.health.where}: shared state is unavailable, so the budget cannot be checked")
        self._blocks.take_alone(limits, usd, self._known_spent, monotonic())
        self.health.unshared += 1
        self._start()
        self._changed.set()

    def _failed(self, reason: str) -> None:
        self.health.failed(reason)
        self._changed.set()  # the report thread checks whether the store is back

    def _grant(self, lacking: Mapping[str, float], limits: Mapping[str, float], usd: float) -> tuple["Future[bool]", bool]:
        """A grant in these scopes: the one in progress, or a new one; and whether it is new."""
        scopes = tuple(lacking)
        with self._grants_lock:
            present = self._grants.get(scopes)
            if present is not None and not present.done():
                return present, False
            granted = self._grants[scopes] = self.submit(partial(self._take_blocks, lacking=lacking, limits=limits, usd=usd))
        granted.add_done_callback(partial(self._forget, scopes))
        return granted, True

    def _forget(self, scopes: tuple[str, ...], granted: "Future[bool]") -> None:
        with self._grants_lock:
            if self._grants.get(scopes) is granted:
                del self._grants[scopes]

    def _give_back(self, reservation: Reservation, granted: "Future[bool]") -> None:
        if not granted.cancelled() and granted.exception() is None and granted.result():
            self._blocks.settle(reservation.scopes, reservation.usd, 0.0)

    def _take_blocks(self, connection: C, lacking: Mapping[str, float], limits: Mapping[str, float], usd: float) -> bool:
        """Takes a block of each scope that lacks, and the request's amount from the blocks; whether it was there."""
        now = monotonic()
        return self._blocks.grant(self._take(connection, lacking, usd, now), limits, usd, now)

    def _note_spent(self, scope: str, usd: float) -> None:
        """Remembers what everybody has spent in a scope, for the time in which the store is unavailable."""
        by_scope = self._known_spent
        by_scope.pop(scope, None)
        by_scope[scope] = usd
        if len(by_scope) > _MOST_KNOWN:
            by_scope.pop(next(iter(by_scope)), None)

    async def settle(self, reservation: Reservation, usd: float | None) -> None:
        """See Ledger. It waits for nothing."""
        self._blocks.settle(reservation.scopes, reservation.usd, reservation.usd if usd is None else usd)
        self._start()
        if not self._changed.is_set():
            self._changed.set()

    async def spent(self, scope: str) -> float:
        """See Ledger. What other processes took in advance counts as reserved. Raises StateError without the store."""

        def read(connection: C) -> float:
            total, block = self._spent_and_held(connection, scope), self._blocks.state(scope)
            return max(0.0, total - block.free)

        return await self._answer(read)

    async def take_token(self, key: str, interval_s: float, capacity: float) -> float:
        """Takes a token from a bucket that everybody shares, in one step of the store.

        Args:
            key: The bucket's name.
            interval_s: After how many seconds it gains a token.
            capacity: How many tokens it holds at most.

        Returns:
            0.0, or the seconds until there is a token where there is none.

        Raises:
            StateError: The store is unavailable.
        """
        return await self._answer(lambda connection: self._token(connection, key, interval_s, capacity))

    async def _answer(self, work: Callable[[C], T]) -> T:
        """What the store answers. Raises StateError where it is unavailable, at once where that is known."""
        if self.health.away:
            raise StateError(f"{self.health.where}: shared state is unavailable")
        future = self.submit(work)
        if not await self._wait(future):
            future.cancel()
            self._failed("no answer in time")
            raise StateError(f"{self.health.where}: shared state did not answer within {self._wait_s:g} s")
        return future.result()

    async def _wait(self, work: "Future[T]") -> bool:
        """Waits for work in the ledger's thread, which may fail; returns whether it was done in time."""
        future = asyncio.wrap_future(work)
        future.add_done_callback(lambda done: done.cancelled() or done.exception())  # the caller raises it
        for _ in range(_MOST_WAITS):
            done, _ = await asyncio.wait([future], timeout=self._wait_s)
            if done:
                return True
            since = self._busy_since
            if since is not None and monotonic() - since >= self._wait_s:
                break
        return False

    def close(self) -> None:
        """Reports what was spent, returns what is not needed, and closes the connection."""
        if self._closing is not None:
            self._closing.set()
            self._changed.set()
            self._closing = None
        if self._pool is not None:
            self._pool.submit(self._report, float("inf"))
            self._pool.submit(self._session.close)
            self._pool.shutdown()
            self._pool = None

    def submit(self, work: Callable[[C], T]) -> "Future[T]":
        """Runs ``work`` with the connection, in the ledger's thread; its transactions are its own."""
        return self._start().submit(self._use, work)

    def _use(self, work: Callable[[C], T]) -> T:
        self._busy_since = monotonic()
        try:
            return self._session.run(work)
        except StateError:
            self._changed.set()
            raise
        finally:
            self._busy_since = None

    def _start(self) -> ThreadPoolExecutor:
        """Starts the threads where they are not running."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="cascade ledger")
            self._closing = threading.Event()
            pauses = (self._idle_s, self._expire_s / _RENEWALS, self._ping_s)
            reporting = (weakref.ref(self), self._closing, self._changed, pauses)
            threading.Thread(target=report_until, args=reporting, name="cascade ledger reports", daemon=True).start()
        return self._pool

    def report(self, *, everything: bool = False) -> None:
        """Has the ledger's thread enter what was spent, and return what is idle; ``everything``: renew every block."""
        pool, reporting = self._pool, self._reporting
        if pool is not None and (reporting is None or reporting.done()):
            with suppress(RuntimeError):  # closed meanwhile
                self._reporting = pool.submit(self._report, monotonic(), everything=everything)

    def _report(self, now: float, *, everything: bool = False) -> None:
        entries = self._blocks.begin_report(now, everything=everything or self.health.away)
        if not entries and self._ping_s is None and not self.health.away:
            return
        began = monotonic()
        try:
            self._use(lambda connection: self._enter(connection, entries) if entries else self._ping(connection))
        except Exception as error:
            self._blocks.undo_report(entries)
            self.pause_s = _RETRY_S
            if not isinstance(error, StateError):
                message = "what requests cost is not entered in the ledger yet; it is tried again"
                self._warnings.warning("report", Event(message, error=type(error).__name__))
        else:
            self._blocks.end_report(entries, began)
            self.pause_s = _REPORT_S

    @property
    def waiting(self) -> bool:
        """Whether something is to be reported or returned."""
        return self._blocks.waiting()
