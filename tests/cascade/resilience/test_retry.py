"""The retry loop: what is tried again, how long it waits, and when it stops."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.models.protocol import ModelError
from cascade.resilience.breaker import BreakerRule
from cascade.resilience.deadline import CANCEL_WAIT_S, deadline_share, run_until
from cascade.resilience.guard import HEDGE_FROM, Guard, Retry
from cascade.resilience.retry import backoff_s, call_with_retries
from judges import Usage

FAST = Retry(attempts=3, initial_backoff_s=0.0, max_backoff_s=0.0)


def fault(retryable: bool = True, **more: float) -> ModelError:
    """A provider's fault."""
    return ModelError("m: HTTP 503", model="m", retryable=retryable, **more)  # type: ignore[arg-type]


def script(*replies: object) -> tuple[Callable[[], Awaitable[object]], list[object]]:
    """Gives the replies in turn; an exception is raised. Beside it what was given."""
    left, requests = list(replies), []

    async def once() -> object:
        reply = left.pop(0)
        requests.append(reply)
        if isinstance(reply, BaseException):
            raise reply
        return reply

    return once, requests


def tried(guard: Guard, once: Callable[[], Awaitable[object]], until_in: float | None = None) -> object:
    """``call_with_retries`` in a loop of its own."""

    async def main() -> object:
        until = None if until_in is None else asyncio.get_running_loop().time() + until_in
        return await call_with_retries(guard, "m", once, until)

    return asyncio.run(main())


@given(st.integers(1, 12), st.floats(0, 1), st.floats(0, 100), st.floats(0, 100))
def test_pauses_stay_within_their_bounds(attempt: int, fraction: float, first: float, most: float) -> None:
    """Full jitter: from nothing to the doubled first pause, never above the most."""
    pause = backoff_s(Retry(20, first, most), attempt, None, lambda: fraction)
    assert pause is not None
    assert 0 <= pause <= min(most, first * 2 ** (attempt - 1)) + 1e-9


def test_the_provider_may_ask_for_a_wait() -> None:
    """It is kept, with the jitter on top; one that is too long ends the attempts, as their number does."""
    retry = Retry(3, 1.0, 8.0, 30.0)
    assert backoff_s(retry, 1, 5.0, lambda: 0.5) == 5.5
    assert backoff_s(retry, 1, 0.0, lambda: 0.0) == 0.0
    assert backoff_s(retry, 1, 31.0) is None
    assert backoff_s(retry, 3, None) is None


def test_faults_that_may_pass_are_tried_again() -> None:
    """Two faults and an answer: three requests."""
    once, requests = script(fault(), fault(), "51")
    assert tried(Guard(FAST), once) == "51"
    assert len(requests) == 3


def test_the_last_fault_is_raised() -> None:
    """After as many requests as are allowed."""
    last = fault()
    once, requests = script(fault(), fault(), last, "never")
    with pytest.raises(ModelError) as raised:
        tried(Guard(FAST), once)
    assert raised.value is last
    assert len(requests) == 3


def test_a_callers_mistake_is_final() -> None:
    """One request is sent, and the breaker does not count it."""
    guard = Guard.of(retry=FAST, breaker=BreakerRule(min_requests=1))
    once, requests = script(fault(retryable=False), "never")
    with pytest.raises(ModelError):
        tried(guard, once)
    assert len(requests) == 1
    assert guard.health().state == "closed"
    assert guard.health().requests == 0


def test_no_request_begins_after_the_time_is_up() -> None:
    """A pause that does not fit is not waited for."""
    once, requests = script(fault(retry_after_s=5.0), "never")
    with pytest.raises(ModelError):
        tried(Guard(Retry(3, 0.0, 0.0)), once, until_in=1.0)
    assert len(requests) == 1


def test_the_time_is_shared_with_those_who_may_be_asked_after() -> None:
    """Three places have a third each; the last has all that is left."""

    async def main() -> None:
        now = asyncio.get_running_loop().time()
        assert deadline_share(None, 2) is None
        assert deadline_share(now + 3.0, 0) == now + 3.0
        shared = deadline_share(now + 3.0, 2)
        assert shared is not None
        assert shared - now == pytest.approx(1.0, abs=0.05)

    asyncio.run(main())


def test_an_open_breaker_refuses_at_once() -> None:
    """Without a request, and says for how long; it costs nothing."""
    guard = Guard.of(retry=Retry(1), breaker=BreakerRule(min_requests=2, cooldown_s=60.0))
    once, requests = script(fault(), fault(), "never")
    for _ in range(2):
        with pytest.raises(ModelError, match="503"):
            tried(guard, once)
    with pytest.raises(ModelError, match=r"its circuit breaker is open for another [56]\d\.\d s") as refused:
        tried(guard, once)
    assert len(requests) == 2
    assert refused.value.usage is not None
    assert not refused.value.retryable
    assert guard.health().state == "open"


def test_a_hung_model_does_not_hide_behind_deadlines() -> None:
    """Requests cancelled long after the usual time count as failures; those cancelled early say nothing."""
    guard = Guard.of(retry=Retry(1), breaker=BreakerRule(min_requests=HEDGE_FROM, failure_rate=0.1))

    async def quick() -> str:
        return "51"

    async def hangs() -> str:
        await asyncio.sleep(60)
        return "never"

    async def main() -> None:
        for _ in range(HEDGE_FROM):
            await call_with_retries(guard, "m", quick, None)
        for _ in range(HEDGE_FROM):
            guard.request_started()
            guard.request_ended(0.01)
        for seconds in (0.001, 0.2, 0.2, 0.2):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(call_with_retries(guard, "m", hangs, None), seconds)

    asyncio.run(main())
    assert guard.health().failures == 3
    assert guard.health().in_flight == 0


def test_at_most_so_many_at_once() -> None:
    """The others wait, and the place is free again after a fault."""
    guard = Guard.of(retry=FAST, max_concurrency=2)
    inside, most = 0, 0

    async def once() -> str:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.001)
        inside -= 1
        raise fault(retryable=False)

    async def main() -> None:
        await asyncio.gather(*(call_with_retries(guard, "m", once, None) for _ in range(20)), return_exceptions=True)

    asyncio.run(main())
    assert most == 2


def note_latency(guard: Guard, latency_s: float) -> None:
    """As if so many answers had taken so long."""
    for _ in range(HEDGE_FROM):
        guard.request_started()
        guard.request_ended(latency_s)


def test_a_slow_request_gets_a_second_beside_it() -> None:
    """The quicker one's answer is taken, and the slow one is cancelled."""
    guard = Guard(FAST, hedge=True)
    note_latency(guard, 0.01)
    calls, cancelled = 0, 0

    async def once() -> int:
        nonlocal calls, cancelled
        calls += 1
        mine = calls
        try:
            await asyncio.sleep(30 if mine == 1 else 0.001)
        except asyncio.CancelledError:
            cancelled += 1
            raise
        return mine

    assert tried(guard, once) == 2
    assert (calls, cancelled) == (2, 1)
    assert guard.in_flight == 0


def test_a_quick_request_is_not_hedged() -> None:
    """Nor is one of a model whose latencies are not known yet."""
    for guard in (Guard(FAST, hedge=True), Guard(FAST)):
        once, requests = script("51")
        assert tried(guard, once) == "51"
        assert len(requests) == 1


def test_of_two_faults_the_first_requests_is_told() -> None:
    """A good answer wins over the other request's fault, in either order."""
    guard = Guard(Retry(1), hedge=True)
    note_latency(guard, 0.001)

    def both(first: object, second: object) -> Callable[[], Awaitable[object]]:
        left = [(0.02, first), (0.0, second)]

        async def once() -> object:
            seconds, reply = left.pop(0)
            await asyncio.sleep(seconds)
            if isinstance(reply, BaseException):
                raise reply
            return reply

        return once

    one, two = fault(), fault()
    assert tried(guard, both("slow", two)) == "slow"
    assert tried(guard, both(one, "quick")) == "quick"
    with pytest.raises(ModelError) as raised:
        tried(guard, both(one, two))
    assert raised.value is one


def test_the_fault_that_opened_the_breaker_is_what_is_told() -> None:
    """Not that the retry was refused."""
    guard = Guard.of(retry=FAST, breaker=BreakerRule(min_requests=1))
    once, requests = script(fault(), "never")
    with pytest.raises(ModelError, match="503"):
        tried(guard, once)
    assert len(requests) == 1


@pytest.mark.parametrize("limit", [{"max_concurrency": 1}, {"requests_per_s": 0.1}])
def test_a_place_that_does_not_come_in_time_is_given_up(limit: dict[str, float]) -> None:
    """Without a request, so that another model can be asked; the place of who waits in vain is not lost."""
    guard = Guard.of(retry=FAST, **limit)  # type: ignore[arg-type]
    calls = 0

    async def slow() -> str:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.1)
        return "51"

    async def main() -> None:
        first = asyncio.ensure_future(call_with_retries(guard, "m", slow, None))
        await asyncio.sleep(0)
        with pytest.raises(ModelError, match="not called: ") as refused:
            await call_with_retries(guard, "m", slow, asyncio.get_running_loop().time() + 0.02)
        assert refused.value.usage == Usage()
        assert await first == "51"

    asyncio.run(main())
    assert (calls, guard.in_flight) == (1, 0)
    if guard.concurrency_limiter is not None:
        assert guard.concurrency_limiter._in_use == 0


def test_a_hedged_answers_latency_counts_from_the_first_request() -> None:
    """Else the quick second ones would lower the quantile, and ever more requests would be hedged."""
    guard = Guard(FAST, hedge=True)
    note_latency(guard, 0.05)
    slow = iter([True, False])

    async def once() -> str:
        await asyncio.sleep(30 if next(slow) else 0)
        return "51"

    assert tried(guard, once) == "51"
    assert guard._latencies[-1] >= 0.05


async def stubborn(seconds: float) -> str:
    """Does not let itself be cancelled."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + seconds
    while loop.time() < ends:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(ends - loop.time())
    return "late"


def test_who_does_not_let_itself_be_cancelled_is_left_behind() -> None:
    """At the end of the time, by a cancelled caller, and as a hedge's loser."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await run_until(began + 0.05, stubborn(0.5)) is None
        assert loop.time() - began < 0.05 + CANCEL_WAIT_S + 0.1
        began = loop.time()
        waiting = asyncio.ensure_future(run_until(began + 5, stubborn(0.5)))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert loop.time() - began < CANCEL_WAIT_S + 0.1
        guard = Guard(FAST, hedge=True)
        note_latency(guard, 0.001)
        replies = iter([stubborn(0.5), asyncio.sleep(0, "51")])
        began = loop.time()
        assert await call_with_retries(guard, "m", lambda: next(replies), None) == "51"
        assert loop.time() - began < CANCEL_WAIT_S + 0.1

    asyncio.run(main())


def test_what_ends_in_time_is_given_or_raised() -> None:
    """With the time no more than a bound."""

    async def fails() -> None:
        raise KeyError("x")

    async def main() -> None:
        ends = asyncio.get_running_loop().time() + 5
        assert await run_until(ends, asyncio.sleep(0, "51")) == "51"
        with pytest.raises(KeyError):
            await run_until(ends, fails())

    asyncio.run(main())
