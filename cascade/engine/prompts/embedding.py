"""The embedding of a run's prompt, which predictors read: asked for once, before the first tier.

A run continues without it where the server fails or is slow, or the budget has no room; its predictors then read n-grams
alone.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter

from cascade.costs.budget import LimitReached
from cascade.engine.calls import call_model
from cascade.engine.plan import CompiledTier
from cascade.engine.run_context import RunContext
from cascade.models.protocol import ModelError, Request
from cascade.policy.predictor import EmbeddingPredictor
from cascade.resilience.deadline import deadline_share
from cascade.result import Attempt, CallRecord
from cascade.util.log_events import Event, LimitedLog
from cascade.util.totals import plus, total
from judges import Prompt
from judges.prompt import EmbeddedFeatures, embedded_text, features

PURPOSE = "embedding"
"""The purpose of the request, as ``CallRecord`` has it."""
_REQUEST = Request(max_tokens=1)  # it has no output, for which a budget would reserve
_GRACE_S = 0.05  # for a model that does not keep to the request's own timeout
_HOUR = 3600.0

_warnings = LimitedLog(logging.getLogger("cascade.embedding"), _HOUR)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingCalls:
    """What a run's embedding took.

    Attributes:
        calls: Its requests; empty where it was not asked for.
        latency_s: The seconds that count for the run: what a recording states, or what it took.
        elapsed_s: The seconds that it took.
    """

    calls: tuple[CallRecord, ...] = ()
    latency_s: float = 0.0
    elapsed_s: float = 0.0

    def counted_in(self, attempt: Attempt) -> Attempt:
        """The run's first attempt with the embedding's requests, cost and latency."""
        if not self.calls:
            return replace(attempt, latency_s=attempt.latency_s + self.latency_s) if self.latency_s else attempt
        usd = total(call.cost_usd for call in self.calls)
        return replace(
            attempt,
            cost_usd=plus(attempt.cost_usd, usd),
            judge_cost_usd=plus(attempt.judge_cost_usd, usd),
            latency_s=attempt.latency_s + self.latency_s,
            call_log=(*self.calls, *attempt.call_log),
        )


async def read_embedding(
    context: RunContext, max_latency_s: float | None = None, *, of_tiers: Sequence[CompiledTier] | None = None
) -> EmbeddingCalls:
    """Reads the prompt's features, with its embedding where a predictor can use it, into ``context.features``.

    No embedding is asked for where the prompt is blank, or unlike the recording by its n-grams: then nothing would read it.

    Args:
        context: The run.
        max_latency_s: The seconds that the run should take.
        of_tiers: The tiers whose predictors count; None: all of the policy.
    """
    embedder, prompt, budget = context.compiled.embedder, context.prompt, context.budget
    assert embedder is not None
    plain = context.features = features(prompt, context.compiled.caller_task)
    tiers = context.compiled.tiers if of_tiers is None else of_tiers
    predictors = [tier.predictor for tier in tiers]
    text = embedded_text(prompt)
    if not text or not any(isinstance(each, EmbeddingPredictor) and each.is_in_range(plain) for each in predictors):
        return EmbeddingCalls()
    prepare = getattr(embedder.handle.model, "prepare", None)
    if prepare is not None:
        await prepare()
    loop, log_before, calls_before, started = asyncio.get_running_loop(), len(budget.log), budget.calls, perf_counter()
    now = loop.time()
    # No more than a tier's share of the time that is left.
    ends = [now + embedder.timeout_s, *([now + max_latency_s / (len(tiers) + 1)] if max_latency_s is not None else [])]
    if (share := deadline_share(context.deadline, len(tiers))) is not None:
        ends.append(share)
    brief = RunContext(context.compiled, prompt, budget, min(ends))
    name, vector, stated = embedder.handle.model.name, None, None
    problem: str | None = None
    try:
        async with asyncio.timeout_at(min(ends) + _GRACE_S):
            answers = await call_model(brief, embedder.handle, Prompt.of(text), _REQUEST, purpose=PURPOSE)
        vector, stated = answers[0].extra.get(PURPOSE), answers[0].latency_s
        if vector is None or len(vector) != embedder.dimensions:
            vector, problem = None, f"no embedding of {embedder.dimensions} numbers"
    except TimeoutError:
        problem = "no answer in time"
    except ModelError as error:
        problem = error.kind if error.status is None else f"HTTP {error.status}"
    except LimitReached as limit:
        problem = limit.reason
    if vector is not None:
        context.features = EmbeddedFeatures.of(plain, vector)
    if problem is not None:
        _warnings.warning(name, Event("no embedding: runs go on without", model=name, problem=problem))
    budget.calls = calls_before  # ``max_calls`` counts answers
    elapsed_s = perf_counter() - started
    return EmbeddingCalls(
        calls=tuple(budget.log[log_before:]), latency_s=elapsed_s if stated is None else stated, elapsed_s=elapsed_s
    )
