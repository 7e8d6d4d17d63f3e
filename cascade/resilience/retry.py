"""The only retry loop: pauses between requests, a hedged request where the model's settings ask for it.

The SDKs' own retries are off. Only faults that may pass are retried (``ModelError.retryable``: lost connections, timeouts,
408, 409, 429, 5xx, responses that break the protocol); a caller's mistake (400, 401, 403, 404, 422) never is. Where another
model can be called instead, a model is retried only within its share of the time that is left.
"""

import asyncio
import random
from collections.abc import Callable

from cascade.costs.budget import LimitReached
from cascade.models.protocol import ModelError

from .deadline import seconds_left
from .guard import Guard, Retry
from .guarded_call import CallRejected, Send, T, send_guarded
from .hedge import send_hedged


def backoff_s(
    retry: Retry, attempt: int, retry_after_s: float | None, draw: Callable[[], float] = random.random
) -> float | None:
    """Returns the pause after a failed attempt.

    Args:
        retry: The model's retry settings.
        attempt: The number of the failed attempt, from 1.
        retry_after_s: How long the provider asks to wait, in seconds; None: it does not say.
        draw: Returns a random number in [0, 1).

    Returns:
        Seconds; None where no further attempt is allowed.
    """
    if attempt >= retry.attempts or (retry_after_s is not None and retry_after_s > retry.retry_after_s):
        return None
    jitter_s = draw() * min(retry.max_backoff_s, retry.initial_backoff_s * 2.0 ** (attempt - 1))
    # All callers that were given the same time to wait must not return at once.
    return jitter_s if retry_after_s is None else retry_after_s + jitter_s


async def call_with_retries(guard: Guard, name: str, send: Send[T], until: float | None, *, may_hedge: bool = True) -> T:
    """Sends a request, and retries it after faults that may pass.

    Args:
        guard: The model's guard.
        name: The model's name.
        send: Sends a request.
        until: No further request begins after this, by the event loop's clock; None: there is no limit.
        may_hedge: Whether a second request may be sent while a slow one runs.

    Returns:
        What ``send`` returns.

    Raises:
        ModelError: The last request failed.
        LimitReached: A limit of the run allows no request.
    """
    attempt, last_error = 0, None
    while True:
        attempt += 1
        try:
            if guard.hedge and may_hedge and (after_s := guard.p95_s()) is not None:
                return await send_hedged(guard, name, send, until, after_s)
            return await send_guarded(guard, name, send, until)
        except (CallRejected, LimitReached):
            if last_error is None:
                raise
            raise last_error from None  # what failed before says more than what allows no further request
        except ModelError as error:
            pause = backoff_s(guard.retry, attempt, error.retry_after_s) if error.retryable else None
            if pause is None or pause >= seconds_left(until):
                raise
            last_error = error
        await asyncio.sleep(pause)
