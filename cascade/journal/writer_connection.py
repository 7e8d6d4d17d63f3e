"""The writer's connection: it reconnects after errors, writes row by row if a batch is rejected, and deletes old records."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cascade.errors import JournalError
from cascade.policy.schema import Policy
from cascade.resilience.connection import ConnectionOwner
from judges import Prompt

from .record import PendingRecord, make
from .store import Row, SqlStore, Store, StoredPolicy, to_row

T = TypeVar("T")
S = TypeVar("S", bound=Store)
log = logging.getLogger("cascade.journal")

_PRUNE_EVERY_S = 60.0
_PRUNED_AT_ONCE = 1_000
_POLICIES_KNOWN = 1_000


@dataclass(frozen=True, slots=True)
class Retention:
    """How long records are kept: none older than ``keep_days``, no file larger than ``max_mb``; None: no such bound."""

    keep_days: float | None = None
    max_mb: float | None = None


class Session(ConnectionOwner[S]):
    """Belongs to one thread."""

    def __init__(self, connect: Callable[[], S], retention: Retention) -> None:
        super().__init__(connect, log)
        self._retention = retention
        self._down = False
        self._hashes: dict[int, tuple[Policy, str]] = {}
        self._stored_hashes: set[str] = set()
        self._prune_at = 0.0

    def rows(self, runs: Sequence[PendingRecord]) -> tuple[dict[str, StoredPolicy], list[Row]]:
        """The rows of these runs, and the policies among theirs that were not stored yet, by hash."""
        policies: dict[str, StoredPolicy] = {}
        rows = []
        for run in runs:
            policy = run.compiled.policy
            entry = self._hashes.get(id(policy))
            if entry is None:
                if len(self._hashes) >= _POLICIES_KNOWN:
                    self._hashes.clear()
                entry = self._hashes[id(policy)] = (policy, policy.hash)  # kept, so that its id stays its own
            if entry[1] not in self._stored_hashes:
                policies[entry[1]] = StoredPolicy(json=policy.canonical, name=run.policy, calibration=policy.applied)
            rows.append(_row(run, entry[1]))
        return policies, rows

    def write(self, policies: Mapping[str, StoredPolicy], rows: Sequence[Row]) -> frozenset[str] | None:
        """Commits all; the ids of the rows that the database refused, or None where it cannot be reached just now."""
        try:
            store = self._reach()
            store.write(policies, rows)
        except Exception as error:
            if self._is_down(error):
                return None
            refused = self._one_by_one(policies, rows)
            if refused is None:
                return None
        else:
            refused = frozenset()
        self._stored_hashes.update(policies)
        if self._down:
            self._down = False
            log.warning("the journal can be written again")
        return refused

    def _one_by_one(self, policies: Mapping[str, StoredPolicy], rows: Sequence[Row]) -> frozenset[str] | None:
        refused = set()
        for row in rows:
            try:
                self._reach().write(policies, [row])
            except Exception as error:
                if self._is_down(error):
                    return None
                refused.add(row[0])
                # Its class alone: the driver's words may quote the row.
                log.error("run %s: the database refused its record (%s)", row[0], type(error).__name__)
        return frozenset(refused)

    def run(self, work: Callable[[S], T]) -> T:
        """``work(store)``, once more on a new connection where the old one broke. Raises what it raises, or JournalError."""
        try:
            return work(self._reach())
        except Exception as error:
            if isinstance(error, JournalError) or not self._is_down(error):
                raise
        try:
            return work(self._reach())
        except Exception as error:
            if self._is_down(error):
                raise JournalError(f"the journal cannot be reached ({type(error).__name__})") from None
            raise

    def patience(self) -> float | None:
        """Seconds until old records are to be looked for; None: never."""
        if self._retention == Retention():
            return None
        return max(0.0, self._prune_at - time.monotonic())

    def prune(self) -> None:
        """Deletes one batch of old records, if any are due, so that writing is never held up for long."""
        keep = self._retention
        if keep == Retention() or (time.monotonic() < self._prune_at and keep.max_mb is None):
            return
        try:
            store = self._reach()
            too_large = keep.max_mb is not None and (store.megabytes() or 0.0) > keep.max_mb
            # More than were written since; as long as there are any, the next batch follows at once.
            if too_large and store.prune(None, 2 * _PRUNED_AT_ONCE):
                return
            if keep.keep_days is not None and time.monotonic() >= self._prune_at:
                gone = store.prune(time.time() - keep.keep_days * 86_400, _PRUNED_AT_ONCE)
                if gone == _PRUNED_AT_ONCE:
                    return
        except Exception as error:
            if not self._is_down(error):
                log.error("old records could not be deleted (%s)", type(error).__name__)
        self._prune_at = time.monotonic() + _PRUNE_EVERY_S

    def _is_down(self, error: Exception) -> bool:
        """Whether the database cannot be reached; if so the connection is dropped, and the first time that is logged."""
        if not isinstance(error, JournalError) and not self._is_broken(error):
            return False
        self.close()
        if not self._down:
            self._down = True
            log.warning("the journal cannot be written, records wait (%s)", (str(error).splitlines() or [""])[0][:200])
        return True


class Book:
    """Tables in the journal's database. For one thread; every method raises JournalError where the database is unavailable.

    Args:
        connect: Opens the journal's database.
        clock: Unix seconds.
    """

    def __init__(self, connect: Callable[[], SqlStore], clock: Callable[[], float] = time.time) -> None:
        self._connect, self._clock = connect, clock
        self._parents_sessions: list[Session[SqlStore]] = []
        self._session: Session[SqlStore] = Session(connect, Retention())

    def restart(self) -> None:
        """In a forked child: begins with a connection of its own.

        The parent's may be in the middle of a statement, its locks held for ever here: it is neither used nor closed.
        """
        self._parents_sessions.append(self._session)
        self._session = Session(self._connect, Retention())

    def close(self) -> None:
        """Closes the connection; the next call opens it again."""
        self._session.close()


def _row(run: PendingRecord, policy_hash: str) -> Row:
    try:
        return to_row(make(run, policy_hash))
    except Exception as error:
        # What a judge of the user's put into its verdict may be anything; the run itself is not lost for that.
        log.error("run %s: its record could not be made whole (%s)", run.run_id, type(error).__name__)
        run.attempts, run.prompt = [], Prompt(())
        return to_row(make(run, policy_hash))
