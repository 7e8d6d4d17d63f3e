"""Every request to a model goes through here: limits before it, ``resilience`` around it, price and time after it."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any, Unpack

from cascade.costs.budget import LimitReached, RunBudget
from cascade.costs.estimate import MAX_OUTPUT, Bounds, estimate
from cascade.costs.prices import ModelSettings, Pricer
from cascade.models.protocol import Model, ModelError, Request
from cascade.models.side_by_side import ask_side_by_side
from cascade.resilience.guard import Guard
from cascade.resilience.retry import call_with_retries, deadline_share
from cascade.result import CallRecord, FaultKind
from cascade.util.totals import total, total_usage
from judges import Answer, AskOptions, Prompt, Usage

from .observer import Observer

DEFAULT_REQUEST = Request()
"""What a tier asks its model: nothing beside the prompt."""
_BOUNDED = Request(max_tokens=MAX_OUTPUT)
Asks = Callable[[Model, Prompt, Request], Awaitable[Sequence[Answer]]]


@dataclass(frozen=True, slots=True)
class ModelHandle:
    """A model with its price, its shared state, and the settings that the policy gives it."""

    model: Model
    pricer: Pricer
    observer: Observer | None = None
    guard: Guard = field(default_factory=Guard)
    bounds: Bounds = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bounds", Bounds.of(self.pricer.spec))

    def price(self, answer: Answer) -> float | None:
        """USD of the answer: what it states itself, else its usage at the model's price, else None."""
        return answer.cost_usd if answer.cost_usd is not None else self.pricer.cost(answer.usage)

    def estimate(self, prompt: Prompt, request: Request) -> float | None:
        """An upper estimate in USD of the request; None where the price is unknown."""
        stated = getattr(self.model, "max_cost_usd", None)
        if stated is not None:
            return float(stated * request.n)
        return estimate(
            self.pricer, self.bounds, prompt, n=request.n, max_tokens=request.max_tokens, options=request.options
        )

    @property
    def max_tokens(self) -> int | None:
        """The most tokens that the policy allows an answer; None: it does not say."""
        return self.pricer.spec.max_tokens if self.pricer.spec is not None else None

    @property
    def priced(self) -> bool:
        """Whether it can be said before a request what it costs at most."""
        return getattr(self.model, "max_cost_usd", None) is not None or self.pricer.cost(Usage(1, 1)) is not None


async def call_model(
    seat: ModelHandle,
    prompt: Prompt,
    request: Request,
    spend: RunBudget,
    ends: float | None,
    purpose: str = "answer",
    ask: Asks | None = None,
    others: int = 0,
) -> Sequence[Answer]:
    """Answers, after as many requests as the model's retry rule allows; each goes to the log and is paid.

    ``ends`` is the deadline by the event loop's clock. ``ask`` stands in for the model's ``answer``. ``others`` counts the
    models that can be asked if this one fails. No answer may have more tokens than the policy gives the model. Raises
    LimitReached or ModelError.
    """
    if request.max_tokens is not None and (most := seat.max_tokens) is not None and request.max_tokens > most:
        request = replace(request, max_tokens=most)
    if spend.bounded and not request.max_tokens and seat.bounds.output is None:
        request = _BOUNDED if request is DEFAULT_REQUEST else replace(request, max_tokens=MAX_OUTPUT)
    until = deadline_share(ends, others)

    def answered(request: Request) -> Coroutine[Any, Any, Sequence[Answer]]:
        def once() -> Coroutine[Any, Any, Sequence[Answer]]:
            return _send_once(seat, prompt, request, spend, ends, purpose, ask)

        # What is streamed is told as it comes: two answers at once could not be.
        return call_with_retries(seat.guard, seat.model.name, once, until, may_hedge=ask is None)

    if request.n > 1 and _answers_singly(seat.pricer.spec):
        # Each has its own limits, retries and record.
        singles = [replace(request, n=1, sample_offset=request.sample_offset + i) for i in range(request.n)]
        several, failures = await ask_side_by_side(lambda i: answered(singles[i]), request.n, (ModelError, LimitReached))
        if not several and failures:
            raise failures[0]
        answers: Sequence[Answer] = several
    else:
        answers = await answered(request)
    if not answers and not request.sample:
        raise ModelError(f"{seat.model.name}: gave no answer", model=seat.model.name)
    return answers


def _answers_singly(spec: ModelSettings | None) -> bool:
    """Whether the provider gives one answer a request, so that several samples are several requests."""
    return spec is not None and (spec.provider == "anthropic" or (spec.provider == "openai" and not spec.n))


async def _send_once(
    seat: ModelHandle, prompt: Prompt, request: Request, spend: RunBudget, ends: float | None, purpose: str, ask: Asks | None
) -> Sequence[Answer]:
    """One request, logged and paid whatever becomes of it; cancelled, its cost is unknown and its estimate counts."""
    spend.admit(request.n, sample=request.sample)
    held = await spend.hold(seat.estimate(prompt, request)) if spend.bounded else None
    if ends is not None:
        request = replace(request, timeout_s=max(0.001, ends - asyncio.get_running_loop().time()))
    started = perf_counter()
    fault: str | None = "cancelled"
    fault_kind: FaultKind | None = "cancelled"
    status: int | None = None
    usage: Usage | None = None
    answers: Sequence[Answer] = ()
    observer = seat.observer
    observation = observer.call(seat.model, seat.pricer.spec, prompt, request, purpose) if observer is not None else None
    try:
        answers = await (seat.model.answer(prompt, request) if ask is None else ask(seat.model, prompt, request))
        fault = fault_kind = None
    except ModelError as error:
        fault, fault_kind, status, usage = str(error), error.kind, error.status, error.usage
        raise
    except Exception as error:
        # What is no ModelError is a fault in the model's own code, and may quote the prompt or a key.
        fault, fault_kind = f"{seat.model.name}: {type(error).__name__}", "other"
    finally:
        now = perf_counter()
        usd: float | None
        if fault is not None:
            usd = 0.0 if usage == Usage() else seat.pricer.cost(usage)  # nothing used costs nothing, whatever the price
        elif len(answers) == 1:
            usage, usd = answers[0].usage, seat.price(answers[0])
        else:
            usage = total_usage(a.usage for a in answers) if answers else None
            usd = total(seat.price(a) for a in answers)
        took = latency_of(answers, now - started)
        record = CallRecord(
            model=seat.model.name,
            purpose=purpose,
            started_s=started - spend.began,
            latency_s=took,
            n=request.n,
            usage=usage,
            cost_usd=usd,
            fault=fault,
            status=status,
            fault_kind=fault_kind,
        )
        spend.log.append(record)
        spend.settle(usd)
        if observation is not None:
            observation.end(record, answers)
        if held is not None:
            await spend.release(held, usd)
    if fault is not None:
        raise ModelError(fault, model=seat.model.name)
    return answers


def latency_of(answers: Sequence[Answer], elapsed_s: float) -> float:
    """Seconds that the answers took: what a recording states, since looking it up takes no such time, or ``elapsed_s``."""
    slowest: float | None = None
    for answer in answers:
        stated = answer.latency_s
        if stated is not None and (slowest is None or stated > slowest):
            slowest = stated
    return elapsed_s if slowest is None else slowest


class JudgeModelAccess:
    """The Ask that judges get: bound to one answer of one run, it counts, limits and prices every call.

    ``judge`` is the name of the one that asks at the moment. ``asked`` is how the answer was asked for: its further samples
    are asked for in the same way.
    """

    __slots__ = ("_asked", "_ends", "_others", "_prompt", "_seat", "_seats", "_spend", "drawn", "judge", "latency")

    def __init__(
        self,
        seat: ModelHandle,
        seats: Mapping[str, ModelHandle],
        prompt: Prompt,
        spend: RunBudget,
        ends: float | None,
        others: int,
        asked: Request = DEFAULT_REQUEST,
    ) -> None:
        self._asked = asked
        self._seat, self._seats, self._prompt, self._spend = seat, seats, prompt, spend
        self._ends, self._others = ends, others
        self.drawn = 0
        self.judge = ""
        self.latency = 0.0

    async def __call__(self, prompt: Prompt, *, model: str | None = None, **options: Unpack[AskOptions]) -> Sequence[Answer]:
        """See ``judges.Ask``. Raises LookupError for a model that the policy does not have."""
        seat = self._seat if model is None else self._seats.get(model)
        if seat is None:
            raise LookupError(f"a judge asks for the model {model!r}, which the policy does not have")
        sample = model is None and prompt is self._prompt
        request = Request(**options, sample=sample, sample_offset=self.drawn if sample else 0)
        if sample and self._asked is not DEFAULT_REQUEST:
            request = _in_the_same_way(request, self._asked)
        started = perf_counter()
        answers = await call_model(seat, prompt, request, self._spend, self._ends, self.judge, others=self._others)
        self.latency += latency_of(answers, perf_counter() - started)
        if sample:
            self.drawn += len(answers)
        return answers


def _in_the_same_way(sample: Request, asked: Request) -> Request:
    """A sample must be what the answer could have been; with its seed it would be the very same."""
    options = {name: value for name, value in asked.options.items() if name != "seed"}
    return replace(sample, max_tokens=sample.max_tokens or asked.max_tokens, options=options)
