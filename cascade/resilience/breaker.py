"""A circuit breaker: a model that keeps failing is left alone for a while, then tried with one request."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Literal

BreakerState = Literal["closed", "open", "half_open"]
Admission = Literal["pass", "probe"]
_BUCKETS = 10


@dataclass(frozen=True, slots=True)
class BreakerRule:
    """Opens where at least ``min_requests`` of the last ``window_s`` seconds ended and ``failure_rate`` of them failed.

    After ``cooldown_s`` seconds it lets a single request through: if that succeeds the breaker closes, else it opens again.
    """

    min_requests: int = 20
    failure_rate: float = 0.5
    window_s: float = 30.0
    cooldown_s: float = 10.0


class Breaker:
    """Counts in a ring of buckets, so that every call takes constant time. Safe for threads and event loops.

    ``listener`` is called with each new ``state``.
    """

    __slots__ = (
        "_bucket_s",
        "_clock",
        "_failed",
        "_lock",
        "_opened",
        "_probing",
        "_slot",
        "_total",
        "listener",
        "rule",
        "state",
    )

    def __init__(self, rule: BreakerRule, clock: Callable[[], float] = monotonic) -> None:
        self.rule, self._clock = rule, clock
        self.state: BreakerState = "closed"
        self.listener: Callable[[BreakerState], object] | None = None
        self._lock = threading.Lock()
        self._bucket_s = rule.window_s / _BUCKETS
        self._total, self._failed = [0] * _BUCKETS, [0] * _BUCKETS
        self._slot = int(clock() / self._bucket_s)
        self._opened = 0.0
        self._probing = False

    def admit(self) -> Admission | float:
        """ "pass" or "probe" let a request through, and ``ended`` must follow; a number refuses: seconds to wait."""
        if self.state == "closed":
            return "pass"
        with self._lock:
            if self._closed():
                return "pass"
            left = self._opened + self.rule.cooldown_s - self._clock()
            if self._probing or (self.state == "open" and left > 0):
                return max(left, 0.0)
            self._probing = True
            self._become("half_open")
            return "probe"

    def ended(self, admission: Admission, well: bool | None) -> None:
        """The request got an answer (True), failed by the provider's fault (False), or says nothing of it (None).

        Only the probe decides about a breaker that is open; what was under way when it opened says nothing new.
        """
        with self._lock:
            if admission == "probe":
                self._probing = False
                if well is None:
                    return
                self._total, self._failed = [0] * _BUCKETS, [0] * _BUCKETS
                self._opened = self._clock()
                self._become("closed" if well else "open")
            if well is None:
                return
            slot = self._now()
            self._total[slot] += 1
            if well:
                return
            self._failed[slot] += 1
            total, failed = sum(self._total), sum(self._failed)
            if self.state == "closed" and total >= self.rule.min_requests and failed >= self.rule.failure_rate * total:
                self._opened = self._clock()
                self._become("open")

    def _become(self, state: BreakerState) -> None:
        self.state = state
        if self.listener is not None:
            self.listener(state)

    def _closed(self) -> bool:
        """Asked again under the lock: another thread may have closed it meanwhile."""
        return self.state == "closed"

    def counts(self) -> tuple[int, int]:
        """Requests and failures in the window."""
        with self._lock:
            self._now()
            return sum(self._total), sum(self._failed)

    def _now(self) -> int:
        """The bucket of the present; those that the clock has passed since are emptied."""
        slot = int(self._clock() / self._bucket_s)
        if slot == self._slot:
            return slot % _BUCKETS
        for stale in range(max(self._slot + 1, slot - _BUCKETS + 1), slot + 1):
            self._total[stale % _BUCKETS] = self._failed[stale % _BUCKETS] = 0
        self._slot = max(self._slot, slot)
        return self._slot % _BUCKETS
