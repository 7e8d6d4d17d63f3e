"""What is known and allowed of one model, shared by all runs of a Cascade: breaker, limits, latencies, what is under way."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from .breaker import Breaker, BreakerRule, BreakerState
from .limiters import ConcurrencyLimiter, RateLimiter

HEDGE_FROM = 20  # latencies that must be known before a request is hedged
OVERDUE = 3.0  # times the 95th percentile
_REMEMBERED = 200


@dataclass(frozen=True, slots=True)
class Retry:
    """The n-th pause is drawn evenly from [0, min(max_backoff_s, initial_backoff_s * 2^(n-1))] (full jitter), seconds.

    ``attempts`` counts the first. Where the provider says how long to wait, that is waited if it is at most
    ``retry_after_s``; a longer wait is not worth it, and the fault is final.
    """

    attempts: int = 3
    initial_backoff_s: float = 0.25
    max_backoff_s: float = 8.0
    retry_after_s: float = 30.0


@dataclass(frozen=True, slots=True)
class ModelHealth:
    """How a model does: the breaker's state ("closed" lets requests through; None: it has none), requests and failures in
    the breaker's window, requests under way, and the 95th percentile of the latest latencies in seconds (None: too few)."""

    state: BreakerState | None
    requests: int
    failures: int
    in_flight: int
    p95_s: float | None


@dataclass(slots=True)
class Guard:
    """One model's shared state."""

    retry: Retry = field(default_factory=Retry)
    breaker: Breaker | None = None
    turnstile: ConcurrencyLimiter | None = None
    pace: RateLimiter | None = None
    hedge: bool = False
    in_flight: int = 0
    _latencies: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(
        cls,
        *,
        retry: Retry | None = None,
        breaker: BreakerRule | None = None,
        max_concurrency: int | None = None,
        requests_per_s: float | None = None,
        hedge: bool = False,
        clock: Callable[[], float] = monotonic,
    ) -> "Guard":
        """A guard by a policy's settings; None leaves a protection out."""
        return cls(
            retry or Retry(),
            None if breaker is None else Breaker(breaker, clock),
            None if max_concurrency is None else ConcurrencyLimiter(max_concurrency),
            None if requests_per_s is None else RateLimiter(requests_per_s, clock),
            hedge,
        )

    def entered(self) -> None:
        """A request begins."""
        with self._lock:
            self.in_flight += 1

    def left(self, latency_s: float | None) -> None:
        """It ended; ``latency_s`` where it got an answer."""
        with self._lock:
            self.in_flight -= 1
            if latency_s is not None:
                self._latencies.append(latency_s)

    def p95_s(self) -> float | None:
        """The 95th percentile of the latest latencies in seconds; None where fewer than HEDGE_FROM are known."""
        with self._lock:
            known = sorted(self._latencies)
        return known[int(0.95 * (len(known) - 1) + 0.5)] if len(known) >= HEDGE_FROM else None

    def overdue(self, seconds: float) -> bool:
        """Whether a request that got no answer for so long looks like one of a model that hangs."""
        usual = self.p95_s()
        return usual is not None and seconds > OVERDUE * usual

    def health(self) -> ModelHealth:
        """The state of things."""
        requests, failures = self.breaker.counts() if self.breaker is not None else (0, 0)
        state = self.breaker.state if self.breaker is not None else None
        return ModelHealth(state, requests, failures, self.in_flight, self.p95_s())
