"""Watches the promises of policies: takes new labels into account, reports each change, and does what the policy says."""

import json
import logging
import os
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError

from cascade.errors import CascadeError, PolicyError
from cascade.journal.promises import PromiseBook, PromiseUpdate
from cascade.policy.schema import Policy, PromiseSpec
from cascade.promise.states import Promise, PromiseState, PromiseTracker

log = logging.getLogger("cascade.promise")

_ATTEMPTS, _FIRST_PAUSE_S, _TIMEOUT_S = 4, 1.0, 10.0

OnState = Callable[[str, PromiseTracker], None]
"""Receives a policy's name and the tracker of its promise, after each look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedPolicy:
    """A policy with a promise.

    Attributes:
        policy: The policy as the file states it.
        hash: Its hash.
        promise: What it promises.
        spec: What it wants done.
        floor: The smallest sampling probability of its runs.
    """

    policy: Policy
    hash: str
    promise: Promise
    spec: PromiseSpec
    floor: float

    @classmethod
    def of(cls, policy: Policy) -> "WatchedPolicy | None":
        """None where the policy promises nothing. Raises PolicyError where it does not say how much may be lost."""
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

    @property
    def is_needed(self) -> bool:
        """Whether any policy has a promise to watch."""
        return bool(self._watched)

    def check(self) -> None:
        """Takes new labels into account. Where the database is away, it waits for the next check."""
        for name, one in self._watched.items():
            try:
                update = self._book.update(name, one.hash, one.promise, one.floor)
            except CascadeError as error:
                log.warning("policy %s: its promise cannot be looked at (%s)", name, type(error).__name__)
                continue
            if self._on_state is not None:
                self._on_state(name, update.tracker)
            previous = self._states.get(name, update.before)
            self._states[name] = update.state
            if update.state is not previous and not (previous is None and update.state is PromiseState.NOT_ENOUGH):
                level = logging.INFO if update.state is PromiseState.HOLDS else logging.WARNING
                log.log(level, "policy %s: %s", name, in_words(update, previous))
            if update.state is not update.before and update.added and one.spec.webhook_env is not None:
                # By the process that saw the label that changed it, so that it is sent once.
                self._post(name, one.spec.webhook_env, message(name, update))
            if update.state is PromiseState.BROKEN and one.spec.on_broken != "warn":
                self._act(name, one)

    def restart(self) -> None:
        """In a forked child: begins with a connection of its own."""
        self._book.restart()

    def close(self) -> None:
        """Closes the connection."""
        self._book.close()

    def _act(self, name: str, one: WatchedPolicy) -> None:
        """Puts the safer policy into service, once; it stays until the policy file changes or the process ends."""
        self._watched = {other: watched for other, watched in self._watched.items() if other != name}
        self._replace(name, safer_policy(one.policy, one.spec.on_broken))
        log.warning("policy %s: on_broken: %s is in force", name, one.spec.on_broken)

    def _post(self, name: str, variable: str, body: Mapping[str, Any]) -> None:
        url = os.environ.get(variable)
        if not url:
            log.warning("policy %s: promise.webhook_env: the environment variable %s is not set", name, variable)
            return
        thread = threading.Thread(target=post, args=(url, body), name="cascade webhook", daemon=True)
        thread.start()


def safer_policy(policy: Policy, on_broken: str) -> Policy:
    """The policy that is used while a promise is broken.

    Args:
        policy: The policy.
        on_broken: "premium": the last tier alone; "escalate_more": every threshold half-way up to 1.
    """
    if on_broken == "premium":
        return policy.model_copy(update={"tiers": policy.tiers[-1:], "calibration": None, "shadow": None, "promise": None})

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
    return policy.model_copy(update={"tiers": [*tiers, policy.tiers[-1]], "promise": None})


def in_words(update: PromiseUpdate, previous: PromiseState | None = None) -> str:
    """One line on the state of a promise."""
    tracker, promise = update.tracker, update.tracker.promise
    was = f" (was: {previous.value})" if previous is not None and previous is not update.state else ""
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
    """What a webhook receives."""
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
        "delta": tracker.promise.delta,
        "at": time.time(),
    }


def post(url: str, body: Mapping[str, Any], *, pause_s: float = _FIRST_PAUSE_S) -> bool:
    """Posts JSON, again after connection faults, 408, 429 and 5xx; whether it was taken. The URL, a secret, is not logged.

    Args:
        url: http:// or https://.
        body: Plain data.
        pause_s: The pause before the second attempt; each further one is twice as long.
    """
    if not url.startswith(("http://", "https://")):
        log.warning("the webhook's URL must begin with http:// or https://")
        return False
    data = json.dumps(body).encode()
    error = ""
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(pause_s * 2 ** (attempt - 1))
        try:
            request = urllib.request.Request(url, data, {"Content-Type": "application/json", "User-Agent": "cascade"})
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S):
                return True
        except HTTPError as fault:
            fault.close()
            error = f"status {fault.code}"
            if fault.code not in (408, 429) and fault.code < 500:
                break
        except (OSError, ValueError) as fault:
            error = type(fault).__name__
    log.error("policy %s: the webhook did not take the state of its promise (%s)", body.get("policy"), error)
    return False
