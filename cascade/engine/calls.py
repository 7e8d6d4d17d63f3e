"""Every call of a model passes through here: limits before it, ``resilience`` around it, price and latency after it."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any, Protocol

from cascade.costs.budget import LimitReached, RunBudget
from cascade.models.protocol import Model, ModelError, Request
from cascade.resilience.deadline import deadline_share
from cascade.resilience.retry import call_with_retries
from cascade.result import CallRecord, FaultKind
from cascade.util.totals import total, total_usage
from judges import Answer, Prompt, Usage

from .model_handle import ModelHandle
from .other_answers import OtherAnswers
from .reserve import DEFAULT_REQUEST as DEFAULT_REQUEST
from .reserve import reserve
from .run_context import RunContext


class EarlyCalls(Protocol):
    """The requests to a tier that is asked before its turn.

    Attributes:
        log: Those that have ended.
    """

    log: list[CallRecord]

    def estimate(self, handle: ModelHandle, prompt: Prompt) -> float | None:
        """What a cancelled request would have cost in full, in USD; None where unknown."""
        ...


Send = Callable[[Model, Prompt, Request], Awaitable[Sequence[Answer]]]
"""Sends one request to a model."""
_QUEUE_S = 60.0  # the longest wait for other requests to be settled
_CANCELLED = "cancelled"
_FIRST_PAUSE_S, _MAX_PAUSE_S = 0.01, 0.5


async def call_model(
    context: RunContext,
    handle: ModelHandle,
    prompt: Prompt,
    request: Request,
    *,
    purpose: str = "answer",
    send: Send | None = None,
    alternatives: int = 0,
    early: EarlyCalls | None = None,
) -> Sequence[Answer]:
    """Calls a model, with as many requests as its retry rule allows; each is logged and paid.

    Args:
        context: The run.
        handle: The model.
        prompt: What is asked.
        request: How it is asked; no answer may have more tokens than the policy allows the model.
        purpose: "answer", or the name of the judge that calls.
        send: Sends a request in place of the model's ``answer``.
        alternatives: How many models can be called if this one fails.
        early: Keeps the requests of a tier that is asked before its turn; None: the run's budget does.

    Returns:
        The answers, at least one unless the request is for further samples.

    Raises:
        LimitReached: The budget or a cap allows no further request.
        ModelError: The model failed.
    """
    budget, deadline, name = context.budget, context.deadline, handle.model.name
    max_tokens = handle.max_tokens
    if request.max_tokens is not None and max_tokens is not None and request.max_tokens > max_tokens:
        request = replace(request, max_tokens=max_tokens)
    retry_until = None if deadline is None else deadline_share(deadline, alternatives)

    def call(request: Request) -> Coroutine[Any, Any, Sequence[Answer]]:
        send_once = partial(
            _send_once, handle, prompt, request, budget, deadline=deadline, purpose=purpose, send=send, early=early
        )
        # A stream is not hedged: its events are sent as they arrive, and could not come from two answers at once.
        return call_with_retries(handle.guard, name, send_once, retry_until, may_hedge=send is None)

    affordable = partial(_call_when_affordable, call, budget, deadline) if budget.bounded else call
    spec = handle.pricer.spec
    if request.n > 1 and spec is not None and (spec.provider == "anthropic" or (spec.provider == "openai" and not spec.n)):
        # The provider gives one answer per request.
        answers = await _side_by_side(affordable, request)
    else:
        answers = await affordable(request)
    if not answers and not request.sample:
        raise ModelError(f"{name}: returned no answer", model=name)
    return answers


async def _call_when_affordable(
    call: Callable[[Request], Awaitable[Sequence[Answer]]], budget: RunBudget, deadline: float | None, request: Request
) -> Sequence[Answer]:
    """Waits for other requests to be settled where a budget has no room before that.

    A request that waits takes no slot of the model's guard, and says nothing about the provider.
    """
    give_up, pause = None, _FIRST_PAUSE_S
    while True:
        try:
            return await call(request)
        except LimitReached as limit:
            now = asyncio.get_running_loop().time()
            if give_up is None:
                give_up = now + _QUEUE_S if deadline is None else min(deadline, now + _QUEUE_S)
            if not limit.waits or budget.closed or now + pause >= give_up:
                raise
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))
        pause = min(2 * pause, _MAX_PAUSE_S)


async def _side_by_side(call: Callable[[Request], Awaitable[Sequence[Answer]]], request: Request) -> Sequence[Answer]:
    """``request.n`` answers by as many requests at once, each with its own limits, retries and record.

    Requests that fail are left out, since the others are paid for; where all fail, the first failure is raised.
    """
    singles = (replace(request, n=1, sample_offset=request.sample_offset + i) for i in range(request.n))
    outcomes = await asyncio.gather(*map(call, singles), return_exceptions=True)
    answers = [answer for outcome in outcomes if not isinstance(outcome, BaseException) for answer in outcome]
    failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    for error in failures:
        if not answers or not isinstance(error, ModelError | LimitReached):
            raise error
    return answers


async def _send_once(
    handle: ModelHandle,
    prompt: Prompt,
    request: Request,
    budget: RunBudget,
    *,
    deadline: float | None,
    purpose: str,
    send: Send | None,
    early: EarlyCalls | None,
) -> Sequence[Answer]:
    """Sends one request, which is logged and paid whatever its outcome.

    The cost of a cancelled request is unknown, and its estimate counts against the budget.
    """
    budget.check_limits(request.n, sample=request.sample)
    reservation = None
    if budget.bounded:
        try:
            reservation = await reserve(handle, prompt, request, budget)
        except BaseException:
            budget.uncount(request.n, sample=request.sample)
            raise
        request = reservation.request
    if deadline is not None:
        request = replace(request, timeout_s=max(0.001, deadline - asyncio.get_running_loop().time()))
    started = perf_counter()
    fault: str | None = _CANCELLED
    fault_kind: FaultKind | None = "cancelled"
    status: int | None = None
    usage: Usage | None = None
    answers: Sequence[Answer] = ()
    observer, spec = handle.observer, handle.pricer.spec
    call_observer = None if observer is None else observer.call(handle.model, spec, prompt, request, purpose)
    try:
        answers = await (handle.model.answer(prompt, request) if send is None else send(handle.model, prompt, request))
        fault = fault_kind = None
    except ModelError as error:
        fault, fault_kind, status, usage = str(error), error.kind, error.status, error.usage
        raise
    except Exception as error:
        # Anything but a ModelError is a fault in the model's own code, and may quote the prompt or a key.
        fault, fault_kind = f"{handle.model.name}: {type(error).__name__}", "other"
    finally:
        now = perf_counter()
        usd: float | None
        if fault is not None:
            usd = 0.0 if usage == Usage() else handle.pricer.cost(usage)  # no tokens cost nothing, whatever the price
        elif len(answers) == 1:
            usage, usd = answers[0].usage, handle.price(answers[0])
        else:
            usage = total_usage(a.usage for a in answers) if answers else None
            usd = total(handle.price(a) for a in answers)
        estimated = False
        if early is not None and fault == _CANCELLED and usd is None:
            usd = early.estimate(handle, prompt)
            estimated = usd is not None
        record = CallRecord(
            model=handle.model.name,
            purpose=purpose,
            started_s=started - budget.began,
            latency_s=latency_of(answers, now - started),
            n=request.n,
            usage=usage,
            cost_usd=usd,
            fault=fault,
            status=status,
            fault_kind=fault_kind,
            estimated=estimated,
        )
        (budget.log if early is None else early.log).append(record)
        budget.add_cost(usd)
        if call_observer is not None:
            call_observer.end(record, answers)
        if reservation is not None:
            await reservation.settle(handle, budget, usage, usd, answers)
    if fault is not None:
        raise ModelError(fault, model=handle.model.name)
    return answers


def latency_of(answers: Sequence[Answer], elapsed_s: float) -> float:
    """The latency of answers in seconds: what a recording states, since reading it takes no such time, or ``elapsed_s``."""
    slowest: float | None = None
    for answer in answers:
        stated = answer.latency_s
        if stated is not None and (slowest is None or stated > slowest):
            slowest = stated
    return elapsed_s if slowest is None else slowest


@dataclass(slots=True, eq=False)
class JudgeModelAccess:
    """The ``judges.Ask`` of one answer's judges: counts, limits and prices each of their calls.

    Args:
        context: The run; the answer's further samples are requested as its ``request`` says.
        handle: The model that gave the answer.
        alternatives: How many tiers can be called if this one fails.
        others: The models that were asked together with ``handle``; None: none were.

    Attributes:
        judge: The name of the judge that is running.
        latency_s: How long the judges' calls took together, in seconds.
    """

    context: RunContext
    handle: ModelHandle
    alternatives: int
    others: OtherAnswers | None = None
    judge: str = ""
    latency_s: float = 0.0
    _sample_count: int = 0

    async def __call__(
        self,
        prompt: Prompt,
        *,
        model: str | None = None,
        n: int = 1,
        temperature: float | None = None,
        max_tokens: int | None = None,
        logprobs: bool = False,
    ) -> Sequence[Answer]:
        """See ``judges.Ask``. Raises LookupError for a model that the policy does not have."""
        context = self.context
        handle = self.handle if model is None else context.compiled.handles.get(model)
        if handle is None:
            raise LookupError(f"a judge uses the model {model!r}, which the policy does not have")
        sample = model is None and prompt is context.prompt
        request = Request(
            n=n,
            temperature=temperature,
            max_tokens=max_tokens,
            logprobs=logprobs,
            sample=sample,
            sample_offset=self._sample_count if sample else 0,
        )
        if sample and context.request is not DEFAULT_REQUEST:
            request = _like_the_answer(request, context.request)
        started = perf_counter()
        answers = await call_model(context, handle, prompt, request, purpose=self.judge, alternatives=self.alternatives)
        self.latency_s += latency_of(answers, perf_counter() - started)
        if sample:
            self._sample_count += len(answers)
        return answers

    async def each(self, prompt: Prompt, models: Sequence[str]) -> Sequence[Answer | None]:
        """See ``judges.protocol.AskEach``. Raises LookupError for a model that the policy does not have."""
        if self.others is None:
            self.others = OtherAnswers(self.context, self.alternatives, call_model)
        answers, latency_s = await self.others.get(models, self.judge)
        self.latency_s += latency_s
        return answers


def _like_the_answer(sample: Request, request: Request) -> Request:
    """The request of a sample with the options of the answer's request, but its seed: that would repeat the answer."""
    options = {name: value for name, value in request.options.items() if name != "seed"}
    return replace(sample, max_tokens=sample.max_tokens or request.max_tokens, options=options)
