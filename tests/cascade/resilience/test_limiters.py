"""Limits of concurrency and of rate."""

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.resilience.limiters import ConcurrencyLimiter, RateLimiter


def test_never_more_inside_than_allowed_and_first_come_first_served() -> None:
    """Fifty come at once, three are let in at a time, in their order."""
    inside, most, order = 0, 0, []

    async def visit(limiter: ConcurrencyLimiter, number: int) -> None:
        nonlocal inside, most
        await limiter.acquire()
        inside += 1
        most = max(most, inside)
        order.append(number)
        await asyncio.sleep(0)
        inside -= 1
        limiter.release()

    async def main() -> None:
        limiter = ConcurrencyLimiter(3)
        await asyncio.gather(*(visit(limiter, i) for i in range(50)))
        assert limiter._in_use == 0

    asyncio.run(main())
    assert most == 3
    assert order == list(range(50))


@pytest.mark.parametrize("after_turns", [0, 1, 2, 3])
def test_who_is_cancelled_while_waiting_leaves_no_place_taken(after_turns: int) -> None:
    """At any time of the cancellation, also just as the slot is handed over."""

    async def main() -> None:
        limiter = ConcurrencyLimiter(1)
        await limiter.acquire()
        waiting = [asyncio.ensure_future(limiter.acquire()) for _ in range(3)]
        await asyncio.sleep(0)
        limiter.release()
        for _ in range(after_turns):
            await asyncio.sleep(0)
        waiting[0].cancel()
        results = await asyncio.gather(waiting[0], return_exceptions=True)
        if not isinstance(results[0], asyncio.CancelledError):
            limiter.release()
        for other in waiting[1:]:
            await asyncio.wait_for(other, 1)
            limiter.release()
        assert limiter._in_use == 0

    asyncio.run(main())


def test_loops_in_threads_share_the_places() -> None:
    """Two event loops in two threads count together."""
    limiter, lock = ConcurrencyLimiter(2), threading.Lock()
    inside, most = 0, 0

    async def visit() -> None:
        nonlocal inside, most
        await limiter.acquire()
        with lock:
            inside += 1
            most = max(most, inside)
        await asyncio.sleep(0.001)
        with lock:
            inside -= 1
        limiter.release()

    async def many() -> None:
        await asyncio.wait_for(asyncio.gather(*(visit() for _ in range(40))), 20)

    threads = [threading.Thread(target=lambda: asyncio.run(many())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 2
    assert limiter._in_use == 0


@given(st.floats(0.2, 50.0), st.lists(st.floats(0.0, 3.0), min_size=1, max_size=200))
def test_no_second_begins_more_than_the_rate(per_s: float, pauses: list[float]) -> None:
    """Not after an idle time either, in their order; below one a second the time between two is that of the rate."""
    now = 0.0
    pace = RateLimiter(per_s, lambda: now)
    due = []
    for pause in pauses:
        now += pause
        wait = pace.reserve()
        assert wait is not None
        due.append(now + wait)
    assert due == sorted(due)
    most, window = max(1, int(per_s)), max(1.0, 1.0 / per_s)
    assert all(later - earlier >= window - 1e-6 for earlier, later in zip(due, due[most:], strict=False))


def test_a_place_that_is_due_too_late_is_not_taken() -> None:
    """Who gives up at once leaves the place to another."""
    now = 0.0
    pace = RateLimiter(1.0, lambda: now)
    assert pace.reserve() == 0.0
    assert pace.reserve(within_s=0.5) is None
    assert pace.reserve(within_s=2.0) == 1.0


def test_within_the_rate_nobody_waits() -> None:
    """One request a second passes a limit of two a second at once."""
    now = 0.0
    pace = RateLimiter(2.0, lambda: now)
    for _ in range(10):
        assert pace.reserve() == 0.0
        now += 1.0
