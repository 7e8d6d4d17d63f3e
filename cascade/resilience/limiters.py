"""How many requests of one model may be in progress at once, and how many may begin in a second."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from time import monotonic


@dataclass(slots=True, eq=False)
class ConcurrencyLimiter:
    """Allows ``limit`` requests at once, in the order in which they came; for any number of event loops and threads."""

    limit: int
    _in_use: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _waiters: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = field(default_factory=deque)

    async def acquire(self) -> None:
        """Waits for a slot; ``release`` must follow."""
        with self._lock:
            if self._in_use < self.limit:
                self._in_use += 1
                return
            loop = asyncio.get_running_loop()
            waiter: asyncio.Future[None] = loop.create_future()
            self._waiters.append((loop, waiter))
        try:
            await waiter
        except asyncio.CancelledError:
            with self._lock, suppress(ValueError):
                self._waiters.remove((loop, waiter))
                raise
            # It got the slot while it was being cancelled.
            self.release()
            raise

    def is_half_free(self) -> bool:
        """Whether at most half of the slots are in use, and no call waits."""
        with self._lock:
            return not self._waiters and 2 * self._in_use <= self.limit

    def release(self) -> None:
        """Frees the slot, or gives it to the request that has waited longest."""
        with self._lock:
            while self._waiters:
                loop, waiter = self._waiters.popleft()
                with suppress(RuntimeError):  # a closed loop waits for nothing
                    loop.call_soon_threadsafe(_wake, waiter)
                    return
            self._in_use -= 1


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)


@dataclass(slots=True, eq=False)
class RateLimiter:
    """Lets at most ``per_s`` requests begin in any second, rounded down; below one, one every 1 / ``per_s`` seconds."""

    per_s: float
    clock: Callable[[], float] = monotonic
    _window_s: float = field(init=False)
    _starts: deque[float] = field(init=False)  # when the latest ones begin
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._window_s = max(1.0, 1.0 / self.per_s)
        self._starts = deque(maxlen=max(1, int(self.per_s)))

    def is_half_free(self) -> bool:
        """Whether at most half of the requests that may begin in a window have begun."""
        with self._lock:
            begin = self.clock() - self._window_s
            return 2 * sum(start > begin for start in self._starts) <= (self._starts.maxlen or 0)

    def reserve(self, within_s: float = inf) -> float | None:
        """Reserves the next slot.

        Args:
            within_s: The longest wait in seconds.

        Returns:
            The seconds to wait for the slot; None where that is ``within_s`` or more, and no slot is reserved.
        """
        with self._lock:
            now = start = self.clock()
            if len(self._starts) == self._starts.maxlen:
                start = max(now, self._starts[0] + self._window_s)
            if start - now >= within_s:
                return None
            self._starts.append(start)
            return start - now
