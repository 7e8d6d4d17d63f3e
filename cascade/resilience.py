"""The one retry loop: breaker and limits before a request, pauses between requests, a second one beside a slow one.

The SDKs' own retries are off. Only what may pass is tried again (``ModelError.retryable``: lost connections, timeouts, 408,
409, 429, 5xx, replies that break the protocol); a caller's mistake (400, 401, 403, 404, 422) never is. Where another model
can be asked in its place, a model is tried again only within its share of the time that is left.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import TypeVar

from judges import Usage

from .guard import Guard, Retry
from .models.model import ModelError

T = TypeVar("T")
Once = Callable[[], Awaitable[T]]


def pause_s(
    retry: Retry, attempt: int, retry_after_s: float | None, draw: Callable[[], float] = random.random
) -> float | None:
    """Seconds to wait after failed attempt number ``attempt`` (from 1); None where no further one is worth it."""
    if attempt >= retry.attempts or (retry_after_s is not None and retry_after_s > retry.retry_after_s):
        return None
    jittered = draw() * min(retry.most_s, retry.first_s * 2.0 ** (attempt - 1))
    # All who were told the same time to wait must not come back at once.
    return jittered if retry_after_s is None else retry_after_s + jittered


async def persist(guard: Guard, name: str, once: Once[T], until: float | None, *, may_hedge: bool = True) -> T:
    """What ``once`` gives, tried again after faults that may pass. Raises the last ModelError, or what else ``once`` raises.

    ``name`` is the model's. No further request begins after ``until``, by the event loop's clock (None: there is no limit).
    """
    attempt = 0
    while True:
        attempt += 1
        try:
            if guard.hedge and may_hedge and (after := guard.p95_s()) is not None:
                return await _hedged(guard, name, once, after)
            return await _guarded(guard, name, once)
        except ModelError as error:
            pause = pause_s(guard.retry, attempt, error.retry_after_s) if error.retryable else None
            if pause is None or (until is not None and asyncio.get_running_loop().time() + pause >= until):
                raise
        await asyncio.sleep(pause)


def share(ends: float | None, others: int) -> float | None:
    """Until when a model may be tried again, by the event loop's clock, where ``others`` could be asked after it: an equal
    share of the time until the deadline ``ends``."""
    if ends is None or not others:
        return ends
    now = asyncio.get_running_loop().time()
    return now + (ends - now) / (others + 1)


async def _guarded(guard: Guard, name: str, once: Once[T]) -> T:
    """One request, past the breaker and the limits; the breaker is told how it went.

    A request that was cancelled says nothing of the provider, unless it took so long that the provider looks hung: that must
    not hide behind its callers' deadlines.
    """
    breaker = guard.breaker
    admission = breaker.admit() if breaker is not None else "pass"
    if isinstance(admission, float):
        said = f"{name}: not asked, its circuit breaker is open for another {admission:.1f} s"
        raise ModelError(said, model=name, usage=Usage())
    inside, seconds, well = False, None, None
    started = perf_counter()
    try:
        if guard.turnstile is not None:
            await guard.turnstile.enter()
            inside = True
        if guard.pace is not None and (due := guard.pace.wait_s()) > 0:
            await asyncio.sleep(due)
        guard.entered()
        started = perf_counter()
        try:
            answered = await once()
            seconds = perf_counter() - started
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


async def _hedged(guard: Guard, name: str, once: Once[T], after_s: float) -> T:
    """The first good answer of one request and, where it takes longer than ``after_s``, of a second beside it."""
    first = asyncio.ensure_future(_guarded(guard, name, once))
    racing = {first}
    try:
        await asyncio.wait(racing, timeout=after_s)
        if not first.done():
            racing.add(asyncio.ensure_future(_guarded(guard, name, once)))
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
        for task in racing:
            task.cancel()
        if racing:
            await asyncio.wait(racing)
