"""A Ledger in the journal's database: budgets that hold over every process that shares it."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from time import time
from typing import Any, TypeVar

from cascade.costs.budget import Reservation, check_room
from cascade.result import new_run_id

from .fork_safety import Pause, in_a_child
from .store import SqlStore
from .writer_connection import Retention, Session

T = TypeVar("T")
log = logging.getLogger("cascade.journal")

EXPIRE_S = 900.0
"""Seconds after which money that was held back and never settled is free again, since its process must have died."""


class SqlLedger:
    """Implements Ledger. One transaction each, by a thread and a connection that begin with the first.

    Where the database cannot be reached, ``reserve`` raises JournalError: without it nothing could show that a budget is
    kept. ``settle`` does not raise, since the request was made; what it held back then stays so until it expires.
    """

    def __init__(self, connect: Callable[[], SqlStore], *, expire_s: float = EXPIRE_S) -> None:
        self._connect, self._expire_s = connect, expire_s
        self.begin_anew()
        in_a_child(self)

    def begin_anew(self) -> None:
        """As it was before the first request."""
        self._pool: ThreadPoolExecutor | None = None
        self._session: Session[SqlStore] = Session(self._connect, Retention())

    def pause(self, pause: Pause) -> None:
        """The connection is closed before a fork, and opened again after it."""
        if self._pool is not None:
            self._pool.submit(pause.hold, self._session.close, pause.place())

    async def reserve(self, limits: Mapping[str, float], usd: float) -> Reservation:
        """See Ledger. What a cancelled caller held back is given back."""
        reservation = Reservation(usd, tuple(limits), new_run_id())
        held = self._do(lambda store: _hold(store, reservation, limits, time(), self._expire_s))
        try:
            await asyncio.wrap_future(held)
        except asyncio.CancelledError:
            # Either it never began, or it ends before this does.
            self._do(lambda store: _settle(store, reservation, 0.0)).add_done_callback(_logged)
            raise
        return reservation

    async def settle(self, reservation: Reservation, usd: float | None) -> None:
        """See Ledger. A cancelled caller does not stop it."""
        done = self._do(lambda store: _settle(store, reservation, reservation.usd if usd is None else usd))
        done.add_done_callback(_logged)
        await asyncio.wait([future := asyncio.wrap_future(done)])
        future.exception()  # which is logged already

    async def spent(self, scope: str) -> float:
        """See Ledger."""
        return await asyncio.wrap_future(self._do(lambda store: _spent(store, scope, time())))

    def close(self) -> None:
        """Sees what was begun through and closes the connection."""
        if self._pool is not None:
            self._pool.submit(self._session.close)
            self._pool.shutdown()
            self._pool = None

    def _do(self, work: Callable[[SqlStore], T]) -> "Future[T]":
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="cascade ledger")
        return self._pool.submit(self._session.run, work)


def _hold(store: SqlStore, reservation: Reservation, limits: Mapping[str, float], now: float, expire_s: float) -> None:
    with store.transaction():
        store.lock(limits)
        for scope, limit in limits.items():
            store.execute("DELETE FROM cascade_held WHERE scope = ? AND expires < ?", (scope, now))
            check_room(scope, _spent(store, scope, now), reservation.usd, limit)
        for scope in limits:
            # The same key a second time is the same money: a commit whose answer was lost is tried again.
            store.execute(
                "INSERT INTO cascade_held (key, scope, usd, expires) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (reservation.key, scope, reservation.usd, now + expire_s),
            )


def _settle(store: SqlStore, reservation: Reservation, usd: float) -> None:
    with store.transaction():
        store.lock(reservation.scopes)
        for scope in reservation.scopes:
            store.execute("DELETE FROM cascade_held WHERE scope = ? AND key = ?", (scope, reservation.key))
            if usd:
                store.execute(
                    "INSERT INTO cascade_spent (scope, usd) VALUES (?, ?) "
                    "ON CONFLICT (scope) DO UPDATE SET usd = cascade_spent.usd + excluded.usd",
                    (scope, usd),
                )


def _spent(store: SqlStore, scope: str, now: float) -> float:
    ((usd,),) = store.execute(
        "SELECT COALESCE((SELECT usd FROM cascade_spent WHERE scope = ?), 0) "
        "+ COALESCE((SELECT SUM(usd) FROM cascade_held WHERE scope = ? AND expires >= ?), 0)",
        (scope, scope, now),
    )
    return float(usd)


def _logged(done: "Future[Any]") -> None:
    error = None if done.cancelled() else done.exception()
    if error is not None:
        log.error("what a request cost was not entered in the ledger (%s)", type(error).__name__)
