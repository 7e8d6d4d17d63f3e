"""The state of promises, in the journal's database: any process takes new labels into account, and all see one state."""

import json
from dataclasses import dataclass

from cascade.promise.states import Promise, PromiseState, PromiseTracker

from .anchors import hold_back
from .labels import labels_after
from .record import dumps
from .store import SqlStore
from .writer_connection import Book


@dataclass(frozen=True, slots=True, kw_only=True)
class PromiseUpdate:
    """A promise after new labels were taken into account.

    Attributes:
        before: The state before; None where nothing was stored.
        state: The state now.
        tracker: The tracker, for its figures.
        added: How many labels were new.
        held_back: Why the alarm of a broken promise waits, so that the state is in doubt; None: it does not.
    """

    before: PromiseState | None
    state: PromiseState
    tracker: PromiseTracker
    added: int
    held_back: str | None = None


class PromiseBook(Book):
    """The rows of ``cascade_promises``."""

    def update(self, policy: str, policy_hash: str, promise: Promise, floor: float) -> PromiseUpdate:
        """Takes a policy's new labels into account, each once over all processes, in one transaction.

        Args:
            policy: The policy's name.
            policy_hash: The hash of the policy with which the runs were made: another policy has a state of its own.
            promise: What is promised.
            floor: The smallest sampling probability of any of its runs.
        """
        return self._session.run(lambda store: self._update(store, policy, policy_hash, promise, floor))

    def look(self, policy: str, policy_hash: str, promise: Promise, floor: float) -> PromiseUpdate:
        """``update`` without storing anything: the processes in service report a change when they see it."""
        return self._session.run(lambda store: self._update(store, policy, policy_hash, promise, floor, stores=False))

    def _update(
        self, store: SqlStore, policy: str, policy_hash: str, promise: Promise, floor: float, *, stores: bool = True
    ) -> PromiseUpdate:
        with store.transaction():
            store.lock([f"promise {policy}"])
            rows = store.execute(
                "SELECT number, state, CAST(tracker AS TEXT) FROM cascade_promises WHERE policy = ? AND policy_hash = ?",
                (policy, policy_hash),
            )
            number, before, tracker, stored = 0, None, PromiseTracker(promise), {}
            if rows:
                number, before = rows[0][0], PromiseState(rows[0][1])
                stored = json.loads(rows[0][2])
                tracker = PromiseTracker.from_json(stored)
            labels = labels_after(store, policy, policy_hash, number)
            for label in labels:
                tracker.add(label.loss, min(1.0, floor / label.probability))
            state = tracker.state
            alarm_at = self._alarm_at(state, stored.get("alarm_at"))
            held_back = None
            if state is PromiseState.BROKEN and before is not PromiseState.BROKEN and alarm_at is not None:
                held_back = hold_back(store, alarm_at, self._clock())
                state = PromiseState.BROKEN if held_back is None else PromiseState.IN_DOUBT
            if stores and (labels or not rows or state is not before):
                number = labels[-1].number if labels else number
                state_json = dumps({**tracker.to_json(), "alarm_at": alarm_at})
                store.execute(
                    "INSERT INTO cascade_promises (policy, policy_hash, state, labels, number, at, tracker) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (policy, policy_hash) DO UPDATE SET state = excluded.state, "
                    "labels = excluded.labels, number = excluded.number, at = excluded.at, tracker = excluded.tracker",
                    (policy, policy_hash, state.value, tracker.n, number, self._clock(), state_json),
                )
        return PromiseUpdate(before=before, state=state, tracker=tracker, added=len(labels), held_back=held_back)

    def _alarm_at(self, state: PromiseState, before: float | None) -> float | None:
        """When the promise came into doubt; None where it is not."""
        if state not in (PromiseState.IN_DOUBT, PromiseState.BROKEN):
            return None
        return self._clock() if before is None else before

    def reset(self, policy: str, policy_hash: str, promise: Promise) -> None:
        """Begins again with the labels that come from now on."""

        def work(store: SqlStore) -> None:
            tracker = PromiseTracker(promise)
            with store.transaction():
                store.lock([f"promise {policy}"])
                ((last,),) = store.execute("SELECT COALESCE(MAX(number), 0) FROM cascade_labels")
                store.execute("DELETE FROM cascade_promises WHERE policy = ? AND policy_hash = ?", (policy, policy_hash))
                store.execute(
                    "INSERT INTO cascade_promises (policy, policy_hash, state, labels, number, at, tracker) "
                    "VALUES (?, ?, ?, 0, ?, ?, ?)",
                    (policy, policy_hash, tracker.state.value, last, self._clock(), dumps(tracker.to_json())),
                )

        self._session.run(work)
