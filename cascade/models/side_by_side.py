"""Several answers from a provider that gives one answer a request: as many requests at once."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from cascade.util.totals import total_usage
from judges import Answer

from .protocol import ModelError


async def ask_side_by_side(
    ask: Callable[[int], Awaitable[Sequence[Answer]]], n: int, tolerated: tuple[type[Exception], ...] = (ModelError,)
) -> tuple[list[Answer], list[Exception]]:
    """Sends ``n`` requests at once.

    Args:
        ask: Sends request number i, from 0 on.
        n: How many requests to send.
        tolerated: Errors that leave a request out, because the other answers are paid for.

    Returns:
        The answers of the requests that succeeded, in order, and the errors of those that failed.

    Raises:
        Exception: The first failure where every request failed, or one that is not tolerated.
    """
    outcomes = await asyncio.gather(*map(ask, range(n)), return_exceptions=True)
    answers = [answer for outcome in outcomes if not isinstance(outcome, BaseException) for answer in outcome]
    errors: list[Exception] = []
    for outcome in outcomes:
        if not isinstance(outcome, BaseException):
            continue
        if not isinstance(outcome, tolerated):
            raise outcome
        errors.append(outcome)
    return answers, errors


async def answers_with_usage(ask: Callable[[int], Awaitable[Sequence[Answer]]], n: int) -> list[Answer]:
    """``ask_side_by_side`` for a caller who sees one request: what the failed ones used counts with the first answer.

    Raises:
        ModelError: Every request failed; its usage is that of all of them, None where one is unknown.
    """
    answers, errors = await ask_side_by_side(ask, n)
    failures = [error for error in errors if isinstance(error, ModelError)]
    if not failures:
        return answers
    usage = total_usage(error.usage for error in failures)
    if not answers:
        failures[0].usage = usage
        raise failures[0]
    return [replace(answers[0], usage=total_usage((answers[0].usage, usage))), *answers[1:]]
