"""The one retry loop: breaker and limits before a request, pauses between requests, a second one beside a slow one.

The SDKs' own retries are off. Only what may pass is tried again (``ModelError.retryable``: lost connections, timeouts, 408,
409, 429, 5xx, replies that break the protocol); a caller's mistake (400, 401, 403, 404, 422) never is. Where another model
can be asked in its place, a model is tried again only within its share of the time that is left.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from math import inf
from time import perf_counter
from typing import Any, TypeVar

from cascade.models.protocol import ModelError
from judges import Usage

from .guard import Guard, Retry

T = TypeVar("T")
Once = Callable[[], Awaitable[T]]
LEAVE_S = 0.05
"""Seconds that a cancelled task has to end; one that does not is left behind, since its caller's time is up."""


class CallRejected(ModelError):
    """No request was made: the breaker is open, or no place comes free in time. Costs nothing and is not tried again."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name}: not asked, {why}", model=name, usage=Usage())


def pause_s(
    retry: Retry, attempt: int, retry_after_s: float | None, draw: Callable[[], float] = random.random
) -> float | None:
    """Seconds to wait after failed attempt number ``attempt`` (from 1); None where no further one is worth it."""
    if attempt >= retry.attempts or (retry_after_s is not None and retry_after_s > retry.retry_after_s):
        return None
    jittered = draw() * min(retry.max_backoff_s, retry.initial_backoff_s * 2.0 ** (attempt - 1))
    # All who were told the same time to wait must not come back at once.
    return jittered if retry_after_s is None else retry_after_s + jittered


async def call_with_retries(guard: Guard, name: str, once: Once[T], until: float | None, *, may_hedge: bool = True) -> T:
    """What ``once`` gives, tried again after faults that may pass. Raises the last ModelError, or what else ``once`` raises.

    ``name`` is the model's. No further request begins after ``until``, by the event loop's clock (None: there is no limit).
    """
    attempt, reported = 0, None
    while True:
        attempt += 1
        try:
            if guard.hedge and may_hedge and (after := guard.p95_s()) is not None:
                return await _hedged(guard, name, once, until, after)
            return await _guarded(guard, name, once, until)
        except CallRejected:
            if reported is None:
                raise
            raise reported from None  # that the breaker has opened since tells less than what opened it
        except ModelError as error:
            pause = pause_s(guard.retry, attempt, error.retry_after_s) if error.retryable else None
            if pause is None or pause >= _left_s(until):
                raise
            reported = error
        await asyncio.sleep(pause)


def deadline_share(ends: float | None, others: int) -> float | None:
    """Until when a model may be tried again, by the event loop's clock, where ``others`` could be asked after it: an equal
    share of the time until the deadline ``ends``."""
    if ends is None or not others:
        return ends
    now = asyncio.get_running_loop().time()
    return now + (ends - now) / (others + 1)


def _left_s(until: float | None) -> float:
    return inf if until is None else until - asyncio.get_running_loop().time()


async def cancel_and_wait(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancels the tasks and waits until they have ended, or for LEAVE_S; what they raise then interests nobody."""
    going = [task for task in tasks if not task.done()]
    for task in going:
        task.cancel()
    if going:
        await asyncio.wait(going, timeout=LEAVE_S)
    for task in tasks:
        task.add_done_callback(_heard)


async def run_until(ends: float, work: Coroutine[Any, Any, T]) -> T | None:
    """What ``work`` gives, or None at ``ends`` by the event loop's clock, even where it does not let itself be cancelled."""
    loop = asyncio.get_running_loop()
    task, ended = loop.create_task(work), loop.create_future()  # a task can be left behind, an await cannot
    timer = loop.call_at(ends, _tell, ended)
    task.add_done_callback(lambda _: _tell(ended))
    try:
        await ended
        if task.done():
            return task.result()
    finally:
        timer.cancel()
        if not task.done():
            await cancel_and_wait((task,))
    return None


def _tell(ended: "asyncio.Future[None]") -> None:
    if not ended.done():
        ended.set_result(None)


def _heard(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled():
        task.exception()


async def _admitted(guard: Guard, name: str, until: float | None) -> None:
    """Waits for a place by the model's limits; the turnstile must be left afterwards. Raises CallRejected."""
    if guard.turnstile is not None:
        try:
            async with asyncio.timeout_at(until):
                await guard.turnstile.enter()
        except TimeoutError:
            raise CallRejected(name, "no place by max_concurrency came free in time") from None
    if guard.pace is not None:
        due = guard.pace.wait_s(_left_s(until))
        try:
            if due is None:
                raise CallRejected(name, "no place by requests_per_s comes free in time")
            if due > 0:
                await asyncio.sleep(due)
        except BaseException:
            if guard.turnstile is not None:
                guard.turnstile.leave()
            raise


async def _guarded(guard: Guard, name: str, once: Once[T], until: float | None, since: float | None = None) -> T:
    """One request, past the breaker and the limits; the breaker is told how it went.

    A request that was cancelled says nothing of the provider, unless it took so long that the provider looks hung: that must
    not hide behind its callers' deadlines. Its latency counts from ``since``, where it hedges a request that began then.
    """
    breaker = guard.breaker
    admission = breaker.admit() if breaker is not None else "pass"
    if isinstance(admission, float):
        raise CallRejected(name, f"its circuit breaker is open for another {admission:.1f} s")
    inside, seconds, well = False, None, None
    started = perf_counter()
    try:
        if guard.turnstile is not None or guard.pace is not None:
            await _admitted(guard, name, until)
            inside = True
        guard.entered()
        started = perf_counter()
        try:
            answered = await once()
            seconds = perf_counter() - (since or started)
        finally:
            guard.left(seconds)
        well = True
        return answered
    except ModelError as error:
        well = False if error.retryable else None
        raise
    except asyncio.CancelledError:
        well = False if guard.overdue(perf_counter() - started) else None
        raise
    finally:
        if inside and guard.turnstile is not None:
            guard.turnstile.leave()
        if breaker is not None:
            breaker.ended(admission, well)


async def _hedged(guard: Guard, name: str, once: Once[T], until: float | None, after_s: float) -> T:
    """The first good answer of one request and, where it takes longer than ``after_s``, of a second beside it."""
    began = perf_counter()
    first = asyncio.ensure_future(_guarded(guard, name, once, until))
    both = [first]
    try:
        racing, done = {first}, set[asyncio.Task[T]]()
        await asyncio.wait(racing, timeout=after_s)
        if not first.done():
            # The quantile is one of waiting for an answer: were the second's time its own, hedging would lower the quantile,
            # which would make more requests be hedged.
            both.append(asyncio.ensure_future(_guarded(guard, name, once, until, began)))
            racing.add(both[1])
        error: BaseException | None = None
        while racing:
            done, racing = await asyncio.wait(racing, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                failed = task.exception()
                if failed is None:
                    return task.result()
                # The second may not have been allowed, or have met another fault: the first one's tells more.
                error = failed if error is None or task is first else error
        assert error is not None
        raise error
    finally:
        await cancel_and_wait(both)
