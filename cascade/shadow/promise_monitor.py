"""Watches the promises of policies: takes new labels into account, reports each change, and does what the policy says."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cascade.errors import CascadeError, PolicyError
from cascade.journal.promises import PromiseBook, PromiseUpdate
from cascade.policy.schema import Policy, PromiseSpec
from cascade.promise.states import Promise, PromiseState, PromiseTracker

from .webhook import post_in_background

log = logging.getLogger("cascade.promise")

OnState = Callable[[str, PromiseTracker], None]
"""Receives a policy's name and the tracker of its promise, after each look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedPolicy:
    """A policy with a promise.

    Attributes:
        policy: The policy as the file states it.
        hash: Its hash.
        promise: What it promises.
        spec: What to do when the promise is in doubt or broken.
        floor: The smallest sampling probability of its runs.
    """

    policy: Policy
    hash: str
    promise: Promise
    spec: PromiseSpec
    floor: float

    @classmethod
    def of(cls, policy: Policy) -> "WatchedPolicy | None":
        """The policy with its promise; None where it has none. Raises PolicyError where the largest loss is not stated."""
        spec, shadow = policy.promise, policy.shadow
        if spec is None or shadow is None:
            return None
        if spec.max_loss is None:
            raise PolicyError("promise.max_loss: give it, since the policy has no calibration with a certificate")
        promise = Promise(max_loss=spec.max_loss, delta=spec.delta)
        return cls(policy=policy, hash=policy.hash, promise=promise, spec=spec, floor=shadow.least_share)


class PromiseMonitor:
    """Looks at the promises of one Cascade's policies. For one thread.

    Args:
        policies: The policies by name.
        book: The stored states.
        replace: Puts another policy into service under a name.
        on_state: Receives every state, for metrics.
    """

    def __init__(
        self,
        policies: Mapping[str, Policy],
        book: PromiseBook,
        replace: Callable[[str, Policy], None],
        on_state: OnState | None = None,
    ) -> None:
        watched = {name: WatchedPolicy.of(policy) for name, policy in policies.items()}
        self._watched = {name: one for name, one in watched.items() if one is not None}
        self._book, self._replace, self._on_state = book, replace, on_state
        self._states: dict[str, PromiseState] = {}
        self.replaced: set[str] = set()
        """The policies in whose place a safer one is in service."""
        self._broken: dict[str, str] = {}

    @property
    def is_needed(self) -> bool:
        """Whether any policy has a promise to watch."""
        return bool(self._watched)

    def check(self) -> None:
        """Takes new labels into account. Where the database is unavailable, it waits for the next check."""
        for name, one in self._watched.items():
            try:
                update = self._book.update(name, one.hash, one.promise, one.floor)
            except CascadeError as error:
                log.warning("policy %s: its promise cannot be checked (%s)", name, type(error).__name__)
                continue
            if self._on_state is not None:
                self._on_state(name, update.tracker)
            previous = self._states.get(name, update.before)
            self._states[name] = update.state
            if update.state is not previous and not (previous is None and update.state is PromiseState.NOT_ENOUGH):
                level = logging.INFO if update.state is PromiseState.HOLDS else logging.WARNING
                log.log(level, "policy %s: %s", name, in_words(update, previous))
            is_change = update.state is not update.before and (update.added or update.before is not None)
            if is_change and one.spec.webhook_env is not None:  # only by the process that stored it
                post_in_background(name, one.spec.webhook_env, message(name, update))
            if update.state is PromiseState.BROKEN and one.spec.on_broken != "warn":
                self._act(name, one)

    def follow(self, name: str, policy: Policy) -> None:
        """Watches the promise of another policy under a name; one whose promise is broken already stays as it is."""
        one = WatchedPolicy.of(policy)
        before = self._watched.get(name)
        if one is None or (before is None and name in self.replaced and one.hash == self._broken.get(name)):
            return
        if before is None or before.hash != one.hash:
            self._states.pop(name, None)
            self._watched = {**self._watched, name: one}
            self.replaced.discard(name)

    def restart(self) -> None:
        """In a forked child: begins with a connection of its own."""
        self._book.restart()

    def close(self) -> None:
        """Closes the connection."""
        self._book.close()

    def _act(self, name: str, one: WatchedPolicy) -> None:
        """Puts the safer policy into service, once; it stays until the policy file changes or the process ends."""
        self._watched = {other: watched for other, watched in self._watched.items() if other != name}
        self.replaced.add(name)
        self._broken[name] = one.hash
        self._replace(name, safer_policy(one.policy, one.spec.on_broken))
        log.warning("policy %s: on_broken: %s is in force", name, one.spec.on_broken)


def safer_policy(policy: Policy, on_broken: str) -> Policy:
    """The policy that is used while a promise is broken.

    Args:
        policy: The policy.
        on_broken: "premium": the last tier alone; "escalate_more": every threshold half-way up to 1.
    """
    if on_broken == "premium":
        absent = dict.fromkeys(("calibration", "shadow", "promise", "canary"))
        return policy.model_copy(update={"tiers": policy.tiers[-1:], **absent})

    def raised(threshold: float | None) -> float | None:
        return None if threshold is None else (1.0 + threshold) / 2.0

    tiers = [
        tier.model_copy(
            update={
                "accept_at": raised(tier.accept_at),
                "accept_at_by_task": {
                    task: at if isinstance(at, str) else raised(at) for task, at in (tier.accept_at_by_task or {}).items()
                },
                "judges": [rule.model_copy(update={"accept_at": raised(rule.accept_at)}) for rule in tier.judges],
            }
        )
        for tier in policy.tiers[:-1]
    ]
    return policy.model_copy(update={"tiers": [*tiers, policy.tiers[-1]], "promise": None, "canary": None})


def in_words(update: PromiseUpdate, previous: PromiseState | None = None) -> str:
    """One line on the state of a promise."""
    tracker, promise = update.tracker, update.tracker.promise
    was = f" (was: {previous.value})" if previous is not None and previous is not update.state else ""
    if update.held_back is not None:
        was += f" (its alarm is held back: {update.held_back})"
    loss = "no labels yet" if tracker.mean_loss is None else f"mean loss {tracker.mean_loss:+.4f} of {tracker.n} labels"
    line = f"the promise of a mean loss of at most {promise.max_loss:g} is {_STATE[update.state]}{was}; {loss}"
    needed = tracker.labels_needed
    if update.state is PromiseState.NOT_ENOUGH:
        line += (
            "; no number of labels like these would show it" if needed is None else f"; about {needed} more would show it"
        )
    return line


_STATE = {
    PromiseState.HOLDS: "kept",
    PromiseState.NOT_ENOUGH: "neither kept nor broken by the evidence so far",
    PromiseState.IN_DOUBT: "in doubt",
    PromiseState.BROKEN: "broken",
}


def message(policy: str, update: PromiseUpdate) -> dict[str, Any]:
    """The message for a webhook."""
    tracker = update.tracker
    return {
        "event": "promise",
        "policy": policy,
        "state": update.state.value,
        "previous": None if update.before is None else update.before.value,
        "labels": tracker.n,
        "labels_needed": tracker.labels_needed,
        "mean_loss": tracker.mean_loss,
        "max_loss": tracker.promise.max_loss,
        "held_back": update.held_back,
        "delta": tracker.promise.delta,
        "at": time.time(),
    }
