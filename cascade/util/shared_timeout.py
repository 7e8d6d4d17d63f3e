"""One deadline for many waits, with one timer for all of them."""

import asyncio
from types import TracebackType
from typing import Any


class SharedTimeout:
    """Limits each wait inside ``with`` as ``asyncio.timeout_at`` would, but sets a timer once and not for each wait.

    A stream waits for thousands of pieces; what its consumer does between two of them must not be cancelled. It can be
    entered again and again, in one task at a time. ``close`` it, so that no timer is left.

    Args:
        deadline: In the time of the running event loop.
    """

    def __init__(self, deadline: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[Any] | None = None  # that waits
        self._cancelling = 0  # requests to cancel it before it began to wait
        self._has_cancelled = False
        self._timer: asyncio.Handle | None = self._loop.call_at(deadline, self._expire)

    def __enter__(self) -> None:
        task = self._task = asyncio.current_task()
        assert task is not None
        self._cancelling = task.cancelling()
        if self._timer is None:  # the deadline is past: what is there already can still be taken
            self._timer = self._loop.call_soon(self._expire)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        task, self._task = self._task, None
        if self._has_cancelled:
            self._has_cancelled = False
            assert task is not None
            if task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
                raise TimeoutError from error

    def _expire(self) -> None:
        self._timer = None
        if self._task is not None:
            self._has_cancelled = True
            self._task.cancel()

    def close(self) -> None:
        """Removes the timer."""
        if self._timer is not None:
            self._timer.cancel()
