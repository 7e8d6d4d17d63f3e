"""The event loop that runs all calls that are not async: one, in a daemon thread, so that they share connections."""

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_loop: asyncio.AbstractEventLoop | None = None
_loop_lock = threading.Lock()
_parents_loops: list[asyncio.AbstractEventLoop] = []
"""Loops of the parent, in a forked child. They are never closed, since that would change the selector that both share."""


def background_loop() -> asyncio.AbstractEventLoop:
    """The loop; the first call starts it."""
    global _loop
    with _loop_lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="cascade", daemon=True).start()
        return _loop


def wait_for(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine in that loop and waits for it.

    Args:
        coroutine: What to run.

    Returns:
        Its result.

    Raises:
        BaseException: What the coroutine raises; or KeyboardInterrupt here, which also cancels the coroutine.
    """
    future = asyncio.run_coroutine_threadsafe(coroutine, background_loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()  # Ctrl-C in the caller must not leave a run behind that goes on spending
        raise


def _start_again() -> None:
    """In a forked child: the loop's thread does not exist there, so that the next call starts another loop."""
    global _loop, _loop_lock
    _loop_lock = threading.Lock()
    if _loop is not None:
        _parents_loops.append(_loop)
        _loop = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_again)
