"""Whether a model's server is down: what fails then is no fault of the request, and is asked again once it is back."""

import sys
from collections.abc import Callable
from time import monotonic

from cascade.models.protocol import ModelError

PATIENCE_S = 3600.0  # how long a server that has answered is waited for
FIRST_PATIENCE_S = 20.0  # and one that never has: its address may be wrong


class Outage:
    """Faults of one model without an answer between them. From ``least`` on its server is taken to be down."""

    def __init__(self, name: str, least: int, tell: Callable[[str], None] | None = None) -> None:
        self.name, self.least = name, least
        self._tell = tell or (lambda said: print(said, file=sys.stderr, flush=True))
        self._faults, self._since = 0, 0.0
        self._answers = False

    @property
    def down(self) -> bool:
        """Whether the server is taken to be down."""
        return self._faults >= self.least

    @property
    def over_patience(self) -> bool:
        """Whether it has been down for so long that nobody waits any more."""
        return self.down and monotonic() - self._since >= self._patience_s

    @property
    def _patience_s(self) -> float:
        return PATIENCE_S if self._answers else FIRST_PATIENCE_S

    def replied(self, answered: bool) -> None:
        """The server is there: it ``answered``, or refused a request."""
        if self.down:
            self._tell(f"\n{self.name}: is back after {monotonic() - self._since:.0f} s")
        self._faults = 0
        self._answers = self._answers or answered

    def failed(self, error: ModelError) -> bool:
        """Takes note of a request's fault; whether it is the server's that is down."""
        unreached = error.status is None and error.usage is not None
        if not error.retryable or (error.status is not None and error.status < 500):
            self.replied(answered=False)
            return False
        if not self._answers and not unreached:  # it may be these requests that it cannot answer
            return False
        if not self._faults:
            self._since = monotonic()
        self._faults += 1
        if self._faults == self.least:
            self._tell(f"\n{error}; nothing else for {self._faults} requests, asking again for {self._patience_s:.0f} s")
        return self.down
