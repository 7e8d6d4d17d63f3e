"""The money of one request: reserved in every budget before it is sent, settled with what the provider counted."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cascade.costs.budget import LimitReached, Reservation, RunBudget
from cascade.costs.estimate import MAX_OUTPUT, sets_length
from cascade.models.protocol import Request
from judges import Answer, Prompt, Usage

from .model_handle import ModelHandle

DEFAULT_REQUEST = Request()
"""How a tier calls its model: with the prompt alone."""
_LONG = 100_000  # tokens
_BOUNDED = Request(max_tokens=MAX_OUTPUT)
log = logging.getLogger("cascade.budget")


@dataclass(slots=True, kw_only=True)
class RequestReservation:
    """The reservation for one request.

    Attributes:
        request: The request as it is to be sent: with a budget its output always has a limit.
        reservation: The budgets' reservation.
        most: The most tokens of the request; None for a model that states its own costs.
        learns: Whether the answer's length says something about others: the request does not set it.
        cap: The limit of the output, where it is lower than the policy's, because that did not fit into a budget.
    """

    request: Request
    reservation: Reservation
    most: Usage | None
    learns: bool
    cap: int | None = None

    async def settle(
        self, handle: ModelHandle, budget: RunBudget, usage: Usage | None, usd: float | None, answers: Sequence[Answer]
    ) -> None:
        """Replaces the reservation by the cost, and learns from the provider's count.

        Args:
            handle: The model.
            budget: The run's budget.
            usage: What the provider counted; None: unknown.
            usd: The cost in USD; None: unknown.
            answers: The answers; empty where the request failed.
        """
        if self.most is not None:
            handle.overruns.ended(self)
            stated = usd if answers and answers[0].cost_usd is not None else None
            handle.overruns.observe(self.most, usage, self.reservation.usd, stated)
            if self.learns and answers and usage is not None and budget.lengths is not None:
                each = -(-usage.output_tokens // len(answers))
                budget.lengths.add(handle.model.name, each, self.cap)
        await budget.settle(self.reservation, usd)


async def reserve(handle: ModelHandle, prompt: Prompt, request: Request, budget: RunBudget) -> RequestReservation:
    """Reserves what a request may cost at most.

    Where the longest answer that the policy allows does not fit into a budget, and the request itself sets no
    ``max_tokens``, the longest usual answer is reserved, and the request is sent with that as its limit. Where too few
    answers are known to say what is usual, a guess takes its place.

    Raises:
        LimitReached: A budget has no room.
    """
    bounds = handle.bounds
    learns = not request.max_tokens and not bounds.insists and not sets_length(request.options)
    if not request.max_tokens and bounds.output is None:
        request = _BOUNDED if request is DEFAULT_REQUEST else replace(request, max_tokens=MAX_OUTPUT)
    most = handle.most_usage(prompt, request)
    if most is not None and most.input_tokens > _LONG:
        # Counting a megabyte takes 50 ms. Other work gets its turn only after the second pause: at the first one, what has
        # become due meanwhile is queued behind this task.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    usd = handle.estimate_of(most, request)
    try:
        reservation = await budget.reserve(usd)
    except LimitReached as limit:
        lengths, name = budget.lengths, handle.model.name
        allowed = request.max_tokens or bounds.output or MAX_OUTPUT
        usual = None
        if lengths is not None and learns and most is not None:
            usual = lengths.usual(name)
            if usual is None:  # without a first answer there would never be a usual length
                usual = lengths.guess(name)
        if limit.starved and lengths is not None and lengths.first_refusal(name):
            _log_starvation(name, limit, usd, allowed, usual)
        if most is None or usual is None or usual >= allowed:
            raise
        request = replace(request, max_tokens=usual)
        most = replace(most, output_tokens=most.output_tokens // allowed * usual)
        reservation = await budget.reserve(handle.estimate_of(most, request))
    else:
        usual = None
    reserved = RequestReservation(request=request, reservation=reservation, most=most, learns=learns, cap=usual)
    if most is not None:
        handle.overruns.started(reserved)
    return reserved


def _log_starvation(name: str, limit: LimitReached, usd: float | None, allowed: int, usual: int | None) -> None:
    log.warning(
        "%s: a request reserves $%.6g, for up to %d tokens of output (%s); the budget has no room for that although less "
        "than half of it is spent; a lower max_tokens of the model makes room",
        name,
        usd or 0.0,
        allowed,
        limit,
    )
    if usual is not None:
        log.warning(
            "%s: such requests are sent with max_tokens %d where that fits; hardly any known answer is longer",
            name,
            usual,
        )
