"""A circuit breaker: stops calling a model that keeps failing, and after a while tries it with a single request."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Literal

from cascade.util.log_events import Event, LimitedLog

BreakerState = Literal["closed", "open", "half_open"]
Admission = Literal["pass", "probe"]
_BUCKETS = 10
_warnings = LimitedLog(logging.getLogger("cascade.models"))


@dataclass(frozen=True, slots=True)
class BreakerRule:
    """Opens where at least ``min_requests`` of the last ``window_s`` seconds ended and ``failure_rate`` of them failed.

    After ``cooldown_s`` seconds it lets a single request through: if that succeeds the breaker closes, else it opens again.
    """

    min_requests: int = 20
    failure_rate: float = 0.5
    window_s: float = 30.0
    cooldown_s: float = 10.0


@dataclass(slots=True, eq=False)
class Breaker:
    """Counts in a ring of buckets, so that every call takes constant time. Safe for threads and event loops.

    Args:
        rule: When it opens, and for how long.
        clock: Returns the time in seconds.
        name: The model's name, for the log.

    Attributes:
        state: "closed" lets requests through, "open" rejects them, "half_open" waits for the outcome of a probe.
        listener: Called with each new state; None: nothing is.
    """

    rule: BreakerRule
    clock: Callable[[], float] = monotonic
    name: str = ""
    state: BreakerState = "closed"
    listener: Callable[[BreakerState], object] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _bucket_s: float = field(init=False)
    _total: list[int] = field(default_factory=lambda: [0] * _BUCKETS)
    _failures: list[int] = field(default_factory=lambda: [0] * _BUCKETS)
    _slot: int = field(init=False)
    _opened: float = 0.0
    _probing: bool = False

    def __post_init__(self) -> None:
        self._bucket_s = self.rule.window_s / _BUCKETS
        self._slot = int(self.clock() / self._bucket_s)

    def admit(self) -> Admission | float:
        """Lets a request through or rejects it.

        Returns:
            "pass" or "probe" for a request that may be sent, after which ``record`` must follow; a number for one that is
            rejected: the seconds until another may be sent.
        """
        if self.state == "closed":
            return "pass"
        with self._lock:
            if self._is_closed():
                return "pass"
            wait_s = self._opened + self.rule.cooldown_s - self.clock()
            if self._probing or (self.state == "open" and wait_s > 0):
                return max(wait_s, 0.0)
            self._probing = True
            self._set_state("half_open")
            return "probe"

    def record(self, admission: Admission, success: bool | None) -> None:
        """Records the outcome of a request.

        While the breaker is open only the probe decides; requests that were in progress when it opened say nothing new.

        Args:
            admission: What ``admit`` returned for the request.
            success: True: it got an answer; False: the provider failed; None: it says nothing about the provider.
        """
        with self._lock:
            if admission == "probe":
                self._probing = False
                if success is None:
                    return
                self._total, self._failures = [0] * _BUCKETS, [0] * _BUCKETS
                self._opened = self.clock()
                self._set_state("closed" if success else "open")
                self._log_state("its probe got an answer" if success else "its probe failed")
            if success is None:
                return
            slot = self._current_bucket()
            self._total[slot] += 1
            if success:
                return
            self._failures[slot] += 1
            total, failures = sum(self._total), sum(self._failures)
            if self.state == "closed" and total >= self.rule.min_requests and failures >= self.rule.failure_rate * total:
                self._opened = self.clock()
                self._set_state("open")
                self._log_state(f"{failures} of {total} requests failed")

    def _set_state(self, state: BreakerState) -> None:
        self.state = state
        if self.listener is not None:
            self.listener(state)

    def _log_state(self, cause: str) -> None:
        fields = {"cooldown_s": self.rule.cooldown_s} if self.state == "open" else {}
        message = "a circuit breaker opened" if self.state == "open" else "a circuit breaker closed"
        _warnings.warning((self.name, self.state), Event(message, model=self.name, cause=cause, **fields))

    def _is_closed(self) -> bool:
        """Checked again under the lock: another thread may have closed it meanwhile."""
        return self.state == "closed"

    def counts(self) -> tuple[int, int]:
        """Returns the requests and the failures in the window."""
        with self._lock:
            self._current_bucket()
            return sum(self._total), sum(self._failures)

    def _current_bucket(self) -> int:
        """The index of the current bucket; those that the clock has passed since the last call are emptied."""
        slot = int(self.clock() / self._bucket_s)
        if slot == self._slot:
            return slot % _BUCKETS
        for stale in range(max(self._slot + 1, slot - _BUCKETS + 1), slot + 1):
            self._total[stale % _BUCKETS] = self._failures[stale % _BUCKETS] = 0
        self._slot = max(self._slot, slot)
        return self._slot % _BUCKETS
