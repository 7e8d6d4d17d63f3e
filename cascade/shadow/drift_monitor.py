"""Watches whether traffic is still like the recording: a line in the log and a message at each change of a check."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cascade.errors import CascadeError
from cascade.journal.drifts import DriftBook, WatchedTraffic
from cascade.policy.schema import Policy
from cascade.promise.traffic import CheckResult, DriftState

from .monitor import Monitor
from .webhook import post_in_background

log = logging.getLogger("cascade.drift")

OnDrift = Callable[[str, int, Sequence[CheckResult]], None]
"""Receives a policy's name, how many runs were compared, and the checks, after each look."""


class DriftMonitor:
    """Looks at the traffic of one Cascade's policies, and then at their promises and canaries. For one thread.

    Args:
        policies: The policies by name.
        book: The stored states.
        others: Watches the promises and canaries.
        on_drift: Receives every state, for metrics.
    """

    def __init__(
        self,
        policies: Mapping[str, Policy],
        book: DriftBook,
        others: Monitor,
        on_drift: OnDrift | None = None,
    ) -> None:
        watched = {name: WatchedTraffic.of(policy) for name, policy in policies.items()}
        self._watched = {name: one for name, one in watched.items() if one is not None}
        self._book, self._others, self._on_drift = book, others, on_drift
        self._states: dict[str, dict[str, DriftState]] = {}
        for name, policy in policies.items():
            if policy.drift is not None and name not in self._watched:
                log.warning(
                    "policy %s: drift: its calibration has no profile of the recording to compare with; "
                    "write it again with cascade replay",
                    name,
                )

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to watch."""
        return bool(self._watched) or self._others.is_needed

    def check(self) -> None:
        """Takes new runs into account. Where the database is unavailable, it waits for the next check."""
        for name, one in self._watched.items():
            try:
                update = self._book.update(name, one)
            except CascadeError as error:
                log.warning("policy %s: its traffic cannot be checked (%s)", name, type(error).__name__)
                continue
            if self._on_drift is not None:
                self._on_drift(name, update.runs, update.checks)
            states = self._states.setdefault(name, dict(update.before))
            for check in update.checks:
                previous = states.get(check.name, DriftState.NOT_ENOUGH)
                states[check.name] = check.state
                if check.state is not previous:
                    level = logging.INFO if check.state in _CALM else logging.WARNING
                    log.log(level, "policy %s: %s", name, in_words(check, previous))
                before = update.before.get(check.name, DriftState.NOT_ENOUGH)
                if check.state is not before and one.webhook_env is not None:  # only by the process that stored it
                    post_in_background(name, one.webhook_env, message(name, check, before, update.runs))
        if self._others.is_needed:
            self._others.check()

    def restart(self) -> None:
        """In a forked child: begins with connections of its own."""
        self._book.restart()
        self._others.restart()

    def close(self) -> None:
        """Closes the connections."""
        self._book.close()
        self._others.close()


def in_words(check: CheckResult, previous: DriftState | None = None) -> str:
    """One line on a check."""
    was = f" (was: {previous.value})" if previous is not None and previous is not check.state else ""
    return f"{check.name}: {_STATE[check.state]}{was}; {check.words}"


_CALM = (DriftState.ALIKE, DriftState.NOT_ENOUGH)
_STATE = {
    DriftState.ALIKE: "like the recording",
    DriftState.NOT_ENOUGH: "neither like the recording nor different from it by the evidence so far",
    DriftState.IN_DOUBT: "may differ from the recording",
    DriftState.DRIFTED: "differ from the recording",
}


def message(policy: str, check: CheckResult, before: DriftState, runs: int) -> dict[str, Any]:
    """The message for a webhook."""
    return {
        "event": "drift",
        "policy": policy,
        "check": check.name,
        "state": check.state.value,
        "previous": before.value,
        "needed": check.needed,
        "words": check.words,
        "runs": runs,
        "at": time.time(),
    }
