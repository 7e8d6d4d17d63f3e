"""The event loop of all calls that are not async: one, in a daemon thread, so that connections are reused between them."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_loop: asyncio.AbstractEventLoop | None = None
_loop_lock = threading.Lock()


def background_loop() -> asyncio.AbstractEventLoop:
    """The loop; it begins with the first call."""
    global _loop
    with _loop_lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="cascade", daemon=True).start()
        return _loop


def wait_for(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that runs in that loop. Raises what it raises."""
    future = asyncio.run_coroutine_threadsafe(coroutine, background_loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()  # Ctrl-C in the caller must not leave a run behind that goes on spending
        raise
