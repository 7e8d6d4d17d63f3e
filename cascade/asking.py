"""Every call of a model goes through here: limits before it, one retry, price and time after it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING

from judges import Answer, Prompt, Usage
from judges.answer import content_text

from .budget import Spend
from .models.factory import Pricer
from .models.model import Model, ModelError, Request
from .result import CallRecord

if TYPE_CHECKING:
    from .telemetry import Telemetry

RETRY_AFTER_S = 0.2
Asks = Callable[[Model, Prompt, Request], Awaitable[Sequence[Answer]]]
_DEFAULT_OUTPUT = 1024  # tokens assumed for an estimate where nothing bounds the answer


@dataclass(frozen=True, slots=True)
class Seat:
    """A model with its price and the settings that the policy gives it."""

    model: Model
    pricer: Pricer
    telemetry: "Telemetry | None" = None

    def price(self, answer: Answer) -> float | None:
        """USD of the answer: what it states itself, else its usage at the model's price, else None."""
        return answer.cost_usd if answer.cost_usd is not None else self.pricer.cost(answer.usage)

    def estimate(self, prompt: Prompt, n: int, max_tokens: int | None) -> float | None:
        """An upper estimate in USD of asking for ``n`` answers; None where the price is unknown.

        One token for every three characters of text (English has about four), images not counted.
        """
        spec = self.pricer.spec
        bound = max_tokens or (spec.max_tokens if spec is not None else None) or _DEFAULT_OUTPUT
        chars = sum(len(content_text(m.get("content"))) for m in prompt.messages)
        return self.pricer.cost(Usage(chars // 3 + 16, bound * n))


async def call(
    seat: Seat,
    prompt: Prompt,
    request: Request,
    spend: Spend,
    ends: float | None,
    purpose: str = "answer",
    ask: Asks | None = None,
) -> Sequence[Answer]:
    """Asks once, and once more after a retryable fault; each request goes to the log. Raises LimitReached or ModelError.

    ``ask`` stands in for the model's ``answer``.
    """
    if spend.budget_usd is None:
        spend.reserve(request.n, None)
    else:
        spend.reserve(request.n, seat.estimate(prompt, request.n, request.max_tokens))
    if ends is not None:
        request = replace(request, timeout_s=max(0.001, ends - asyncio.get_running_loop().time()))
    try:
        answers = await _logged(seat, prompt, request, spend, purpose, ask)
    except ModelError as error:
        if not error.retryable:
            raise
        spend.reserve(request.n, None)
        await asyncio.sleep(RETRY_AFTER_S)
        answers = await _logged(seat, prompt, request, spend, purpose, ask)
    if not answers and not request.sample:
        raise ModelError(f"{seat.model.name}: gave no answer", model=seat.model.name)
    return answers


async def _logged(
    seat: Seat, prompt: Prompt, request: Request, spend: Spend, purpose: str, ask: Asks | None
) -> Sequence[Answer]:
    started = perf_counter()
    fault: str | None = "cancelled"
    status: int | None = None
    usage: Usage | None = None
    answers: Sequence[Answer] = ()
    told = seat.telemetry.call(seat, prompt, request, purpose) if seat.telemetry is not None else None
    try:
        answers = await (seat.model.answer(prompt, request) if ask is None else ask(seat.model, prompt, request))
        fault = None
    except ModelError as error:
        fault, status, usage = str(error), error.status, error.usage
        raise
    finally:
        now = perf_counter()
        # A recording states its own latency; the time of looking it up says nothing.
        took = max((a.latency_s for a in answers if a.latency_s is not None), default=now - started)
        if answers:
            usages, prices = [a.usage for a in answers], [seat.price(a) for a in answers]
            usage = sum((u for u in usages if u is not None), Usage()) if None not in usages else None
            usd = sum(p for p in prices if p is not None) if None not in prices else None
        else:
            usd = 0.0 if usage == Usage() else seat.pricer.cost(usage)  # nothing used costs nothing, whatever the price
        record = CallRecord(seat.model.name, purpose, started - spend.began, took, request.n, usage, usd, fault, status)
        spend.log.append(record)
        if told is not None:
            told.end(record, answers)
    return answers


class AskAgain:
    """The Ask that judges get: bound to one answer of one run, it counts, limits and prices every call.

    ``judge`` is the name of the one that asks at the moment.
    """

    __slots__ = ("_ends", "_prompt", "_seat", "_seats", "_spend", "drawn", "judge", "latency", "usd")

    def __init__(self, seat: Seat, seats: Mapping[str, Seat], prompt: Prompt, spend: Spend, ends: float | None) -> None:
        self._seat, self._seats, self._prompt, self._spend, self._ends = seat, seats, prompt, spend, ends
        self.drawn = 0
        self.judge = ""
        self.usd: float | None = 0.0
        self.latency = 0.0

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
        seat = self._seat if model is None else self._seats.get(model)
        if seat is None:
            raise LookupError(f"a judge asks for the model {model!r}, which the policy does not have")
        sample = model is None and prompt is self._prompt
        request = Request(
            n=n,
            temperature=temperature,
            max_tokens=max_tokens,
            logprobs=logprobs,
            sample=sample,
            sample_offset=self.drawn if sample else 0,
        )
        started = perf_counter()
        answers = await call(seat, prompt, request, self._spend, self._ends, self.judge)
        elapsed = perf_counter() - started
        # A recording states its own latency; the time of looking it up says nothing.
        self.latency += max((a.latency_s for a in answers if a.latency_s is not None), default=elapsed)
        if sample:
            self.drawn += len(answers)
        for answer in answers:
            usd = seat.price(answer)
            self._spend.settle(usd)
            self.usd = None if usd is None or self.usd is None else self.usd + usd
        return answers
