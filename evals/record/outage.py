"""Detects that a model's server is down: requests that fail then are retried until the server is back."""

import sys
from collections.abc import Callable
from time import monotonic

from cascade.models.protocol import ModelError

PATIENCE_S = 3600.0  # how long to wait for a server that has answered before
FIRST_PATIENCE_S = 20.0  # and for one that never has: its address may be wrong


class Outage:
    """Counts consecutive errors of one model; from ``threshold`` errors on, its server counts as down."""

    def __init__(self, name: str, threshold: int, report: Callable[[str], None] | None = None) -> None:
        self.name, self.threshold = name, threshold
        self._report = report or (lambda message: print(message, file=sys.stderr, flush=True))
        self._faults, self._since = 0, 0.0
        self._answers = False

    @property
    def is_down(self) -> bool:
        """Whether the server counts as down."""
        return self._faults >= self.threshold

    @property
    def expired(self) -> bool:
        """Whether the server has been down for longer than we wait."""
        return self.is_down and monotonic() - self._since >= self._patience_s

    @property
    def _patience_s(self) -> float:
        return PATIENCE_S if self._answers else FIRST_PATIENCE_S

    def record_reply(self, answered: bool) -> None:
        """The server replied: with an answer (``answered``) or with an error about the request."""
        if self.is_down:
            self._report(f"\n{self.name}: back after {monotonic() - self._since:.0f} s")
        self._faults = 0
        self._answers = self._answers or answered

    def record_error(self, error: ModelError) -> bool:
        """Counts a failed request; returns whether it failed because the server is down."""
        never_sent = error.status is None and error.usage is not None
        if not error.retryable or (error.status is not None and error.status < 500):
            self.record_reply(answered=False)
            return False
        if not self._answers and not never_sent:  # it may be these requests that it cannot answer
            return False
        if not self._faults:
            self._since = monotonic()
        self._faults += 1
        if self._faults == self.threshold:
            self._report(f"\n{error}; the last {self._faults} requests failed, retrying for {self._patience_s:.0f} s")
        return self.is_down
