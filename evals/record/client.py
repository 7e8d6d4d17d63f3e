"""One model with all who ask it: its pace, its money, its faults. Every request of a recording goes through here."""

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter
from typing import Protocol

from cascade.costs.estimate import MAX_OUTPUT, Bounds, estimate
from cascade.costs.prices import Pricer
from cascade.models.protocol import Model, ModelError, Request
from evals.common.cost_budget import CostBudget, OutOfMoneyError
from evals.common.provider_errors import error_kind, is_permanent, with_remedy
from judges import Answer, Prompt

from .adaptive_concurrency import AdaptiveLimiter
from .checkpoint import Checkpoint
from .outage import Outage

TRIES = 5  # of a request that fails by a fault that may pass
_REFUSALS = 40  # of one request that comes too early
_FAILURES = 30  # that follow each other, beyond those under way together, before it is not the requests' fault
_BACKOFF_S = 0.25
_LONG_S = 3.0
_TOO_MANY = frozenset((429, 503, 529))


class FailedError(Exception):
    """A request that failed for good; ``kind`` groups it with its like, the message is the provider's."""

    def __init__(self, kind: str, said: str, tries: int) -> None:
        super().__init__(said)
        self.kind, self.said, self.tries = kind, said, tries


class StoppedError(Exception):
    """Nothing more is asked: of this model, or at all."""


@dataclass(slots=True)
class StopSignal:
    """Why the whole run stops (None: it goes on), and a wait that ends when it does."""

    reason: str | None = None
    _event: asyncio.Event = field(default_factory=asyncio.Event)

    def stop(self, reason: str) -> None:
        """Stops the run; the first reason stands."""
        self.reason = self.reason or reason
        self._event.set()

    async def pause(self, seconds: float) -> None:
        """Waits, unless the run stops before. Raises StoppedError."""
        try:
            await asyncio.wait_for(self._event.wait(), seconds)
        except TimeoutError:
            return
        raise StoppedError


@dataclass(frozen=True, slots=True)
class Reply:
    """The answers of one request, what they cost together and the seconds they took (None: unknown).

    ``kept`` is called once the answers stand in the work file.
    """

    answers: Sequence[Answer]
    usd: float | None
    latency_s: float | None
    kept: Callable[[], None] = lambda: None


class AnswerSource(Protocol):
    """A model as those who record it see it: asked at once, or by batch. ``stopped`` says why it is asked no more."""

    name: str
    stopped: str | None

    @property
    def model(self) -> Model: ...

    @property
    def waits(self) -> str | None:
        """What is waited for, for people; None where nothing is that takes long."""
        ...

    async def ask(self, prompt: Prompt, request: Request) -> Reply:
        """Asks until there is an answer. Raises FailedError, StoppedError."""
        ...

    def release(self) -> None:
        """Lets go of those who wait: nothing more will be asked."""
        ...

    async def run(self) -> None:
        """What goes on beside being asked, for as long as the recording does. Raises OSError."""
        ...


class RecordingClient:
    """A model of the policy. ``stopped`` says why it is not asked any more: its key is wrong, or it always fails."""

    def __init__(
        self,
        name: str,
        model: Model,
        pricer: Pricer,
        pace: AdaptiveLimiter,
        budget: CostBudget,
        work: Checkpoint,
        halt: StopSignal,
    ) -> None:
        self.name, self.model, self.pricer, self.pace, self.budget, self.work, self.halt = (
            name, model, pricer, pace, budget, work, halt,
        )  # fmt: skip
        self.bounds = Bounds.of(pricer.spec)
        self.stopped: str | None = None
        self.outage = Outage(name, _FAILURES + pace.most)
        self._failures = 0

    @property
    def waits(self) -> str | None:
        """See Asked."""
        pause_s = self.pace.pause_s
        return f"{self.name} is not asked for {pause_s:.0f} s" if pause_s >= _LONG_S and self.stopped is None else None

    def estimate(self, prompt: Prompt, request: Request) -> float | None:
        """An upper estimate of what the request can cost in USD; None where the price is unknown."""
        return estimate(self.pricer, self.bounds, prompt, n=request.n, max_tokens=request.max_tokens)

    async def ask(self, prompt: Prompt, request: Request) -> Reply:
        """Asks until there is an answer. Raises FailedError, StoppedError."""
        if self.budget.limit is not None and request.max_tokens is None:
            bound = self.pricer.spec.max_tokens if self.pricer.spec is not None else None
            request = replace(request, max_tokens=bound or MAX_OUTPUT)  # a limit holds only where the answer is bounded
        faults = refusals = 0
        while True:
            began = await self._turn()
            reserved, number = 0.0, None
            try:
                reserved, number = await self._reserve(prompt, request)
                started = perf_counter()
                answers = await self.model.answer(prompt, request)
            except ModelError as error:
                self._refund(error, reserved, number)
                too_many, down = error.status in _TOO_MANY, self.outage.failed(error)
                if too_many or down:
                    refusals += too_many
                    self.pace.refused(began, error.retry_after_s)
                else:
                    faults += 1
                    self.pace.over()
                if is_permanent(error) or self.outage.over_patience:
                    self._stop(with_remedy(error))
                    raise StoppedError from None
                if not error.retryable or faults >= TRIES or refusals >= _REFUSALS:
                    raise self._failed(error, faults + refusals) from None
                if not too_many and not down:
                    await self.halt.pause(_BACKOFF_S * 2**faults * random.uniform(0.5, 1.0))
            except BaseException:
                self.budget.settle(reserved, reserved)
                self.pace.over()
                if number is not None:
                    with suppress(OSError):  # its line stays open, so that the next run counts what it may have cost
                        self.work.asked([number], reserved)
                raise
            else:
                self.pace.answered()
                self.outage.replied(answered=True)
                self._failures = 0
                return self._reply(answers, perf_counter() - started, reserved, number)

    def _reply(self, answers: Sequence[Answer], took: float, reserved: float, number: int | None) -> Reply:
        costs = [a.cost_usd if a.cost_usd is not None else self.pricer.cost(a.usage) for a in answers]
        usd = sum(c for c in costs if c is not None) if answers and None not in costs else None
        # A model that replays a recording states its own latency; the time of looking it up says nothing.
        latency = max((a.latency_s for a in answers if a.latency_s is not None), default=took)
        counted = reserved if usd is None else usd  # under a budget an unknown cost counts as the estimate
        self.budget.settle(reserved, counted)
        if number is None:
            return Reply(answers, usd, latency)
        return Reply(answers, usd, latency, partial(self.work.asked, [number], counted if usd is None else 0.0))

    async def _turn(self) -> float:
        if self._over:  # else a refusal that comes after the end would wait for its pause
            raise StoppedError
        began = await self.pace.turn()
        if self._over:
            self.pace.over()
            raise StoppedError
        return began

    @property
    def _over(self) -> bool:
        return self.halt.reason is not None or self.stopped is not None

    async def _reserve(self, prompt: Prompt, request: Request) -> tuple[float, int | None]:
        if self.budget.limit is None:
            return 0.0, None
        usd = self.estimate(prompt, request)
        assert usd is not None  # checked before the run begins
        try:
            await self.budget.reserve(usd)
        except OutOfMoneyError:
            self.halt.stop("budget")
            raise StoppedError from None
        return usd, self.work.asks(usd)

    def _refund(self, error: ModelError, reserved: float, number: int | None) -> None:
        """What the failed request cost: what the provider counted, or where that is unknown its estimate."""
        usd = reserved if error.usage is None else self.pricer.cost(error.usage) or 0.0
        self.budget.settle(reserved, usd)
        if number is not None or usd:
            self.work.asked([] if number is None else [number], usd)

    def _failed(self, error: ModelError, tries: int) -> FailedError:
        self._failures += 1
        if self._failures >= _FAILURES + self.pace.most:
            self._stop(f"{self.name}: {self._failures} requests failed one after the other, the last with: {error}")
        return FailedError(error_kind(error), str(error), tries)

    def _stop(self, why: str) -> None:
        self.stopped = self.stopped or why
        self.release()

    def release(self) -> None:
        """Lets go of those who wait for their turn: nothing more will be asked."""
        self.pace.release_all()

    async def run(self) -> None:
        """Nothing goes on beside."""
