"""The writer: one thread that stores the records of runs, as durably as configured.

The event loop only appends to a queue; this thread computes records, serialises them and writes to the database. Runs that
end while it writes are committed together. Where the database cannot be reached the records wait, and when the queue is full
the runs wait too: nothing is dropped.
"""

import asyncio
import atexit
import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from cascade.errors import JournalError
from cascade.result import Result
from cascade.util.fork_safety import Pause, register
from cascade.util.messages import counted

from .record import PendingRecord
from .store import Store
from .writer_connection import Retention, Session

T = TypeVar("T")
log = logging.getLogger("cascade.journal")

CAPACITY = 10_000  # records that wait before runs do
LAG_S = 0.1  # how long `batched` collects; with the writing it stays below 250 ms
BATCH = 2_000  # records in one transaction
FULL_WAIT_S = 10.0  # how long a run with `full` waits for its commit
CLOSE_S = 10.0  # how long closing waits for what is not written yet
_RETRY_S, _RETRY_MAX_S = 0.1, 5.0


@dataclass(frozen=True, slots=True)
class _Waiter:
    """A run that waits for its commit, in its own event loop."""

    run_id: str
    loop: asyncio.AbstractEventLoop
    done: "asyncio.Future[None]"


@dataclass(frozen=True, slots=True)
class _CloseForFork:
    """The connection is to be closed until the fork is over."""

    pause: Pause
    closed: "Future[None]"


@dataclass(frozen=True, slots=True)
class _Task:
    """Work on the writer's connection, after everything that was queued before it."""

    work: Callable[[Store], Any]
    done: "Future[Any]"


class Writer:
    """Keeps ended runs. Its thread and connection begin with the first; a forked child starts its own."""

    def __init__(self, connect: Callable[[], Store], *, full: bool, retention: Retention) -> None:
        self._connect, self._full, self._retention = connect, full, retention
        self._closed = self._abandoned = False
        self.restart()
        _open.add(self)
        register(self)

    def restart(self) -> None:
        """See ``ForkAware.restart``."""
        self._queue: deque[PendingRecord | tuple[PendingRecord, _Waiter] | _Task | _CloseForFork] = deque()
        self._writing = 0  # records taken from the queue and not committed yet
        self.stalled = False
        """Whether records wait because the database cannot be written: it cannot be reached, or its disk is full."""
        self._awake, self._hurry = threading.Event(), threading.Event()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def pause(self, pause: Pause) -> None:
        """See ``ForkAware.pause``: writes what is queued and closes the connection; it is opened again after the fork."""
        if self._thread is not None and not self._closed:
            self._append(_CloseForFork(pause, pause.new_future()))
            self._hurry.set()

    def put(self, run: PendingRecord) -> None:
        """Queues a run without waiting, even where the queue is full."""
        self._append(run)

    async def keep(self, run: PendingRecord) -> None:
        """Queues a run and waits as the durability says: for its commit, or only where the queue is full.

        Raises JournalError where the commit failed or took longer than FULL_WAIT_S; the record may still be stored later.
        """
        if not self._full:
            while len(self._queue) >= CAPACITY:
                self._hurry.set()
                await asyncio.sleep(0.005)
            self._append(run)
            return
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._append((run, _Waiter(run.run_id, loop, done)))
        failed = f"run {run.run_id}: its record was not committed within {FULL_WAIT_S:g} s"
        try:
            async with asyncio.timeout(FULL_WAIT_S):
                await done
                return
        except TimeoutError:
            pass
        except JournalError as error:
            failed = f"run {run.run_id}: {error}"
        raise JournalError(failed, run.outcome if isinstance(run.outcome, Result) else None)

    def do(self, work: Callable[[Store], T]) -> "Future[T]":
        """Runs ``work(store)`` in the writer's thread, after every run that was queued before."""
        task = _Task(work, Future())
        self._append(task)
        self._hurry.set()
        return task.done

    def flush(self, timeout: float | None = None) -> None:
        """Waits until every queued run is committed. Raises TimeoutError."""
        if self._thread is not None:
            self.do(lambda _: None).result(timeout)

    def close(self, timeout: float = CLOSE_S) -> None:
        """Writes what is queued and ends the thread. Raises JournalError where that takes more than ``timeout`` seconds."""
        self._closed = True
        _open.discard(self)
        thread = self._thread
        if thread is None:
            return
        self._awake.set()
        self._hurry.set()
        thread.join(timeout)
        if thread.is_alive():
            self._stop.set()
            waiting = counted(len(self._queue) + self._writing, "record")
            raise JournalError(f"{waiting} could not be written within {timeout:g} s")

    def _append(self, item: PendingRecord | tuple[PendingRecord, _Waiter] | _Task | _CloseForFork) -> None:
        if self._closed:
            raise JournalError("the journal is closed")
        self._queue.append(item)
        if not self._awake.is_set():
            if self._thread is None:
                self._start()
            self._awake.set()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="cascade journal", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        session = Session(self._connect, self._retention)
        while not self._stop.is_set() and not (self._closed and not self._queue):
            if self._awake.wait(session.patience()) and not self._full and not self._closed:
                self._hurry.wait(LAG_S)
            # Cleared before the queue is emptied: whatever comes after this wakes the thread again.
            self._awake.clear()
            self._hurry.clear()
            while self._queue and not self._stop.is_set():
                try:
                    self._step(session)
                except Exception as error:  # without this thread every run would wait in the end
                    log.error("the journal lost up to %d records (%s)", self._writing, type(error).__name__)
                session.prune()
            session.prune()
        session.close()

    def _step(self, session: Session[Store]) -> None:
        """Writes one batch, or runs one task."""
        queue = self._queue
        if isinstance(first := queue[0], _CloseForFork):
            queue.popleft()
            first.pause.hold(session.close, first.closed)
            return
        if isinstance(first, _Task):
            queue.popleft()
            self._run(session, first)
            return
        runs: list[PendingRecord] = []
        waiters: list[_Waiter] = []
        while queue and len(runs) < BATCH and not isinstance(queue[0], _Task | _CloseForFork):
            item = queue.popleft()
            if isinstance(item, tuple):
                waiters.append(item[1])
                item = item[0]
            assert isinstance(item, PendingRecord)
            runs.append(item)
        self._writing = len(runs)
        policies, rows = session.rows(runs)
        pause = _RETRY_S
        while (refused := session.write(policies, rows)) is None:
            self.stalled = True
            if self._stop.wait(pause):
                return
            pause = min(2 * pause, _RETRY_MAX_S)
        self._writing, self.stalled = 0, False
        _notify(waiters, refused)

    def _run(self, session: Session[Store], task: _Task) -> None:
        try:
            done = session.run(task.work)
        except Exception as error:
            task.done.set_exception(error)
        else:
            task.done.set_result(done)


def _notify(waiters: Iterable[_Waiter], refused: frozenset[str]) -> None:
    """Resumes the waiting runs, with one call for each event loop."""
    loops: dict[asyncio.AbstractEventLoop, list[_Waiter]] = {}
    for waiter in waiters:
        loops.setdefault(waiter.loop, []).append(waiter)
    for loop, waiting in loops.items():
        with suppress(RuntimeError):  # the loop was closed: no one waits any more
            loop.call_soon_threadsafe(_release, waiting, refused)


def _release(waiting: list[_Waiter], refused: frozenset[str]) -> None:
    for waiter in waiting:
        if waiter.done.done():
            continue
        if waiter.run_id in refused:
            waiter.done.set_exception(JournalError("the database refused its record"))
        else:
            waiter.done.set_result(None)


# Closed at exit.
_open: "weakref.WeakSet[Writer]" = weakref.WeakSet()


def _close_all() -> None:
    for writer in list(_open):
        try:
            writer.close()
        except JournalError as error:
            log.error("%s", error)


atexit.register(_close_all)
