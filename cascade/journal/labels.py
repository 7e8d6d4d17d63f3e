"""The labels of sampled runs, in the journal's database: by how much premium's answer was better.

A row is entered as ``asked`` before a grader that may cost money is called. So a process that is killed pays for no label
twice: rows that it left ``asked`` are not graded again unless the caller says so.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from cascade.result import new_run_id

from .store import SqlStore
from .writer_connection import Retention, Session


class Label(NamedTuple):
    """A label of a sampled run.

    Attributes:
        number: Labels count up.
        run_id: The run.
        loss: Premium's quality less that of the answer returned, in [-1, 1].
        policy_hash: The policy with which the run was made.
        probability: That with which the run was sampled.
    """

    number: int
    run_id: str
    loss: float
    policy_hash: str
    probability: float


class LabelBook:
    """The rows of ``cascade_labels``. For one thread; every method raises JournalError where the database is unavailable.

    Args:
        connect: Opens the journal's database.
        clock: Unix seconds.
    """

    def __init__(self, connect: Callable[[], SqlStore], clock: Callable[[], float] = time.time) -> None:
        self._session: Session[SqlStore] = Session(connect, Retention())
        self._clock, self._owner = clock, new_run_id()

    def claim(self, run_id: str, policy: str, policy_hash: str, probability: float) -> bool:
        """Enters a row as ``asked``; False where the run already has a row, from this process or another."""

        def work(store: SqlStore) -> bool:
            with store.transaction():
                store.execute(
                    "INSERT INTO cascade_labels (run_id, policy, policy_hash, probability, state, owner, at) "
                    "VALUES (?, ?, ?, ?, 'asked', ?, ?) ON CONFLICT DO NOTHING",
                    (run_id, policy, policy_hash, probability, self._owner, self._clock()),
                )
                rows = store.execute("SELECT owner, state FROM cascade_labels WHERE run_id = ?", (run_id,))
            return rows == [(self._owner, "asked")]

        return self._session.run(work)

    def finish(self, run_id: str, loss: float | None, grader: str) -> None:
        """Enters a label as ``done``, or as ``undecided`` where the loss is None."""

        def work(store: SqlStore) -> None:
            with store.transaction():
                # A number of its own at the end: readers ask for the labels after the last one that they read.
                store.lock(["labels"])
                ((last,),) = store.execute("SELECT COALESCE(MAX(number), 0) FROM cascade_labels")
                store.execute(
                    "UPDATE cascade_labels SET state = ?, loss = ?, grader = ?, number = ?, at = ? "
                    "WHERE run_id = ? AND state = 'asked'",
                    ("undecided" if loss is None else "done", loss, grader, last + 1, self._clock(), run_id),
                )

        self._session.run(work)

    def release(self, run_id: str) -> None:
        """Takes a claim back where nothing was sent, so that another attempt may follow."""
        self._session.run(
            lambda store: store.execute("DELETE FROM cascade_labels WHERE run_id = ? AND state = 'asked'", (run_id,))
        )

    def release_interrupted(self, before: float) -> int:
        """Takes back what was ``asked`` before a time and has no answer: it will be paid for again. How many there were."""

        def work(store: SqlStore) -> int:
            with store.transaction():
                rows = store.execute("SELECT run_id FROM cascade_labels WHERE state = 'asked' AND at < ?", (before,))
                store.execute("DELETE FROM cascade_labels WHERE state = 'asked' AND at < ?", (before,))
            return len(rows)

        return self._session.run(work)

    def states(self) -> dict[str, str]:
        """The state of every label by run id."""
        return dict(self._session.run(lambda store: store.execute("SELECT run_id, state FROM cascade_labels")))

    def close(self) -> None:
        """Closes the connection; the next call opens it again."""
        self._session.close()


def labels_after(store: SqlStore, policy: str, policy_hash: str, number: int) -> list[Label]:
    """The finished labels of a policy with a number above ``number``, in their order."""
    rows = store.execute(
        "SELECT number, run_id, loss, policy_hash, probability FROM cascade_labels "
        "WHERE policy = ? AND policy_hash = ? AND state = 'done' AND number > ? ORDER BY number",
        (policy, policy_hash, number),
    )
    return [Label(*row) for row in rows]
