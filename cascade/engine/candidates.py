"""The candidate answers of a tier with ``fuse``: those that the run has, and those of models that are asked now."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from time import perf_counter

from cascade.costs.budget import LimitReached
from cascade.models.protocol import ModelError, Request
from judges import Answer

from .calls import call_model
from .plan import CompiledTier, Fusion
from .run_context import RunContext

PURPOSE = "candidate"
"""The purpose of the requests, as ``CallRecord`` has it."""
TEMPERATURE = 0.7


async def candidates(context: RunContext, fusion: Fusion, tiers_left: int) -> tuple[list[Answer], float]:
    """The candidates in the order of the models, and the seconds that requests for the missing ones took.

    An earlier tier's answer is the first candidate of its model, unless it was vetoed. A model that fails has no candidate.

    Args:
        context: The run.
        fusion: Which models, and how many answers of each.
        tiers_left: How many tiers may follow.

    Raises:
        LimitReached: The budget or a cap allows no further request, and there is no candidate.
    """
    started = perf_counter()
    had = _answers_so_far(context, fusion)
    outcomes = await asyncio.gather(
        *(_of_model(context, model, fusion.samples, had.get(model), tiers_left) for model in fusion.models),
        return_exceptions=True,
    )
    answers: list[Answer] = []
    limit: LimitReached | None = None
    for outcome in outcomes:
        if isinstance(outcome, LimitReached):
            limit = outcome
        elif isinstance(outcome, BaseException):
            if not isinstance(outcome, ModelError):
                raise outcome
        else:
            answers += outcome
    if limit is not None and not answers:
        raise limit
    new = [answer.latency_s for answer in answers if not any(answer is one for one in had.values())]
    if not new:
        return answers, perf_counter() - started if len(had) < len(fusion.models) else 0.0
    stated = [latency_s for latency_s in new if latency_s is not None]
    return answers, max(stated) if len(stated) == len(new) else perf_counter() - started


def _answers_so_far(context: RunContext, fusion: Fusion) -> dict[str, Answer]:
    """The answers of earlier tiers by their models, apart from vetoed ones."""
    tiers: dict[str, CompiledTier] = {tier.name: tier for tier in context.compiled.tiers}
    had: dict[str, Answer] = {}
    for attempt in context.attempts:
        tier = tiers.get(attempt.tier)
        if tier is not None and attempt.answer is not None and not attempt.vetoed and tier.fusion is None:
            had.setdefault(tier.model_name, attempt.answer)
    return {model: answer for model, answer in had.items() if model in fusion.models}


async def _of_model(context: RunContext, model: str, count: int, had: Answer | None, tiers_left: int) -> list[Answer]:
    """``count`` answers of one model, of which ``had`` is the first where there is one."""
    answers = [] if had is None else [had]
    request = context.request if context.request.n == 1 else replace(context.request, n=1)
    handle = context.compiled.handles[model]

    async def ask(request: Request) -> Sequence[Answer]:
        return await call_model(context, handle, context.prompt, request, purpose=PURPOSE, alternatives=tiers_left + 1)

    if not answers:
        answers += await ask(request)
    if count > 1:
        further = replace(request, n=count - 1, temperature=TEMPERATURE, sample=True)
        with suppress(ModelError, LimitReached):  # the candidates so far are worth fusing
            answers += await ask(further)
    return answers
