"""The state of canaries, in the journal's database: one comparison and one decision for all processes.

A canary is ``running`` until somebody promotes it (all runs have the candidate), or it is aborted (none has it): by
somebody, or by the comparison where the candidate proves worse. Only runs that were assigned at random count, and only those
that began after the canary did.
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from cascade.policy.schema import Policy
from cascade.promise.canary import CanaryComparison, CanaryVerdict

from .record import dumps
from .store import SqlStore
from .writer_connection import Book


class CanaryState(StrEnum):
    """The state of a candidate."""

    RUNNING = "running"
    PROMOTED = "promoted"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """A candidate calibration of a policy.

    Attributes:
        policy: The policy's name.
        present_hash: The hash of the policy with the present calibration.
        candidate_hash: The hash of the policy with the candidate.
        share: The share of the runs that have the candidate.
        max_worse: See ``CanarySpec``.
        alpha: See ``CanarySpec``.
        floor: The smallest sampling probability of its runs.
    """

    policy: str
    present_hash: str
    candidate_hash: str
    share: float
    max_worse: float
    alpha: float
    floor: float

    @classmethod
    def of(cls, name: str, policy: Policy) -> "Canary | None":
        """The canary of a policy; None where it has none."""
        spec, candidate, shadow = policy.canary, policy.candidate, policy.shadow
        if spec is None or candidate is None or shadow is None:
            return None
        return cls(
            policy=name,
            present_hash=policy.hash,
            candidate_hash=candidate.hash,
            share=spec.share,
            max_worse=spec.max_worse,
            alpha=spec.alpha,
            floor=shadow.least_share,
        )

    def new_comparison(self) -> CanaryComparison:
        """A comparison without labels."""
        return CanaryComparison(share=self.share, max_worse=self.max_worse, alpha=self.alpha)

    def fits(self, present_hash: str, comparison: CanaryComparison) -> bool:
        """Whether a stored comparison is of the same two calibrations, with the same settings."""
        settings = (comparison.share, comparison.max_worse, comparison.alpha)
        return present_hash == self.present_hash and settings == (self.share, self.max_worse, self.alpha)


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryUpdate:
    """A canary after new labels were taken into account.

    Attributes:
        before: Its state before; None where nothing was stored.
        state: Its state now.
        reason: Why: "worse", or "command".
        began: When it began, in Unix seconds.
        comparison: The comparison, for its figures.
        added: How many labels were new.
    """

    before: CanaryState | None
    state: CanaryState
    reason: str
    began: float
    comparison: CanaryComparison
    added: int


class ArmTotals(NamedTuple):
    """The runs of one calibration since a canary began.

    Attributes:
        runs: How many.
        accepted: How many returned an accepted answer.
        unanswered: How many returned none.
        cost_usd: The mean cost of those whose cost is known; None where there is none.
        latency_s: Their mean latency.
    """

    runs: int
    accepted: int
    unanswered: int
    cost_usd: float | None
    latency_s: float | None


class StoredCalibration(NamedTuple):
    """A calibration that runs had.

    Attributes:
        policy: The policy's name.
        name: The file's name at the time.
        hash: The SHA-256 of the file.
        policy_hash: The hash of the policy with it.
        at: When it was first used, in Unix seconds.
    """

    policy: str
    name: str
    hash: str
    policy_hash: str
    at: float


class CanaryBook(Book):
    """The rows of ``cascade_canaries``, and those of ``cascade_calibrations``."""

    def update(self, canary: Canary) -> CanaryUpdate:
        """Takes new labels into account, each once over all processes, and aborts a candidate that proves worse."""
        return self._session.run(lambda store: self._update(store, canary))

    def look(self, canary: Canary) -> CanaryUpdate:
        """``update`` without storing anything."""
        return self._session.run(lambda store: self._update(store, canary, stores=False))

    def decide(self, canary: Canary, state: CanaryState) -> CanaryUpdate:
        """Sets the state of a canary by command. RUNNING begins it anew, with the labels that come from now on."""

        def work(store: SqlStore) -> CanaryUpdate:
            with store.transaction():
                store.lock([f"canary {canary.policy}"])
                number, update = self._read(store, canary)
                if state is CanaryState.RUNNING:
                    number, update = _last_number(store), self._new(canary)
                changed = _replaced(update, state, "command")
                self._store(store, canary, changed, number)
            return changed

        return self._session.run(work)

    def totals(self, canary: Canary, since: float) -> tuple[ArmTotals, ArmTotals]:
        """The runs of the candidate and of the present calibration since a time."""

        def work(store: SqlStore) -> tuple[ArmTotals, ArmTotals]:
            candidate = _totals(store, canary.policy, canary.candidate_hash, since)
            return candidate, _totals(store, canary.policy, canary.present_hash, since)

        return self._session.run(work)

    def calibrations(self) -> list[StoredCalibration]:
        """Every calibration that runs had, in the order of its first use."""
        query = "SELECT policy, name, hash, policy_hash, at FROM cascade_calibrations ORDER BY at"
        return [StoredCalibration(*row) for row in self._session.run(lambda store: store.execute(query))]

    def calibration(self, hash: str) -> list[str]:
        """The contents of the calibrations whose SHA-256 begins so, without repetition."""
        query = "SELECT DISTINCT calibration FROM cascade_calibrations WHERE substr(hash, 1, ?) = ?"
        return [text for (text,) in self._session.run(lambda store: store.execute(query, (len(hash), hash)))]

    def _new(self, canary: Canary) -> CanaryUpdate:
        return CanaryUpdate(
            before=None,
            state=CanaryState.RUNNING,
            reason="",
            began=self._clock(),
            comparison=canary.new_comparison(),
            added=0,
        )

    def _read(self, store: SqlStore, canary: Canary) -> tuple[int, CanaryUpdate]:
        """What is stored of a canary: the number of the last label, and the rest; a new one where nothing is."""
        rows = store.execute(
            "SELECT number, state, reason, began, present_hash, CAST(tracker AS TEXT) FROM cascade_canaries "
            "WHERE policy = ? AND candidate_hash = ?",
            (canary.policy, canary.candidate_hash),
        )
        if not rows:
            return _last_number(store), self._new(canary)
        number, state, reason, began, present_hash, tracker = rows[0]
        comparison = CanaryComparison.from_json(json.loads(tracker))
        if not canary.fits(present_hash, comparison):
            # Compared with another calibration, or at another share, it begins anew; a decision stays.
            number, began, comparison = _last_number(store), self._clock(), canary.new_comparison()
        current = CanaryState(state)
        return number, CanaryUpdate(
            before=current, state=current, reason=reason, began=began, comparison=comparison, added=0
        )

    def _update(self, store: SqlStore, canary: Canary, *, stores: bool = True) -> CanaryUpdate:
        with store.transaction():
            store.lock([f"canary {canary.policy}"])
            number, update = self._read(store, canary)
            comparison, added = update.comparison, 0
            for label in _labels(store, canary, number, update.began):
                number, added = label.number, added + 1
                comparison.add(label.loss, min(1.0, canary.floor / label.probability), candidate=label.candidate)
            state, reason = update.state, update.reason
            if state is CanaryState.RUNNING and comparison.verdict is CanaryVerdict.WORSE:
                state, reason = CanaryState.ABORTED, "worse"
            changed = CanaryUpdate(
                before=update.before,
                state=state,
                reason=reason,
                began=update.began,
                comparison=comparison,
                added=added,
            )
            if stores and (added or update.before is None):
                self._store(store, canary, changed, number)
        return changed

    def _store(self, store: SqlStore, canary: Canary, update: CanaryUpdate, number: int) -> None:
        names = "present_hash, share, state, reason, labels, number, began, at, tracker"
        changes = ", ".join(f"{name} = excluded.{name}" for name in names.split(", "))
        store.execute(
            f"INSERT INTO cascade_canaries (policy, candidate_hash, {names}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
            f"ON CONFLICT (policy, candidate_hash) DO UPDATE SET {changes}",
            (
                canary.policy,
                canary.candidate_hash,
                canary.present_hash,
                canary.share,
                update.state.value,
                update.reason,
                update.comparison.n,
                number,
                update.began,
                self._clock(),
                dumps(update.comparison.to_json()),
            ),
        )


class _Label(NamedTuple):
    number: int
    loss: float
    probability: float
    candidate: bool


def _labels(store: SqlStore, canary: Canary, number: int, began: float) -> list[_Label]:
    """The labels after a number of runs that the canary assigned since it began."""
    rows = store.execute(
        "SELECT l.number, l.loss, l.probability, l.policy_hash, CAST(r.body AS TEXT) FROM cascade_labels l "
        "JOIN cascade_runs r ON r.run_id = l.run_id "
        "WHERE l.policy = ? AND l.policy_hash IN (?, ?) AND l.state = 'done' AND l.number > ? AND r.started >= ? "
        "ORDER BY l.number",
        (canary.policy, canary.present_hash, canary.candidate_hash, number, began),
    )
    return [
        _Label(place, loss, probability, hash == canary.candidate_hash)
        for place, loss, probability, hash, body in rows
        if "canary" in json.loads(body)
    ]


def _last_number(store: SqlStore) -> int:
    ((last,),) = store.execute("SELECT COALESCE(MAX(number), 0) FROM cascade_labels")
    return int(last)


def _totals(store: SqlStore, policy: str, policy_hash: str, since: float) -> ArmTotals:
    ((runs, accepted, unanswered, cost, latency),) = store.execute(
        "SELECT COUNT(*), COALESCE(SUM(CASE WHEN accepted THEN 1 ELSE 0 END), 0), "
        "COALESCE(SUM(CASE WHEN tier IS NULL THEN 1 ELSE 0 END), 0), AVG(cost_usd), AVG(latency_s) FROM cascade_runs "
        "WHERE started >= ? AND policy = ? AND policy_hash = ? AND kind = 'run'",
        (since, policy, policy_hash),
    )
    return ArmTotals(int(runs), int(accepted), int(unanswered), cost, latency)


def _replaced(update: CanaryUpdate, state: CanaryState, reason: str) -> CanaryUpdate:
    return CanaryUpdate(
        before=update.state,
        state=state,
        reason=reason,
        began=update.began,
        comparison=update.comparison,
        added=0,
    )
