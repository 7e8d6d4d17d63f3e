"""A Ledger in the journal's database: budgets that hold over every process that shares it."""

import asyncio
import logging
import threading
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import TypeVar

from cascade.costs import budget_alarms
from cascade.costs.budget import Reservation, check_room
from cascade.result import new_run_id
from cascade.util.log_events import Event, LimitedLog

from .budget_blocks import BudgetBlocks, Entry
from .fork_safety import Pause, register
from .store import SqlStore
from .writer_connection import Retention, Session

T = TypeVar("T")
log = logging.getLogger("cascade.journal")

EXPIRE_S = 900.0
"""Seconds after which a block that is not renewed is free again, since its process must have died."""
SHARE = 1 / 32
"""The part of what is left of a budget that a process takes in advance."""
IDLE_S = 1.0
"""After how many seconds without a request a process returns what it took in advance."""
_RENEWALS = 3  # in ``EXPIRE_S``, so that two may fail
_REPORT_S, _RETRY_S = 0.05, 1.0  # between reports of what was spent, and after one that failed


class SqlLedger:
    """Implements Ledger. Requests reserve from blocks that this process took in advance; a thread reports what they cost.

    A block is a lease, which is renewed as long as the process lives. Leases go by the database's own clock (see
    ``SqlStore.now_sql``), so that none ends early because a wall clock was set. What was spent is in the database at most
    ``_REPORT_S`` later; until then the block counts for it.

    Where the database cannot be reached, ``reserve`` goes on within the blocks, and then raises JournalError: without the
    database no budget could be enforced. ``settle`` never waits and does not raise: what was spent is reported later.

    Args:
        connect: Opens a connection.
        expire_s: See ``EXPIRE_S``.
        share: See ``SHARE``; 0: nothing is taken in advance.
        idle_s: See ``IDLE_S``.
    """

    def __init__(
        self, connect: Callable[[], SqlStore], *, expire_s: float = EXPIRE_S, share: float = SHARE, idle_s: float = IDLE_S
    ) -> None:
        self._connect, self._expire_s, self._share, self._idle_s = connect, expire_s, share, idle_s
        self._warnings = LimitedLog(log)
        self.restart()
        register(self)

    def restart(self) -> None:
        """See ``ForkAware.restart``."""
        self._pool: ThreadPoolExecutor | None = None
        self._session: Session[SqlStore] = Session(self._connect, Retention())
        # A lease is believed for a little less long than the database holds it.
        self._blocks = BudgetBlocks(0.9 * self._expire_s, self._idle_s)
        self._owner = new_run_id()
        self._grants: dict[tuple[str, ...], Future[bool]] = {}  # in progress, by their scopes
        self._grants_lock = threading.Lock()
        self._changed = threading.Event()
        self._pause_s = _REPORT_S
        self._closing: threading.Event | None = None

    def pause(self, pause: Pause) -> None:
        """See ``ForkAware.pause``: closes the connection; it is opened again after the fork."""
        if self._pool is not None:
            self._pool.submit(pause.hold, self._session.close, pause.new_future())

    async def reserve(self, limits: Mapping[str, float], usd: float) -> Reservation:
        """See Ledger."""
        reservation = Reservation(usd, tuple(limits))
        while lacking := self._blocks.take(limits, usd, monotonic()):
            granted, first = self._grant(lacking, limits, usd)
            if not first:
                await _end(granted)
                continue
            try:
                if await asyncio.wrap_future(granted):
                    break
            except asyncio.CancelledError:
                granted.add_done_callback(partial(self._give_back, reservation))
                raise
        return reservation

    def _grant(self, lacking: Mapping[str, float], limits: Mapping[str, float], usd: float) -> tuple["Future[bool]", bool]:
        """A grant in these scopes: the one in progress, or a new one; and whether it is new."""
        scopes = tuple(lacking)
        with self._grants_lock:
            present = self._grants.get(scopes)
            if present is not None and not present.done():
                return present, False
            granted = self._grants[scopes] = self.submit(lambda store: self._take_block(store, lacking, limits, usd))
        granted.add_done_callback(partial(self._forget, scopes))
        return granted, True

    def _forget(self, scopes: tuple[str, ...], granted: "Future[bool]") -> None:
        with self._grants_lock:
            if self._grants.get(scopes) is granted:
                del self._grants[scopes]

    def _give_back(self, reservation: Reservation, granted: "Future[bool]") -> None:
        if not granted.cancelled() and granted.exception() is None and granted.result():
            self._blocks.settle(reservation.scopes, reservation.usd, 0.0)

    def _take_block(self, store: SqlStore, lacking: Mapping[str, float], limits: Mapping[str, float], usd: float) -> bool:
        """Takes a block of each scope that lacks, and the request's amount from the blocks; whether it was there."""
        now = monotonic()
        granted = {}
        with store.transaction():
            store.lock(lacking)
            for scope, limit in lacking.items():
                store.execute(
                    f"DELETE FROM cascade_held WHERE scope = ? AND (expires < {store.now_sql} OR key NOT LIKE ?)",
                    (scope, f"{store.lease_prefix}%"),
                )
                spent, held = _spent(store, scope)
                mine, block = self._blocks.held(scope, now), self._blocks.state(scope)
                spent += block.unreported
                reserved = max(0.0, held - mine) + block.reserved
                check_room(scope, spent + reserved, max(0.0, usd - _ROUNDING), limit, reserved)
                if spent >= budget_alarms.FIRST * limit:
                    budget_alarms.check(scope, spent, limit)
                needed = max(0.0, usd - (mine - block.reserved - block.unreported))
                granted[scope] = needed + self._share * max(0.0, limit - spent - reserved - usd)
            for scope, amount in granted.items():
                # Stated as a sum: a commit whose answer was lost is tried again.
                _hold(store, self._owner, scope, self._blocks.held(scope, now) + amount, self._expire_s)
        return self._blocks.grant(granted, limits, usd, now)

    async def settle(self, reservation: Reservation, usd: float | None) -> None:
        """See Ledger. It waits for nothing."""
        self._blocks.settle(reservation.scopes, reservation.usd, reservation.usd if usd is None else usd)
        self._start()
        if not self._changed.is_set():
            self._changed.set()

    async def spent(self, scope: str) -> float:
        """See Ledger. What other processes took in advance counts as reserved."""

        def read(store: SqlStore) -> float:
            total, block = sum(_spent(store, scope)), self._blocks.state(scope)
            return max(0.0, total - block.free)

        return await asyncio.wrap_future(self.submit(read))

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

    def submit(self, work: Callable[[SqlStore], T]) -> "Future[T]":
        """Runs ``work`` with the connection, in the ledger's thread; its transactions are its own."""
        return self._start().submit(self._session.run, work)

    def _start(self) -> ThreadPoolExecutor:
        """Starts the threads where they are not running."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="cascade ledger")
            self._closing = threading.Event()
            reporting = (weakref.ref(self), self._closing, self._changed, self._idle_s, self._expire_s / _RENEWALS)
            threading.Thread(target=_report_until, args=reporting, name="cascade ledger reports", daemon=True).start()
        return self._pool

    def report(self, *, everything: bool = False) -> None:
        """Has the ledger's thread enter what was spent, and return what is idle; ``everything``: renew every block."""
        if (pool := self._pool) is not None:
            with suppress(RuntimeError):  # closed meanwhile
                pool.submit(self._report, monotonic(), everything=everything)

    def _report(self, now: float, *, everything: bool = False) -> None:
        entries = self._blocks.begin_report(now, everything=everything)
        if not entries:
            return
        began = monotonic()
        try:
            self._session.run(lambda store: _enter(store, self._owner, entries, self._expire_s))
        except Exception as error:
            self._blocks.undo_report(entries)
            self._pause_s = _RETRY_S
            event = Event(
                "what requests cost is not entered in the ledger yet; it is tried again", error=type(error).__name__
            )
            self._warnings.warning("report", event)
        else:
            self._blocks.end_report(entries, began)
            self._pause_s = _REPORT_S

    @property
    def waiting(self) -> bool:
        """Whether something is to be reported or returned."""
        return self._blocks.waiting()


_ROUNDING = 1e-12  # USD


async def _end(granted: "Future[bool]") -> None:
    """Waits for another request's grant, whatever comes of it."""
    future = asyncio.wrap_future(granted)
    future.add_done_callback(lambda done: done.cancelled() or done.exception())  # it is the other request's to raise
    await asyncio.wait([future])


def _report_until(
    ledger: "weakref.ref[SqlLedger]", closing: threading.Event, changed: threading.Event, idle_s: float, renew_s: float
) -> None:
    """Has the ledger report soon after a change, return what is idle, and renew its blocks in time."""
    renew_at, waiting, pause_s = monotonic() + renew_s, False, _REPORT_S
    while not closing.is_set():
        wait_s = renew_at - monotonic()
        changed.wait(max(0.0, min(wait_s, idle_s) if waiting else wait_s))
        changed.clear()
        if closing.wait(min(pause_s, renew_s)) or (one := ledger()) is None:
            return
        pause_s = one._pause_s
        renewing = monotonic() >= renew_at
        if renewing:
            renew_at = monotonic() + renew_s
        one.report(everything=renewing)
        waiting = one.waiting
        del one


def _enter(store: SqlStore, owner: str, entries: Mapping[str, Entry], expire_s: float) -> None:
    with store.transaction():
        store.lock(entries)
        for scope, entry in entries.items():
            if entry.spent:
                store.execute(
                    "INSERT INTO cascade_spent (scope, usd) VALUES (?, ?) "
                    "ON CONFLICT (scope) DO UPDATE SET usd = cascade_spent.usd + excluded.usd",
                    (scope, entry.spent),
                )
            _hold(store, owner, scope, entry.held, expire_s)
        for scope, entry in entries.items():
            if entry.spent and entry.limit:
                ((spent,),) = store.execute("SELECT usd FROM cascade_spent WHERE scope = ?", (scope,))
                budget_alarms.check(scope, float(spent), entry.limit)


def _hold(store: SqlStore, owner: str, scope: str, usd: float, expire_s: float) -> None:
    """States what a process holds of a scope."""
    key = store.lease_prefix + owner
    if usd <= 0.0:
        store.execute("DELETE FROM cascade_held WHERE scope = ? AND key = ?", (scope, key))
        return
    store.execute(
        f"INSERT INTO cascade_held (key, scope, usd, expires) VALUES (?, ?, ?, {store.now_sql} + ?) "
        "ON CONFLICT (scope, key) DO UPDATE SET usd = excluded.usd, expires = excluded.expires",
        (key, scope, usd, expire_s),
    )


def _spent(store: SqlStore, scope: str) -> tuple[float, float]:
    """The amounts spent and held in a scope, in USD."""
    ((spent, held),) = store.execute(
        "SELECT COALESCE((SELECT usd FROM cascade_spent WHERE scope = ?), 0), COALESCE((SELECT SUM(usd) FROM cascade_held "
        f"WHERE scope = ? AND expires >= {store.now_sql} AND key LIKE ?), 0)",
        (scope, scope, f"{store.lease_prefix}%"),
    )
    return float(spent), float(held)
