"""Answers of further models to the run's prompt, for a judge that compares them: asked at once, also before it runs."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field, replace
from math import isnan, nan
from time import perf_counter
from typing import Protocol

from cascade.costs.budget import LimitReached
from cascade.models.protocol import ModelError, Request
from cascade.resilience.deadline import cancel_and_wait
from judges import Answer, Prompt

from .model_handle import ModelHandle
from .reserve import DEFAULT_REQUEST
from .run_context import RunContext


class CallModel(Protocol):
    """``engine.calls.call_model``, as far as it is needed here."""

    def __call__(
        self, context: RunContext, handle: ModelHandle, prompt: Prompt, request: Request, *, purpose: str, alternatives: int
    ) -> Awaitable[Sequence[Answer]]: ...


@dataclass(slots=True, eq=False)
class OtherAnswers:
    """The answers of other models to the prompt of one attempt.

    Args:
        context: The run.
        alternatives: How many tiers can be called if a model fails.
        call: Calls a model.
    """

    context: RunContext
    alternatives: int
    call: CallModel
    _early: dict[str, asyncio.Task[Answer]] = field(default_factory=dict)

    def start(self, models: Sequence[str], purpose: str) -> None:
        """Asks models before a judge needs their answers; ``purpose`` is the judge's name."""
        for model in models:
            if model not in self._early:
                self._early[model] = asyncio.create_task(self._ask(model, purpose))

    async def wait(self, own: Answer) -> float:
        """Waits for the models that ``start`` asked.

        Args:
            own: The answer of the tier's own model, which was asked at the same time.

        Returns:
            By how many seconds the slowest of them is slower than ``own``, according to the latencies that the answers
            state; 0 where they state none.
        """
        outcomes = await asyncio.gather(*self._early.values(), return_exceptions=True)
        answers = [outcome for outcome in outcomes if isinstance(outcome, Answer)]
        extra = _slowest(answers, 0.0) - (own.latency_s or 0.0)
        return extra if isnan(extra) else max(0.0, extra)

    async def get(self, models: Sequence[str], purpose: str) -> tuple[Sequence[Answer | None], float]:
        """The answers of ``models`` in order, and how many seconds it took to ask those that were not asked before.

        Returns:
            The answers, None for a model that failed; the latency of the slowest.

        Raises:
            LookupError: The policy has no such model.
            LimitReached: The budget or a cap allows no further request.
        """
        started, late = perf_counter(), [model for model in models if model not in self._early]
        calls = [self._early[model] if model in self._early else self._ask(model, purpose) for model in models]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for failure in sorted(failures, key=lambda failure: isinstance(failure, LimitReached)):
            if not isinstance(failure, ModelError):
                raise failure
        answers = [None if isinstance(outcome, BaseException) else outcome for outcome in outcomes]
        by_model = dict(zip(models, answers, strict=True))
        late_answers = [answer for model in late if (answer := by_model[model]) is not None]
        return answers, _slowest(late_answers, perf_counter() - started) if late else 0.0

    async def close(self) -> None:
        """Cancels requests that are still in progress."""
        await cancel_and_wait(self._early.values())

    async def _ask(self, model: str, purpose: str) -> Answer:
        context = self.context
        handle = context.compiled.handles.get(model)
        if handle is None:
            raise LookupError(f"a judge uses the model {model!r}, which the policy does not have")
        request = context.request
        if request is not DEFAULT_REQUEST:
            request = replace(request, n=1)
        answers = await self.call(context, handle, context.prompt, request, purpose=purpose, alternatives=self.alternatives)
        return answers[0]


def _slowest(answers: Sequence[Answer], elapsed_s: float) -> float:
    """The longest latency that an answer states, NaN where one states that it is unknown; ``elapsed_s`` where none does."""
    stated = [answer.latency_s for answer in answers if answer.latency_s is not None]
    if any(map(isnan, stated)):
        return nan
    return max(stated, default=elapsed_s)
