"""How many requests of one model may be under way at once, and how many may begin in a second."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from math import inf
from time import monotonic


class ConcurrencyLimiter:
    """Lets at most ``most`` in at once, the others in the order they came; for any number of event loops and threads."""

    __slots__ = ("_inside", "_lock", "_most", "_waiting")

    def __init__(self, most: int) -> None:
        self._most, self._inside = most, 0
        self._lock = threading.Lock()
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()

    async def enter(self) -> None:
        """Waits for a free place; ``cancel_and_wait`` must follow."""
        with self._lock:
            if self._inside < self._most:
                self._inside += 1
                return
            loop = asyncio.get_running_loop()
            mine: asyncio.Future[None] = loop.create_future()
            self._waiting.append((loop, mine))
        try:
            await mine
        except asyncio.CancelledError:
            with self._lock, suppress(ValueError):
                self._waiting.remove((loop, mine))
                raise
            # It was handed the place while it was being cancelled.
            self.leave()
            raise

    def leave(self) -> None:
        """Frees the place, or hands it to who has waited longest."""
        with self._lock:
            while self._waiting:
                loop, next_one = self._waiting.popleft()
                with suppress(RuntimeError):  # a loop that was closed waits for nothing
                    loop.call_soon_threadsafe(_wake, next_one)
                    return
            self._inside -= 1


def _wake(waiting: "asyncio.Future[None]") -> None:
    if not waiting.done():
        waiting.set_result(None)


class RateLimiter:
    """In any second at most ``per_s`` begin, rounded down; below one a second, one every 1 / ``per_s`` seconds."""

    __slots__ = ("_clock", "_last", "_lock", "_window_s")

    def __init__(self, per_s: float, clock: Callable[[], float] = monotonic) -> None:
        self._window_s, self._clock = max(1.0, 1.0 / per_s), clock
        self._lock = threading.Lock()
        self._last: deque[float] = deque(maxlen=max(1, int(per_s)))  # when the latest ones begin

    def wait_s(self, within_s: float = inf) -> float | None:
        """Takes the next place and says in how many seconds it is due; where in ``within_s`` or more, takes none: None."""
        with self._lock:
            now = begins = self._clock()
            if len(self._last) == self._last.maxlen:
                begins = max(now, self._last[0] + self._window_s)
            if begins - now >= within_s:
                return None
            self._last.append(begins)
            return begins - now
