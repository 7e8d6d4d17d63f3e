"""How many requests of one model may be under way at once, and how many may begin in a second."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic


class Turnstile:
    """Lets at most ``most`` in at once, the others in the order they came; for any number of event loops and threads."""

    __slots__ = ("_inside", "_lock", "_most", "_waiting")

    def __init__(self, most: int) -> None:
        self._most, self._inside = most, 0
        self._lock = threading.Lock()
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()

    async def enter(self) -> None:
        """Waits for a free place; ``leave`` must follow."""
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


class Pace:
    """At most ``per_s`` begin in a second, evenly spaced after a burst of one second's worth (GCRA)."""

    __slots__ = ("_clock", "_due", "_lock", "_step")

    def __init__(self, per_s: float, clock: Callable[[], float] = monotonic) -> None:
        self._step, self._clock = 1.0 / per_s, clock
        self._lock = threading.Lock()
        self._due = clock()

    def wait_s(self) -> float:
        """Takes the next place and gives the seconds until it is due."""
        with self._lock:
            now = self._clock()
            burst = max(1.0 - self._step, 0.0)
            self._due = max(self._due, now - burst) + self._step
            return max(0.0, self._due - self._step - now)
