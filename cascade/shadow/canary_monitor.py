"""Watches canaries: takes new labels into account, aborts a candidate that proves worse, and follows what was decided."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from cascade.errors import CascadeError
from cascade.journal.canaries import Canary, CanaryBook, CanaryState, CanaryUpdate
from cascade.policy.schema import Policy
from cascade.promise.canary import CanaryVerdict

from .promise_monitor import PromiseMonitor
from .webhook import post_in_background

log = logging.getLogger("cascade.canary")

OnCanary = Callable[[str, CanaryState], None]
"""Receives a policy's name and the state of its canary, after each look."""


class CanaryMonitor:
    """Looks at the canaries of one Cascade's policies, and at their promises. For one thread.

    Args:
        policies: The policies by name.
        book: The stored states.
        replace: Puts another policy into service under a name.
        promises: Watches the promises; it follows the policy that is promoted.
        on_state: Receives every state, for metrics.
    """

    def __init__(
        self,
        policies: Mapping[str, Policy],
        book: CanaryBook,
        replace: Callable[[str, Policy], None],
        promises: PromiseMonitor,
        on_state: OnCanary | None = None,
    ) -> None:
        canaries = {name: Canary.of(name, policy) for name, policy in policies.items()}
        self._canaries = {name: canary for name, canary in canaries.items() if canary is not None}
        self._policies, self._book, self._replace, self._promises = policies, book, replace, promises
        self._on_state = on_state
        self._states: dict[str, CanaryState | None] = dict.fromkeys(self._canaries, CanaryState.RUNNING)
        self._checked = False

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to watch."""
        return bool(self._canaries) or self._promises.is_needed

    def begin(self) -> None:
        """Reads the states before the first run. Until a state is known, no run has a candidate."""
        self._check()
        self._book.close()  # a process that forks now must not have it open

    def check(self) -> None:
        """Takes new labels into account, and puts into service what was decided."""
        self._check()
        self._promises.check()

    def restart(self) -> None:
        """In a forked child: begins with connections of its own."""
        self._book.restart()
        self._promises.restart()

    def close(self) -> None:
        """Closes the connections."""
        self._book.close()
        self._promises.close()

    def _check(self) -> None:
        first, self._checked = not self._checked, True
        for name, canary in self._canaries.items():
            try:
                update = self._book.update(canary)
            except CascadeError as error:
                log.warning("policy %s: its canary cannot be checked (%s)", name, type(error).__name__)
                if first:
                    self._serve(name, None)
                continue
            if self._on_state is not None:
                self._on_state(name, update.state)
            if update.state is not self._states[name]:
                self._serve(name, update.state)
                level = logging.INFO if first else logging.WARNING
                log.log(level, "policy %s: %s", name, in_words(update))
            if update.before is CanaryState.RUNNING and update.state is CanaryState.ABORTED:
                self._post(name, canary, update)  # only by the process that took the label into account

    def _serve(self, name: str, state: CanaryState | None) -> None:
        """Puts the calibration of a state into service; None: the state is unknown, and no run has the candidate."""
        self._states[name] = state
        policy = self._policies[name]
        candidate = policy.candidate
        assert candidate is not None
        if state is CanaryState.PROMOTED:
            self._replace(name, candidate)
            self._promises.follow(name, candidate)
            return
        self._promises.follow(name, policy)
        if name in self._promises.replaced:
            return  # its promise is broken: the safer policy stays
        self._replace(name, policy if state is CanaryState.RUNNING else policy.model_copy(update={"canary": None}))

    def _post(self, name: str, canary: Canary, update: CanaryUpdate) -> None:
        spec = self._policies[name].promise
        if spec is not None and spec.webhook_env is not None:
            post_in_background(name, spec.webhook_env, message(canary, update))


def in_words(update: CanaryUpdate) -> str:
    """One line on the state of a canary."""
    comparison = update.comparison
    difference = comparison.difference
    loss = f"{comparison.n} labels, too few to compare"
    if difference is not None:
        loss = f"mean loss {difference:+.4f} against the present one, {comparison.n} labels"
    if update.state is CanaryState.ABORTED:
        why = "it proved worse" if update.reason == "worse" else "by command"
        return f"the candidate calibration is aborted ({why}); {loss}"
    if update.state is CanaryState.PROMOTED:
        return f"the candidate calibration is promoted, all runs use it; {loss}"
    line = f"the candidate calibration has {comparison.share:.0%} of the runs; {loss}"
    if comparison.verdict is CanaryVerdict.NO_WORSE:
        return f"{line}; it is at most {comparison.max_worse:g} worse, ready for promotion"
    needed = comparison.labels_needed
    more = "no number of labels like these would show it" if needed is None else f"about {needed} more labels would show it"
    return f"{line}; not shown yet that it is at most {comparison.max_worse:g} worse: {more}"


def message(canary: Canary, update: CanaryUpdate) -> dict[str, Any]:
    """The message for a webhook."""
    comparison = update.comparison
    return {
        "event": "canary",
        "policy": canary.policy,
        "state": update.state.value,
        "reason": update.reason,
        "labels": comparison.n,
        "difference": comparison.difference,
        "candidate_hash": canary.candidate_hash,
        "present_hash": canary.present_hash,
        "at": time.time(),
    }


def make_monitor(
    policies: Mapping[str, Policy],
    promises: PromiseMonitor,
    book: Callable[[], CanaryBook],
    *,
    replace: Callable[[str, Policy], None],
    on_state: OnCanary | None = None,
) -> "PromiseMonitor | CanaryMonitor":
    """The monitor of the policies: that of their promises alone where none has a canary; see CanaryMonitor."""
    if all(policy.candidate is None for policy in policies.values()):
        return promises
    monitor = CanaryMonitor(policies, book(), replace, promises, on_state)
    monitor.begin()
    return monitor
