"""A Ledger in the journal's database: budgets that hold over every process that shares it."""

import asyncio
import logging
import threading
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from cascade.costs import budget_alarms
from cascade.costs.budget import Reservation, check_room
from cascade.result import new_run_id

from .fork_safety import Pause, register
from .store import SqlStore
from .writer_connection import Retention, Session

T = TypeVar("T")
log = logging.getLogger("cascade.journal")

EXPIRE_S = 900.0
"""Seconds after which a reservation that is neither settled nor renewed is free again, since its process must have died."""
_RENEWALS = 3  # in that time, so that two may fail


class SqlLedger:
    """Implements Ledger. One transaction each, by a thread and a connection that begin with the first.

    A reservation is a lease, which another thread renews until it is settled, however long its request takes. Leases go by
    the database's own clock (see ``SqlStore.now_sql``), so that none ends early because a wall clock was set.

    Where the database cannot be reached, ``reserve`` raises JournalError: without it no budget could be enforced. ``settle``
    does not raise, since the request was sent; its reservation then stays until it expires.
    """

    def __init__(self, connect: Callable[[], SqlStore], *, expire_s: float = EXPIRE_S) -> None:
        self._connect, self._expire_s = connect, expire_s
        self.restart()
        register(self)

    def restart(self) -> None:
        """See ``ForkAware.restart``."""
        self._pool: ThreadPoolExecutor | None = None
        self._session: Session[SqlStore] = Session(self._connect, Retention())
        self._live: dict[str, tuple[str, ...]] = {}  # the scopes of every reservation that is not settled, by its key
        self._closing: threading.Event | None = None

    def pause(self, pause: Pause) -> None:
        """See ``ForkAware.pause``: closes the connection; it is opened again after the fork."""
        if self._pool is not None:
            self._pool.submit(pause.hold, self._session.close, pause.new_future())

    async def reserve(self, limits: Mapping[str, float], usd: float) -> Reservation:
        """See Ledger. What a cancelled caller reserved is given back."""
        reservation = Reservation(usd, tuple(limits), new_run_id())
        self._live[reservation.key] = reservation.scopes
        held = self.submit(lambda store: _reserve(store, reservation, limits, self._expire_s))
        try:
            await asyncio.wrap_future(held)
        except asyncio.CancelledError:
            # Either it never began, or it ends before this does.
            self._live.pop(reservation.key, None)
            self.submit(lambda store: _settle(store, reservation, 0.0)).add_done_callback(_logged)
            raise
        except BaseException:
            self._live.pop(reservation.key, None)
            raise
        return reservation

    async def settle(self, reservation: Reservation, usd: float | None) -> None:
        """See Ledger. A cancelled caller does not stop it."""
        self._live.pop(reservation.key, None)
        done = self.submit(lambda store: _settle(store, reservation, reservation.usd if usd is None else usd))
        done.add_done_callback(_logged)
        await asyncio.wait([future := asyncio.wrap_future(done)])
        future.exception()  # which is logged already

    async def spent(self, scope: str) -> float:
        """See Ledger."""
        return await asyncio.wrap_future(self.submit(lambda store: sum(_spent(store, scope))))

    def close(self) -> None:
        """Finishes the work in progress and closes the connection."""
        if self._closing is not None:
            self._closing.set()
            self._closing = None
        if self._pool is not None:
            self._pool.submit(self._session.close)
            self._pool.shutdown()
            self._pool = None

    def submit(self, work: Callable[[SqlStore], T]) -> "Future[T]":
        """Runs ``work`` with the connection, in the ledger's thread; its transactions are its own."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="cascade ledger")
            self._closing = threading.Event()
            renewing = (weakref.ref(self), self._closing, self._expire_s / _RENEWALS)
            threading.Thread(target=_renew_until, args=renewing, name="cascade ledger leases", daemon=True).start()
        return self._pool.submit(self._session.run, work)

    def renew(self) -> None:
        """Renews the leases of all reservations that are not settled."""
        pool, live = self._pool, self._live.copy()
        if pool is not None and live:
            with suppress(RuntimeError):  # closed meanwhile
                pool.submit(self._session.run, lambda store: _renew(store, live, self._expire_s)).add_done_callback(
                    _unrenewed
                )


def _renew_until(ledger: "weakref.ref[SqlLedger]", closing: threading.Event, every_s: float) -> None:
    while not closing.wait(every_s):
        one = ledger()
        if one is None:
            return
        one.renew()
        del one


def _renew(store: SqlStore, live: Mapping[str, tuple[str, ...]], expire_s: float) -> None:
    with store.transaction():
        for key, scopes in live.items():
            for scope in scopes:
                store.execute(
                    f"UPDATE cascade_held SET expires = {store.now_sql} + ? WHERE scope = ? AND key = ?",
                    (expire_s, scope, store.lease_prefix + key),
                )


def _reserve(store: SqlStore, reservation: Reservation, limits: Mapping[str, float], expire_s: float) -> None:
    with store.transaction():
        store.lock(limits)
        for scope, limit in limits.items():
            store.execute(
                f"DELETE FROM cascade_held WHERE scope = ? AND (expires < {store.now_sql} OR key NOT LIKE ?)",
                (scope, f"{store.lease_prefix}%"),
            )
            spent, reserved = _spent(store, scope)
            check_room(scope, spent + reserved, reservation.usd, limit, reserved)
            if spent >= budget_alarms.FIRST * limit:
                budget_alarms.check(scope, spent, limit)
        for scope in limits:
            # The same key a second time is the same money: a commit whose answer was lost is tried again.
            store.execute(
                f"INSERT INTO cascade_held (key, scope, usd, expires) VALUES (?, ?, ?, {store.now_sql} + ?) "
                "ON CONFLICT DO NOTHING",
                (store.lease_prefix + reservation.key, scope, reservation.usd, expire_s),
            )


def _settle(store: SqlStore, reservation: Reservation, usd: float) -> None:
    with store.transaction():
        store.lock(reservation.scopes)
        for scope in reservation.scopes:
            store.execute(
                "DELETE FROM cascade_held WHERE scope = ? AND key = ?", (scope, store.lease_prefix + reservation.key)
            )
            if usd:
                store.execute(
                    "INSERT INTO cascade_spent (scope, usd) VALUES (?, ?) "
                    "ON CONFLICT (scope) DO UPDATE SET usd = cascade_spent.usd + excluded.usd",
                    (scope, usd),
                )


def _spent(store: SqlStore, scope: str) -> tuple[float, float]:
    """The amounts spent and reserved in a scope, in USD."""
    ((spent, reserved),) = store.execute(
        "SELECT COALESCE((SELECT usd FROM cascade_spent WHERE scope = ?), 0), COALESCE((SELECT SUM(usd) FROM cascade_held "
        f"WHERE scope = ? AND expires >= {store.now_sql} AND key LIKE ?), 0)",
        (scope, scope, f"{store.lease_prefix}%"),
    )
    return float(spent), float(reserved)


def _unrenewed(done: "Future[Any]") -> None:
    error = None if done.cancelled() else done.exception()
    if error is not None:
        log.warning("the ledger's reservations were not renewed (%s); it is tried again", type(error).__name__)


def _logged(done: "Future[Any]") -> None:
    error = None if done.cancelled() else done.exception()
    if error is not None:
        log.error("what a request cost was not entered in the ledger (%s)", type(error).__name__)
