"""How fast one model is asked: one pace for all workers, slowed by what the provider says and quickened by its answers."""

import asyncio
from collections import deque

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 60.0


class AdaptiveLimiter:
    """How many requests may be under way at once, at most ``most``, and until when none may be sent.

    Additive increase, multiplicative decrease: a refusal (429, overloaded) halves the window, once for all requests that
    were under way together, and every answer widens it a little. Where the provider says how long to wait, nobody asks
    before; where it does not, the wait doubles with each refusal until something is answered again.
    """

    def __init__(self, most: int) -> None:
        self.most, self.window, self.active = most, float(most), 0
        self.refusals = 0  # since the last answer, requests under way together counted once
        self._clear_at = self._cut_at = float("-inf")
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def turn(self) -> float:
        """Waits until a request may be sent; the moment, for ``answered``, ``refused`` or ``over``."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._waiting or self.active >= int(self.window) or now < self._clear_at:
            place = loop.create_future()
            self._waiting.append(place)
            self._wake()
            try:
                await place
            except asyncio.CancelledError:
                if place.done() and not place.cancelled():
                    self.over()
                raise
            return loop.time()
        self.active += 1
        return now

    @property
    def pause_s(self) -> float:
        """For how many seconds nobody may ask yet."""
        return max(0.0, self._clear_at - asyncio.get_running_loop().time())

    def answered(self) -> None:
        """A request was answered."""
        self.refusals = 0
        if self.window < self.most:
            self.window = min(self.most, self.window + 0.05 + 1 / self.window)
        self.over()

    def refused(self, began: float, retry_after_s: float | None) -> None:
        """A request that was sent at ``began`` was refused for being too many."""
        now = asyncio.get_running_loop().time()
        if began >= self._cut_at:
            self._cut_at = now
            self.window = max(1.0, self.window / 2)
            self.refusals += 1
            pause = min(_FIRST_PAUSE_S * 2 ** min(self.refusals - 1, 20), _LONGEST_PAUSE_S)
            self._clear_at = max(self._clear_at, now + (pause if retry_after_s is None else 0.0))
        if retry_after_s is not None:
            self._clear_at = max(self._clear_at, now + retry_after_s)
        self.over()

    def over(self) -> None:
        """A request ended in a way that says nothing of the pace."""
        self.active -= 1
        self._wake()

    def release_all(self) -> None:
        """Lets everybody go at once, pause or not: the run is over, and nobody will ask."""
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                self.active += 1
                place.set_result(None)

    def _wake(self) -> None:
        """Lets as many waiting requests go as may go now, and comes back when the pause is over."""
        loop = asyncio.get_running_loop()
        wait = self._clear_at - loop.time()
        if wait > 0:
            if self._waiting and self._timer is None:
                self._timer = loop.call_later(wait, self._again)
            return
        while self._waiting and self.active < int(self.window):
            place = self._waiting.popleft()
            if not place.done():
                self.active += 1
                place.set_result(None)

    def _again(self) -> None:
        self._timer = None
        self._wake()
