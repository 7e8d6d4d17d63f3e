"""Both databases, as for the journal's tests; looks at promises and canaries in the thread that has their connection."""

import threading
import time

from cascade import Cascade
from tests.cascade.journal.conftest import postgres_url, url

__all__ = ["check_monitors", "postgres_url", "url"]


def check_monitors(service: Cascade) -> None:
    """Looks at the promises and canaries of a service now, as its thread does every half minute."""
    shadower, done = service._shadower, threading.Event()
    assert shadower is not None
    if shadower._thread is None:
        shadower._start()
    deadline = time.monotonic() + 30.0
    while shadower._loop is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)

    def check() -> None:
        try:
            shadower._monitor.check()
        finally:
            done.set()

    shadower._loop.call_soon_threadsafe(check)
    assert done.wait(30.0)
