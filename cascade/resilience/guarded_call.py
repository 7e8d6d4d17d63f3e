"""One request behind a model's circuit breaker and limits."""

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import TypeVar

from cascade.models.protocol import ModelError
from judges import Usage

from .deadline import seconds_left
from .guard import Guard

T = TypeVar("T")
Send = Callable[[], Awaitable[T]]
"""Sends one request."""


class CallRejected(ModelError):
    """No request was sent: the breaker is open, or no slot is free in time. Costs nothing and is not retried."""

    def __init__(self, name: str, cause: str) -> None:
        super().__init__(f"{name}: not called: {cause}", model=name, usage=Usage())


async def send_guarded(guard: Guard, name: str, send: Send[T], until: float | None, since: float | None = None) -> T:
    """Sends one request behind the model's breaker and limits, and records its outcome with them.

    A request that was cancelled says nothing about the provider, unless it took so long that the provider looks hung: that
    must not hide behind its callers' deadlines.

    Args:
        guard: The model's guard.
        name: The model's name.
        send: Sends the request.
        until: How long to wait for a slot, by the event loop's clock; None: without limit.
        since: When the request that this one hedges began, by ``perf_counter``: its latency counts from there.

    Raises:
        CallRejected: No request was sent.
        ModelError: The request failed.
    """
    breaker = guard.breaker
    admission = breaker.admit() if breaker is not None else "pass"
    if isinstance(admission, float):
        raise CallRejected(name, f"its circuit breaker is open for another {admission:.1f} s")
    has_slot, latency_s, success = False, None, None
    started = perf_counter()
    try:
        if guard.concurrency_limiter is not None or guard.rate_limiter is not None:
            await _wait_for_slot(guard, name, until)
            has_slot = True
        guard.request_started()
        started = perf_counter()
        try:
            result = await send()
            latency_s = perf_counter() - (since or started)
        finally:
            guard.request_ended(latency_s)
        success = True
        if guard.failures.failing:
            guard.failures.record_success(name)
        return result
    except ModelError as error:
        success = False if error.retryable else None
        guard.failures.record_failure(name, error)
        raise
    except asyncio.CancelledError:
        success = False if guard.is_overdue(perf_counter() - started) else None
        raise
    finally:
        if has_slot and guard.concurrency_limiter is not None:
            guard.concurrency_limiter.release()
        if breaker is not None:
            breaker.record(admission, success)


async def _wait_for_slot(guard: Guard, name: str, until: float | None) -> None:
    """Waits for a slot of the model's limits; the concurrency limiter must be released afterwards. Raises CallRejected."""
    if guard.concurrency_limiter is not None:
        try:
            async with asyncio.timeout_at(until):
                await guard.concurrency_limiter.acquire()
        except TimeoutError:
            raise CallRejected(name, "timed out waiting for a max_concurrency slot") from None
    if guard.rate_limiter is not None:
        wait_s = guard.rate_limiter.reserve(seconds_left(until))
        try:
            if wait_s is None:
                raise CallRejected(name, "no requests_per_s slot is free in time")
            if wait_s > 0:
                await asyncio.sleep(wait_s)
        except BaseException:
            if guard.concurrency_limiter is not None:
                guard.concurrency_limiter.release()
            raise
