"""Whether the store of a state that processes share can be used: said once when it goes and once when it comes back."""

import logging
import threading
from collections.abc import Callable
from time import monotonic
from typing import Literal

from cascade.util.log_events import Event

FailRule = Literal["closed", "open"]
"""What happens to requests under a shared limit without the store: refused, or limited by each process alone."""
log = logging.getLogger("cascade.state")


class StoreHealth:
    """The state of one store, as this process sees it. Safe for threads.

    Args:
        where: The store's name in messages; it holds no password.
        fail: The rule while it is unavailable.
        clock: Seconds of a monotonic clock.
    """

    def __init__(self, where: str, fail: FailRule = "closed", clock: Callable[[], float] = monotonic) -> None:
        self.where, self.fail = where, fail
        self.outages = 0
        """How often the store went away."""
        self.refused = self.unshared = 0
        """Requests that were refused while it was unavailable, and requests that this process limited alone."""
        self._clock = clock
        self._since: float | None = None
        self._lock = threading.Lock()

    @property
    def away(self) -> bool:
        """Whether the last use of the store failed."""
        return self._since is not None

    @property
    def away_s(self) -> float:
        """For how many seconds it has been away; 0.0: it is not."""
        since = self._since
        return 0.0 if since is None else self._clock() - since

    def failed(self, error: BaseException | str) -> None:
        """The store could not be used. The first failure is logged, by the error's class alone: drivers quote addresses."""
        with self._lock:
            if self._since is not None:
                return
            self._since = self._clock()
            self.outages += 1
        rule = "refused" if self.fail == "closed" else "limited by each process alone"
        reason = error if isinstance(error, str) else type(error).__name__
        event = Event(
            f"shared state is unavailable; requests under shared limits are {rule}",
            store=self.where,
            fail=self.fail,
            error=reason,
        )
        log.warning(event)

    def recovered(self) -> None:
        """The store was used."""
        if self._since is None:
            return
        with self._lock:
            since, self._since = self._since, None
        if since is not None:
            log.warning(Event("shared state is back", store=self.where, away_s=round(self._clock() - since, 1)))
