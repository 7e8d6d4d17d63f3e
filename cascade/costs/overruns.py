"""Providers that count more tokens than a request could have: from then on the model's estimates are raised by as much."""

import logging
import threading
from dataclasses import dataclass, field

from judges import Usage

log = logging.getLogger("cascade.costs")

_GENERATION = 200  # requests; what two generations have not seen again is forgotten
_LARGE = 1_000  # tokens: in a shorter prompt what a provider puts before it would look like a ratio


@dataclass(slots=True)
class _Excess:
    """The most by which counts have exceeded the estimates, in tokens and as ratios."""

    input_tokens: int = 0
    input_ratio: float = 1.0
    output_tokens: int = 0
    usd_ratio: float = 1.0


@dataclass(slots=True, kw_only=True)
class Overruns:
    """By how much one model's provider has exceeded the estimates; shared by all runs, safe for threads.

    Args:
        name: The model's name in the policy, for the log.
    """

    name: str = ""
    _now: _Excess = field(default_factory=_Excess)
    _before: _Excess = field(default_factory=_Excess)
    _seen: int = 0
    _raised: bool = False
    _in_flight: dict[int, None] = field(default_factory=dict)
    _too_low: set[int] = field(default_factory=set)  # those in flight whose estimates were made before the latest raise
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def raised(self, most: Usage) -> Usage:
        """The most that a request may be counted as, where ``most`` is what it can have by its bytes and ``max_tokens``."""
        if not self._raised:
            return most
        a, b = self._now, self._before
        read = most.input_tokens
        ratio = max(a.input_ratio, b.input_ratio)
        return Usage(
            max(read + max(a.input_tokens, b.input_tokens), int(read * ratio) + 1 if ratio > 1.0 else 0),
            most.output_tokens + max(a.output_tokens, b.output_tokens),
            cache_write_1h_tokens=most.cache_write_1h_tokens,
        )

    @property
    def usd_ratio(self) -> float:
        """By how much the provider's own costs have exceeded the estimates; 1.0 where they have not."""
        return max(self._now.usd_ratio, self._before.usd_ratio) if self._raised else 1.0

    def started(self, request: object) -> None:
        """Counts a request that is about to be sent; ``ended`` must follow."""
        self._in_flight[id(request)] = None

    def ended(self, request: object) -> None:
        """Counts it no more."""
        self._in_flight.pop(id(request), None)
        if self._raised:
            self._too_low.discard(id(request))

    @property
    def too_low(self) -> int:
        """How many requests in flight were estimated before the estimates were last raised."""
        return len(self._too_low)

    def observe(self, most: Usage, usage: Usage | None, estimate_usd: float, stated_usd: float | None = None) -> None:
        """Compares what a provider has counted with what the request could have.

        Args:
            most: The most tokens of the request, before anything was raised.
            usage: What the provider counted; None: unknown.
            estimate_usd: What was reserved.
            stated_usd: The provider's own cost; None where it states none.
        """
        extra_in = usage.input_tokens - most.input_tokens if usage is not None else 0
        extra_out = usage.output_tokens - most.output_tokens if usage is not None else 0
        extra_usd = stated_usd is not None and 0 < estimate_usd < stated_usd
        if extra_in <= 0 and extra_out <= 0 and not extra_usd and not self._raised:
            return
        with self._lock:
            self._seen += 1
            if self._seen > _GENERATION:
                self._before, self._now, self._seen = self._now, _Excess(), 0
            raised_before = self.raised(most), self.usd_ratio
            now = self._now
            if extra_in > 0:
                now.input_tokens = max(now.input_tokens, extra_in)
                if most.input_tokens >= _LARGE:
                    now.input_ratio = max(now.input_ratio, 1 + extra_in / most.input_tokens)
            now.output_tokens = max(now.output_tokens, extra_out)
            if extra_usd and stated_usd is not None:
                now.usd_ratio = max(now.usd_ratio, self.usd_ratio * stated_usd / estimate_usd)
            self._raised = self._raised or extra_in > 0 or extra_out > 0 or extra_usd
            grew = (self.raised(most), self.usd_ratio) != raised_before
            if grew:
                self._too_low = set(self._in_flight.copy())
        if grew:
            log.warning(
                "%s: the provider counts more than the request could have (%s); its estimates are raised by as much",
                self.name,
                f"${stated_usd:.6g} where ${estimate_usd:.6g} were estimated" if extra_usd else _beyond(extra_in, extra_out),
            )


def _beyond(extra_in: int, extra_out: int) -> str:
    parts = [
        f"{extra} tokens of {kind} beyond it" for kind, extra in (("input", extra_in), ("output", extra_out)) if extra > 0
    ]
    return " and ".join(parts)
