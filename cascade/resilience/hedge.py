"""Hedged requests: a second request while one takes unusually long."""

import asyncio
from time import perf_counter

from .deadline import cancel_and_wait
from .guard import Guard
from .guarded_call import Send, T, send_guarded


async def send_hedged(guard: Guard, name: str, send: Send[T], until: float | None, after_s: float) -> T:
    """Returns the first good result of a request and, where it takes longer than ``after_s`` seconds, of a second one.

    Args:
        guard: The model's guard.
        name: The model's name.
        send: Sends a request.
        until: How long to wait for a slot, by the event loop's clock; None: without limit.
        after_s: Seconds after which the second request is sent.

    Raises:
        ModelError: Both failed; it is the first request's error.
    """
    began = perf_counter()
    first = asyncio.ensure_future(send_guarded(guard, name, send, until))
    tasks = [first]
    try:
        pending, done = {first}, set[asyncio.Task[T]]()
        await asyncio.wait(pending, timeout=after_s)
        if not first.done():
            # The percentile is of the time to an answer: counted from the second request's own start, latencies would
            # lower the percentile, and more requests would be hedged.
            tasks.append(asyncio.ensure_future(send_guarded(guard, name, send, until, since=began)))
            pending.add(tasks[1])
        error: BaseException | None = None
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                failure = task.exception()
                if failure is None:
                    return task.result()
                # The second request may have been rejected, or failed differently: the first one's error says more.
                error = failure if error is None or task is first else error
        assert error is not None
        raise error
    finally:
        await cancel_and_wait(tasks)
