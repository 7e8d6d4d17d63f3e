"""Work that must end at a deadline, by the event loop's clock in seconds."""

import asyncio
from collections.abc import Coroutine, Iterable
from math import inf
from typing import Any, TypeVar

T = TypeVar("T")
CANCEL_WAIT_S = 0.05
"""Seconds that a cancelled task has to end; one that does not is abandoned, since its caller's time is up."""


def deadline_share(deadline: float | None, alternatives: int) -> float | None:
    """Until when a model may be retried where ``alternatives`` models can be called after it.

    Args:
        deadline: The end of the run by the event loop's clock; None: none.
        alternatives: How many models can be called after this one.

    Returns:
        The end of an equal share of the time that is left; None where there is no deadline.
    """
    if deadline is None or not alternatives:
        return deadline
    now = asyncio.get_running_loop().time()
    return now + (deadline - now) / (alternatives + 1)


def seconds_left(deadline: float | None) -> float:
    """Returns the seconds until the deadline; infinity where there is none."""
    return inf if deadline is None else deadline - asyncio.get_running_loop().time()


async def run_until(deadline: float, work: Coroutine[Any, Any, T]) -> T | None:
    """Runs ``work`` until the deadline.

    Returns:
        The result of ``work``; None at the deadline, even where ``work`` ignores its cancellation.
    """
    loop = asyncio.get_running_loop()
    task, ended = loop.create_task(work), loop.create_future()  # a task can be abandoned, an await cannot
    timer = loop.call_at(deadline, _set, ended)
    task.add_done_callback(lambda _: _set(ended))
    try:
        await ended
        if task.done():
            return task.result()
    finally:
        timer.cancel()
        if not task.done():
            await cancel_and_wait((task,))
    return None


async def cancel_and_wait(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancels the tasks and waits until they end, or for CANCEL_WAIT_S; their results and exceptions are dropped."""
    tasks = tuple(tasks)
    running = [task for task in tasks if not task.done()]
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running, timeout=CANCEL_WAIT_S)
    for task in tasks:
        task.add_done_callback(_retrieve_exception)


def _set(ended: "asyncio.Future[None]") -> None:
    if not ended.done():
        ended.set_result(None)


def _retrieve_exception(task: "asyncio.Task[Any]") -> None:
    """Without this, asyncio logs the exception of an abandoned task."""
    if not task.cancelled():
        task.exception()
