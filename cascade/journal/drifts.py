"""How traffic compares with the recording, in the journal's database: any process takes new runs into account."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cascade.errors import PolicyError
from cascade.policy.schema import Policy
from cascade.promise.traffic import CheckResult, DriftState, TrafficProfile, TrafficTracker, profile_of
from cascade.promise.traffic_events import TrafficRun

from .labels import labels_after
from .record import Record, dumps
from .store import SqlStore, records_between
from .writer_connection import Book

MOST_RUNS = 500
"""Of the runs since the last look, the first ones that are compared: of a busy service a part says as much as all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedTraffic:
    """A policy whose traffic is compared with its recording.

    Attributes:
        hash: The policy's.
        tiers: The names of its tiers.
        profile: What its runs looked like on the recording.
        alpha: The probability of ever calling a check drifted that is not.
        floor: The smallest sampling probability of its runs; None: none is sampled.
        webhook_env: The environment variable with the URL that receives each change; None: none does.
    """

    hash: str
    tiers: Sequence[str]
    profile: TrafficProfile
    alpha: float
    floor: float | None
    webhook_env: str | None

    @classmethod
    def of(cls, policy: Policy) -> "WatchedTraffic | None":
        """None where the policy has no key drift, or no calibration with a profile was applied to it. Raises PolicyError."""
        if policy.drift is None or policy.applied is None:
            return None
        try:
            profile = profile_of(policy.applied.text)
        except ValueError as error:
            raise PolicyError(f"{policy.applied.name}: profile: {error}; write it again with cascade replay") from None
        if profile is None:
            return None
        promised = None if policy.promise is None else policy.promise.webhook_env
        return cls(
            hash=policy.hash,
            tiers=[tier.name for tier in policy.tiers],
            profile=profile,
            alpha=policy.drift.alpha,
            floor=None if policy.shadow is None else policy.shadow.least_share,
            webhook_env=policy.drift.webhook_env or promised,
        )

    def tracker(self) -> TrafficTracker:
        """A new tracker."""
        return TrafficTracker(self.profile, self.tiers, self.alpha)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftUpdate:
    """The checks after new runs were taken into account.

    Attributes:
        before: The state of each check before; empty where nothing was stored.
        checks: Each check now.
        runs: How many runs were compared in all.
        added: How many were new.
    """

    before: Mapping[str, DriftState]
    checks: Sequence[CheckResult]
    runs: int
    added: int


class DriftBook(Book):
    """The rows of ``cascade_drifts``."""

    def update(self, policy: str, watched: WatchedTraffic) -> DriftUpdate:
        """Takes a policy's new runs into account, each at most once over all processes, in one transaction."""
        return self._session.run(lambda store: self._update(store, policy, watched))

    def look(self, policy: str, watched: WatchedTraffic) -> DriftUpdate | None:
        """The checks as they are stored; None where no process has looked yet."""

        def work(store: SqlStore) -> DriftUpdate | None:
            row = _stored(store, policy, watched)
            if row is None:
                return None
            tracker, states = watched.tracker().restore(row[1]), row[2]
            return DriftUpdate(before=states, checks=list(tracker.results()), runs=tracker.runs, added=0)

        return self._session.run(work)

    def reset(self, policy: str, watched: WatchedTraffic) -> None:
        """Begins again with the runs that come from now on."""

        def work(store: SqlStore) -> None:
            with store.transaction():
                store.lock([f"drift {policy}"])
                store.execute("DELETE FROM cascade_drifts WHERE policy = ? AND policy_hash = ?", (policy, watched.hash))

        self._session.run(work)

    def _update(self, store: SqlStore, policy: str, watched: WatchedTraffic) -> DriftUpdate:
        with store.transaction():
            store.lock([f"drift {policy}"])
            row = _stored(store, policy, watched)
            ((last,),) = store.execute("SELECT COALESCE(MAX(id), 0) FROM cascade_runs")
            tracker, number, label_number, before = watched.tracker(), last, 0, dict[str, DriftState]()
            if row is None:
                ((label_number,),) = store.execute("SELECT COALESCE(MAX(number), 0) FROM cascade_labels")
            else:
                (number, label_number), state, before = row
                tracker.restore(state)
            runs = records_between(store, policy, watched.hash, above=number, up_to=last, most=MOST_RUNS)
            for record in runs:
                tracker.add(run_of(record, watched.tiers))
            labels = 0
            if watched.floor is not None:
                label_number, labels = _add_labels(store, tracker, policy, watched, label_number)
            checks = list(tracker.results())
            if runs or labels or row is None:
                self._store_state(store, policy, watched, tracker, (last, label_number), checks)
            elif last > number:  # runs of other policies: not to be read again
                store.execute(
                    "UPDATE cascade_drifts SET number = ? WHERE policy = ? AND policy_hash = ?", (last, policy, watched.hash)
                )
        return DriftUpdate(before=before, checks=checks, runs=tracker.runs, added=len(runs))

    def _store_state(
        self,
        store: SqlStore,
        policy: str,
        watched: WatchedTraffic,
        tracker: TrafficTracker,
        numbers: tuple[int, int],
        checks: Sequence[CheckResult],
    ) -> None:
        states = {check.name: check.state.value for check in checks}
        content = dumps({"states": states, "label_number": numbers[1], "tracker": tracker.to_json()})
        store.execute(
            "INSERT INTO cascade_drifts (policy, policy_hash, profile, runs, number, at, tracker) "
            "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (policy, policy_hash) DO UPDATE SET profile = excluded.profile, "
            "runs = excluded.runs, number = excluded.number, at = excluded.at, tracker = excluded.tracker",
            (policy, watched.hash, watched.profile.hash, tracker.runs, numbers[0], self._clock(), content),
        )


def _stored(
    store: SqlStore, policy: str, watched: WatchedTraffic
) -> tuple[tuple[int, int], Mapping[str, Any], dict[str, DriftState]] | None:
    """The numbers of the last run and label, the tracker's state, and the checks' states; None for another profile."""
    rows = store.execute(
        "SELECT number, CAST(tracker AS TEXT) FROM cascade_drifts WHERE policy = ? AND policy_hash = ? AND profile = ?",
        (policy, watched.hash, watched.profile.hash),
    )
    if not rows:
        return None
    content = json.loads(rows[0][1])
    states = {name: DriftState(state) for name, state in content["states"].items()}
    return (rows[0][0], content["label_number"]), content["tracker"], states


def _add_labels(
    store: SqlStore, tracker: TrafficTracker, policy: str, watched: WatchedTraffic, number: int
) -> tuple[int, int]:
    """Takes new labels of accepted answers of earlier tiers into account; the last number, and how many there were."""
    labels = labels_after(store, policy, watched.hash, number)
    for label in labels:
        rows = store.execute("SELECT confidence, tier, accepted FROM cascade_runs WHERE run_id = ?", (label.run_id,))
        for confidence, tier, accepted in rows:
            if accepted and confidence is not None and tier != watched.tiers[-1]:
                assert watched.floor is not None
                tracker.add_label(label.loss, confidence, min(1.0, watched.floor / label.probability))
    return (labels[-1].number if labels else number), len(labels)


def run_of(record: Record, tiers: Sequence[str]) -> TrafficRun:
    """What is compared of a run in the journal."""
    attempts = [attempt for attempt in record.attempts if attempt["reason"] != "skipped"]
    first = attempts[0] if attempts else {}
    return TrafficRun(
        form=record.prompt_form,
        confidence=first.get("confidence") if first.get("answered") else None,
        tier=tiers.index(record.tier) if record.tier in tiers else None,
        escalated=len(attempts) > 1,
        refused=is_refused(first.get("verdicts", ())),
        latency_s=record.latency_s,
        cost_usd=record.cost_usd,
    )


def is_refused(verdicts: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a judge says that the model declined to answer."""
    return any(verdict["veto"] and str(verdict.get("reason") or "").startswith("refusal") for verdict in verdicts)
