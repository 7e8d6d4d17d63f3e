"""The Journal: where a Cascade's runs are recorded, and where later truths about them are attached."""

import asyncio
from collections.abc import Awaitable, Mapping
from functools import partial
from time import time

from cascade.engine.plan import CompiledPolicy
from cascade.errors import JournalError, RunNotFoundError
from cascade.policy.journal_config import JournalSpec
from cascade.result import Result
from judges import Prompt

from .canaries import CanaryBook
from .drifts import DriftBook
from .ledger import SqlLedger
from .open_store import open_store
from .promises import PromiseBook
from .record import Kind, PendingRecord, Tag, checked_tags
from .shadows import ShadowBook
from .store import SqlStore, Store
from .writer import FULL_WAIT_S, Writer
from .writer_connection import Retention

MAX_NOTE = 2_000


class Journal:
    """An open journal, for any number of event loops and threads. It is opened at once, and created where it does not exist.

    ``spec`` is a JournalSpec, or a URL: batched, and kept for ever. Closing writes what waits. Raises JournalError
    where it cannot be opened.
    """

    def __init__(self, spec: JournalSpec | str) -> None:
        if isinstance(spec, str):
            url, full, retention = spec, False, Retention()
        else:
            url, full = spec.address(), spec.durability == "full"
            retention = Retention(spec.keep_days, spec.max_mb)
        open_store(url, full=full).close()
        self._url = url
        self._writer = Writer(partial(open_store, url, full=full), full=full, retention=retention)
        self.ledger = SqlLedger(partial(open_store, url, full=False))
        """Keeps the budgets that every process with this journal shares."""

    def begin(
        self, kind: Kind, policy: str, compiled: CompiledPolicy, prompt: Prompt, tags: Mapping[str, Tag] | None = None
    ) -> PendingRecord:
        """A run that begins now. Raises TypeError or ValueError for tags that cannot be kept."""
        return PendingRecord(kind, policy, compiled, prompt, checked_tags(tags) if tags else {})

    async def record(self, run: PendingRecord, work: Awaitable[Result]) -> Result:
        """Returns or raises what ``work`` does, and records it. Raises JournalError where it cannot be recorded."""
        try:
            result = await work
        except BaseException as error:
            await self.end(run, error)
            raise
        await self.end(run, result)
        return result

    async def end(self, run: PendingRecord, outcome: Result | BaseException) -> None:
        """Records how a run ended, waiting as durability asks; whatever cancels a run does not wait. Raises JournalError."""
        run.end(outcome)
        if isinstance(outcome, Result | Exception):
            await self._writer.keep(run)
        else:
            self._writer.put(run)

    async def afeedback(self, run_id: str, quality: float, note: str | None = None) -> None:
        """Attaches what later proved true of a run's answer; several are kept, the last one counts.

        ``quality`` is in [0, 1]. Raises ValueError for a wrong one, RunNotFoundError for a run that is not in the journal.
        """
        await asyncio.to_thread(self.feedback, run_id, quality, note)

    def feedback(self, run_id: str, quality: float, note: str | None = None) -> None:
        """``afeedback`` for code that is not async."""
        if not isinstance(quality, int | float) or not 0.0 <= quality <= 1.0:
            raise ValueError(f"quality lies in [0, 1], got {quality!r}")
        if note is not None and (len(note) > MAX_NOTE or "\0" in note or not _encodable(note)):
            raise ValueError(f"note has at most {MAX_NOTE} characters that a database can hold")
        done = self._writer.do(partial(_grade, run_id, float(quality), note, time()))
        try:
            is_known = done.result(FULL_WAIT_S)
        except TimeoutError:
            raise JournalError(f"run {run_id}: the feedback was not stored within {FULL_WAIT_S:g} s") from None
        if not is_known:
            raise RunNotFoundError(run_id, "; give the run_id of a result whose record is not deleted yet")

    def connect(self) -> SqlStore:
        """A connection of its own to the journal's database, whose commits wait for the disk."""
        return open_store(self._url, full=True)

    def shadow_book(self) -> ShadowBook:
        """The books of shadowing in this journal, on a connection of their own, whose commits wait for the disk."""
        return ShadowBook(partial(open_store, self._url, full=True))

    def promise_book(self) -> PromiseBook:
        """The states of promises in this journal, on a connection of their own."""
        return PromiseBook(partial(open_store, self._url, full=True))

    def canary_book(self) -> CanaryBook:
        """The states of canaries in this journal, on a connection of their own."""
        return CanaryBook(partial(open_store, self._url, full=True))

    def drift_book(self) -> DriftBook:
        """How traffic compares with the recording, in this journal, on a connection of its own."""
        return DriftBook(partial(open_store, self._url, full=True))

    @property
    def stalled(self) -> bool:
        """Whether records wait because the database cannot be written just now."""
        return self._writer.stalled

    def is_writable(self, timeout: float = 1.0) -> bool:
        """Whether the journal can be written now, by a small write in its turn: False on a full disk, or out of reach.

        Args:
            timeout: The longest wait in seconds, by which the writer's records must be written, too.
        """
        try:
            self._writer.do(_probe).result(timeout)
        except Exception:  # whatever it is, a record could meet it, too
            return False
        return True

    def flush(self, timeout: float | None = None) -> None:
        """Waits until every run that ended is written. Raises TimeoutError."""
        self._writer.flush(timeout)

    def close(self) -> None:
        """Writes what waits. Raises JournalError where the database does not take it in time."""
        self.ledger.close()
        self._writer.close()


def _probe(store: Store) -> None:
    store.probe()


def _grade(run_id: str, quality: float, note: str | None, at: float, store: Store) -> bool:
    return store.grade(run_id, quality, note, at)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
