"""The request rate of one model: shared by all workers, lowered by rate-limit errors and raised by answers."""

import asyncio
from collections import deque

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 60.0


class AdaptiveLimiter:
    """Limits the requests under way at once by additive increase and multiplicative decrease.

    A rejection (429, overloaded) halves the window, once for all requests that were under way together; every answer
    widens it a little. No request is sent before the provider's ``Retry-After`` is over; where the provider names no time,
    the pause doubles with each rejection until a request is answered.

    Attributes:
        max_concurrency: The largest window.
        window: How many requests may be under way now.
        active: How many are under way.
        rejections: Rejections since the last answer; requests under way together count once.
    """

    def __init__(self, max_concurrency: int) -> None:
        self.max_concurrency, self.window, self.active = max_concurrency, float(max_concurrency), 0
        self.rejections = 0  # since the last answer, requests under way together counted once
        self._paused_until = self._halved_at = float("-inf")
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def acquire(self) -> float:
        """Waits until a request may be sent.

        Returns:
            The time at which it is sent, which ``on_rejection`` needs. Call ``on_answer``, ``on_rejection`` or ``release``
            once the request is over.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._waiters or self.active >= int(self.window) or now < self._paused_until:
            waiter = loop.create_future()
            self._waiters.append(waiter)
            self._release_waiters()
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self.release()
                raise
            return loop.time()
        self.active += 1
        return now

    @property
    def pause_s(self) -> float:
        """The seconds until a request may be sent again."""
        return max(0.0, self._paused_until - asyncio.get_running_loop().time())

    def on_answer(self) -> None:
        """Ends a request that was answered."""
        self.rejections = 0
        if self.window < self.max_concurrency:
            self.window = min(self.max_concurrency, self.window + 0.05 + 1 / self.window)
        self.release()

    def on_rejection(self, sent_at: float, retry_after_s: float | None) -> None:
        """Ends a request that was rejected by a rate limit.

        Args:
            sent_at: What ``acquire`` returned.
            retry_after_s: The seconds that the provider asks to wait; None where it names none.
        """
        now = asyncio.get_running_loop().time()
        if sent_at >= self._halved_at:
            self._halved_at = now
            self.window = max(1.0, self.window / 2)
            self.rejections += 1
            pause = min(_FIRST_PAUSE_S * 2 ** min(self.rejections - 1, 20), _LONGEST_PAUSE_S)
            self._paused_until = max(self._paused_until, now + (pause if retry_after_s is None else 0.0))
        if retry_after_s is not None:
            self._paused_until = max(self._paused_until, now + retry_after_s)
        self.release()

    def release(self) -> None:
        """Ends a request whose result says nothing about the rate limit."""
        self.active -= 1
        self._release_waiters()

    def release_all(self) -> None:
        """Wakes all waiters at once: the run is over, and none of them will send a request."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                self.active += 1
                waiter.set_result(None)

    def _release_waiters(self) -> None:
        """Wakes as many waiters as may send now; during a pause, sets a timer for its end."""
        loop = asyncio.get_running_loop()
        wait = self._paused_until - loop.time()
        if wait > 0:
            if self._waiters and self._timer is None:
                self._timer = loop.call_later(wait, self._resume)
            return
        while self._waiters and self.active < int(self.window):
            waiter = self._waiters.popleft()
            if not waiter.done():
                self.active += 1
                waiter.set_result(None)

    def _resume(self) -> None:
        self._timer = None
        self._release_waiters()
