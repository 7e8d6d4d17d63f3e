"""The state of one model that all runs of a Cascade share: breaker, limits, latencies, requests in progress."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from .breaker import Breaker, BreakerRule, BreakerState
from .failure_log import FailureLog
from .limiters import ConcurrencyLimiter, RateLimiter

HEDGE_FROM = 20  # the least number of latencies for which a request is hedged
OVERDUE = 3.0  # times the 95th percentile
_LATENCIES = 200


@dataclass(frozen=True, slots=True)
class Retry:
    """When a failed request is retried.

    The n-th pause is random in [0, min(max_backoff_s, initial_backoff_s * 2^(n-1))] (full jitter), after the wait that the
    provider asks for.

    Attributes:
        attempts: The most requests for one answer, the first included.
        initial_backoff_s: The longest first pause in seconds.
        max_backoff_s: The longest pause in seconds.
        retry_after_s: The longest wait that the provider may ask for, in seconds; a longer one makes the fault final.
    """

    attempts: int = 3
    initial_backoff_s: float = 0.25
    max_backoff_s: float = 8.0
    retry_after_s: float = 30.0


@dataclass(frozen=True, slots=True)
class ModelHealth:
    """The health of a model.

    Attributes:
        state: The breaker's state: "closed" lets requests through; None: the model has no breaker.
        requests: Requests that ended in the breaker's window.
        failures: Those of them that failed.
        in_flight: Requests in progress.
        p95_s: The 95th percentile of the latest latencies in seconds; None: too few are known.
    """

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
    concurrency_limiter: ConcurrencyLimiter | None = None
    rate_limiter: RateLimiter | None = None
    hedge: bool = False
    in_flight: int = 0
    failures: FailureLog = field(default_factory=FailureLog)
    _latencies: deque[float] = field(default_factory=lambda: deque(maxlen=_LATENCIES))
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
        name: str = "",
        clock: Callable[[], float] = monotonic,
    ) -> "Guard":
        """Makes a guard of a policy's settings; None leaves a protection out."""
        return cls(
            retry=retry or Retry(),
            breaker=None if breaker is None else Breaker(breaker, clock, name),
            concurrency_limiter=None if max_concurrency is None else ConcurrencyLimiter(max_concurrency),
            rate_limiter=None if requests_per_s is None else RateLimiter(requests_per_s, clock),
            hedge=hedge,
        )

    def request_started(self) -> None:
        """Counts a request that begins."""
        with self._lock:
            self.in_flight += 1

    def request_ended(self, latency_s: float | None) -> None:
        """Counts a request that ended; ``latency_s`` is its latency in seconds, None where it got no answer."""
        with self._lock:
            self.in_flight -= 1
            if latency_s is not None:
                self._latencies.append(latency_s)

    def p95_s(self) -> float | None:
        """Returns the 95th percentile of the latest latencies in seconds; None where fewer than HEDGE_FROM are known."""
        with self._lock:
            latencies = sorted(self._latencies)
        return latencies[int(0.95 * (len(latencies) - 1) + 0.5)] if len(latencies) >= HEDGE_FROM else None

    def is_overdue(self, seconds: float) -> bool:
        """Returns whether a request that has no answer after ``seconds`` suggests that the model hangs."""
        p95_s = self.p95_s()
        return p95_s is not None and seconds > OVERDUE * p95_s

    def is_idle(self) -> bool:
        """Whether a request that has time to wait may be sent: the model is healthy, and half of its limits are free."""
        breaker, slots, rate = self.breaker, self.concurrency_limiter, self.rate_limiter
        return (
            (breaker is None or breaker.state == "closed")
            and (slots is None or slots.is_half_free())
            and (rate is None or rate.is_half_free())
        )

    def health(self) -> ModelHealth:
        """Returns the model's health."""
        requests, failures = self.breaker.counts() if self.breaker is not None else (0, 0)
        state = self.breaker.state if self.breaker is not None else None
        return ModelHealth(state, requests, failures, self.in_flight, self.p95_s())
