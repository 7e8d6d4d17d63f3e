"""Patterns of others are stopped by the CPU time that they take, whatever else the machine does."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import thread_time

import pytest

from judges.patterns import is_found

# Each further letter takes 1.6 times the time.
COSTLY = "^(?:a|aa)+$"


@contextmanager
def busy_threads(count: int = 3) -> Iterator[None]:
    """Threads that do nothing but take CPU time, which the clock of ``regex`` counts, too."""
    done = threading.Event()

    def spin() -> None:
        while not done.is_set():
            sum(range(1000))

    threads = [threading.Thread(target=spin) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


def costly_text(seconds: float) -> tuple[str, float]:
    """A text that COSTLY takes at least so long to reject, and how long it takes."""
    for letters in range(15, 60):
        text = "a" * letters + "!"
        began = thread_time()
        assert not is_found(COSTLY, text, 60)
        if (took := thread_time() - began) >= seconds:
            return text, took
    raise AssertionError("the pattern costs nothing")


def is_stopped(text: str, seconds: float) -> bool:
    """Whether a search takes longer than it may."""
    try:
        assert not is_found(COSTLY, text, seconds)
    except TimeoutError:
        return True
    return False


def test_other_threads_do_not_stop_a_search() -> None:
    """Their time is not the pattern's: if it were, eight times what the search takes would stop every one of five."""
    text, took = costly_text(0.01)
    with busy_threads(7):
        assert not all(is_stopped(text, 4 * took) for _ in range(5))


def test_a_search_that_takes_too_long_is_stopped() -> None:
    """Also in a busy process, and within a small multiple of its limit."""
    for threads in (0, 3):
        with busy_threads(threads):
            began = thread_time()
            with pytest.raises(TimeoutError):
                is_found(COSTLY, "a" * 200 + "!", 0.02)
            assert thread_time() - began < 0.2
