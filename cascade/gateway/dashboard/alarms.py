"""The status line of the dashboard: whether promises hold, and what needs attention."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cascade.journal.canaries import Canary, CanaryBook
from cascade.journal.drifts import DriftBook, WatchedTraffic
from cascade.journal.promises import PromiseBook
from cascade.promise.states import PromiseState
from cascade.promise.traffic import DriftState
from cascade.shadow.canary_monitor import in_words as canary_in_words
from cascade.shadow.drift_monitor import in_words as drift_in_words
from cascade.shadow.promise_monitor import WatchedPolicy, in_words
from cascade.telemetry.worker_breakers import all_breakers, worst

if TYPE_CHECKING:
    from cascade.gateway.state import Gateway
    from cascade.journal.store import SqlStore
    from cascade.policy.schema import PolicyFile

MANY, SOME = 0.2, 0.02
"""The shares of runs that a limit stopped, or without an answer, from which on they are an alarm, and a warning."""
_NOUNS = {"stopped": "were stopped by a budget or a cap", "unanswered": "have no answer"}
_ORDER = ("green", "amber", "red")


def promises(store: "SqlStore", file: "PolicyFile") -> list[dict[str, Any]]:
    """The state of each policy's promise, by the labels so far."""
    book, states = PromiseBook(lambda: store), []
    for name, policy in file.policies.items():
        one = WatchedPolicy.of(policy)
        if one is None:
            continue
        update = book.look(name, one.hash, one.promise, one.floor)
        tracker = update.tracker
        states.append(
            {
                "policy": name,
                "state": update.state.value,
                "words": in_words(update),
                "labels": tracker.n,
                "labels_needed": tracker.labels_needed,
                "mean_loss": tracker.mean_loss,
                "max_loss": one.promise.max_loss,
            }
        )
    return states


def canaries(store: "SqlStore", file: "PolicyFile") -> list[dict[str, Any]]:
    """The state of each canary."""
    book, states = CanaryBook(lambda: store), []
    for name, policy in file.policies.items():
        canary = Canary.of(name, policy)
        if canary is not None:
            update = book.look(canary)
            entry = {"policy": name, "state": update.state.value, "reason": update.reason, "words": canary_in_words(update)}
            states.append(entry)
    return states


def drifts(store: "SqlStore", file: "PolicyFile") -> list[dict[str, Any]]:
    """The checks of each policy's traffic that are not shown to be like its recording, as the processes in service found."""
    book, states = DriftBook(lambda: store), []
    for name, policy in file.policies.items():
        one = WatchedTraffic.of(policy)
        update = None if one is None else book.look(name, one)
        for check in () if update is None else update.checks:
            if check.state is not DriftState.ALIKE:
                states.append(
                    {
                        "policy": name,
                        "check": check.name,
                        "state": check.state.value,
                        "needed": check.needed,
                        "words": drift_in_words(check),
                    }
                )
    return states


def alarms(
    gateway: "Gateway",
    promises: Sequence[Mapping[str, Any]],
    canaries: Sequence[Mapping[str, Any]],
    outcomes: Mapping[str, int] | None,
    drifts: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The level (green, amber, red), a sentence that says it, and what needs attention, the worst first.

    Args:
        gateway: The gateway, for its models, budgets and policy file.
        promises: What ``promises`` returned.
        canaries: What ``canaries`` returned.
        outcomes: How many runs ended in which way; None: unknown.
        drifts: What ``drifts`` returned.
    """
    every = [*_of_promises(promises), *_of_canaries(canaries), *_of_outcomes(outcomes or {}), *_of_models(gateway)]
    every += _of_shared_state(gateway)
    every += alarms_of_drifts(drifts)
    status = gateway.reload_status
    if status.error is not None and status.failed is not None and status.failed > status.loaded:
        every.append(_alarm("red", "The changed policy file was not loaded; the previous one is in use."))
    every += [_alarm("red", f"The policy {name} cannot run: {reason}.") for name, reason in status.unusable.items()]
    if outcomes is None:
        every.append(_alarm("amber", "There is no journal: quality is not measured, and figures begin at the last start."))
    elif not promises:
        every.append(_alarm("amber", "No policy has a promise: whether quality holds is not measured.", link="promise"))
    every.sort(key=lambda alarm: -_ORDER.index(alarm["level"]))
    level = every[0]["level"] if every else "green"
    return {"level": level, "title": _title(level, promises), "alarms": every}


def _title(level: str, promises: Sequence[Mapping[str, Any]]) -> str:
    states = {promise["state"] for promise in promises}
    if PromiseState.BROKEN.value in states:
        return "A promise is broken"
    if PromiseState.IN_DOUBT.value in states:
        return "A promise is in doubt"
    holds = bool(states) and states == {PromiseState.HOLDS.value}
    if level == "red":
        return "The promise holds, but something else is wrong" if holds else "Something is wrong"
    if holds:
        return "The promise holds" if level == "green" else "The promise holds; something needs attention"
    return "Not shown yet that the promise holds" if states else "Quality is not measured"


def _of_promises(promises: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    levels = {PromiseState.BROKEN.value: "red", PromiseState.IN_DOUBT.value: "red", PromiseState.NOT_ENOUGH.value: "amber"}
    return [
        _alarm(levels[one["state"]], f"Policy {one['policy']}: {one['words']}.", policy=one["policy"], link="labels")
        for one in promises
        if one["state"] in levels
    ]


def _of_canaries(canaries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        _alarm("amber", f"Policy {canary['policy']}: {canary['words']}.", policy=canary["policy"], link="labels")
        for canary in canaries
        if canary["state"] == "aborted"
    ]


def alarms_of_drifts(drifts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A warning for each check that may differ; one line, no alarm, for those of a policy that need more evidence."""
    alarms, waiting = [], dict[str, list[str]]()
    for one in drifts:
        if one["state"] == DriftState.NOT_ENOUGH.value:
            unit = "labels" if one["check"] == "calibration" else "runs"
            more = f"no number of {unit} like these would show it"
            if one["needed"] is not None:
                more = f"about {one['needed']:,} more {unit}"
            waiting.setdefault(one["policy"], []).append(f"{one['check']} ({more})")
        else:
            alarms.append(_alarm("amber", f"Policy {one['policy']}: {one['words']}.", policy=one["policy"]))
    for policy, checks in waiting.items():
        text = f"Policy {policy}: not enough evidence yet that traffic is like the recording: {', '.join(checks)}."
        alarms.append(_alarm("green", text, policy=policy))
    return alarms


def _of_outcomes(outcomes: Mapping[str, int]) -> list[dict[str, Any]]:
    total, alarms = sum(outcomes.values()), []
    for outcome, verb in _NOUNS.items():
        share = outcomes.get(outcome, 0) / total if total else 0.0
        if share >= SOME:
            level = "red" if share >= MANY else "amber"
            alarms.append(_alarm(level, f"{share:.0%} of the runs {verb}.", outcome=outcome, link="outcome"))
    poor = outcomes.get("not accepted", 0) / total if total else 0.0
    if poor >= MANY:
        alarms.append(
            _alarm("amber", f"{poor:.0%} of the answers were not accepted.", outcome="not accepted", link="outcome")
        )
    return alarms


def _of_models(gateway: "Gateway") -> list[dict[str, Any]]:
    """Circuit breakers that are not closed, in any worker: a model that keeps failing."""
    alarms = []
    health = gateway.active.cascade.health()
    own = {name: one.state for name, one in health.items() if one.state is not None}
    for name, states in sorted(all_breakers(own).items()):
        state, workers = worst(states), states.total()
        if state == "open":
            where = f" in {states[state]} of {workers} workers" if workers > 1 else ""
            alarms.append(
                _alarm("red", f"The model {name} keeps failing: its circuit breaker is open{where}.", link="models")
            )
        elif state == "half_open":
            alarms.append(_alarm("amber", f"The model {name} is tried again after it kept failing.", link="models"))
    return alarms


def _of_shared_state(gateway: "Gateway") -> list[dict[str, Any]]:
    """The store of shared budgets and key rates is unavailable."""
    state = gateway.shared_state
    if state is None or not state.away:
        return []
    rule = "refused" if state.fail == "closed" else "limited by each process alone"
    return [_alarm("red", f"The store of shared budgets and key rates is unavailable: requests under them are {rule}.")]


def _alarm(level: str, text: str, **links: str) -> dict[str, Any]:
    return {"level": level, "text": text[0].upper() + text[1:], **links}
