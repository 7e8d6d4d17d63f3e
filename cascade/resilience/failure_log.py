"""Warnings where a model's provider fails and where it answers again, few enough to read during an incident."""

import logging
from dataclasses import dataclass
from time import monotonic

from cascade.models.protocol import ModelError
from cascade.util.log_events import Event, LimitedLog

_warnings = LimitedLog(logging.getLogger("cascade.models"))
_SUCCESSES = 5  # in a row: until then a provider that answers now and then still fails
_OPERATORS_FAULTS = frozenset((401, 402, 403, 404))  # a wrong key, an unpaid bill, a model that does not exist


@dataclass(slots=True)
class FailureLog:
    """One model's failures. Several threads may use it: a count that is off by one does no harm.

    Attributes:
        failing: Whether the last failure is not followed by enough successes yet.
    """

    failing: bool = False
    _failures: int = 0
    _successes: int = 0
    _since: float = 0.0

    def record_failure(self, name: str, error: ModelError) -> None:
        """Counts a request that failed; a warning follows where that is the provider's or the operator's fault.

        Args:
            name: The model's name.
            error: The failure; its text is not logged, since it may quote the prompt.
        """
        if not error.retryable and error.status not in _OPERATORS_FAULTS:
            return
        if not self.failing:
            self.failing, self._failures, self._since = True, 0, monotonic()
        self._successes = 0
        self._failures += 1
        cause = f"HTTP {error.status}" if error.status is not None else error.kind or "other"
        _warnings.warning((name, cause), Event("a model's provider fails", model=name, cause=cause, failures=self._failures))

    def record_success(self, name: str) -> None:
        """Counts a request that was answered; called only while ``failing``."""
        self._successes += 1
        if self._successes < _SUCCESSES:
            return
        self.failing = False
        seconds = round(monotonic() - self._since, 1)
        event = Event("a model's provider answers again", model=name, failures=self._failures, seconds=seconds)
        _warnings.warning((name, "recovered"), event)
