"""The client of one model: rate limit, cost limit, retries. Every request of a recording goes through it."""

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

ATTEMPTS = 5  # of a request with a temporary error
_MAX_REJECTIONS = 40  # of one request by a rate limit
_MAX_FAILURES = 30  # in a row, beyond those under way together, before the model counts as failing
_BACKOFF_S = 0.25
_LONG_S = 3.0
_REJECTION_STATUSES = frozenset((429, 503, 529))


class RequestFailedError(Exception):
    """A request failed after all retries; ``kind`` groups similar errors, ``message`` is the provider's."""

    def __init__(self, kind: str, message: str, attempts: int) -> None:
        super().__init__(message)
        self.kind, self.message, self.attempts = kind, message, attempts


class StoppedError(Exception):
    """No more requests are sent: to this model, or to any."""


@dataclass(slots=True)
class StopSignal:
    """Stops the whole run; ``reason`` is None while it goes on."""

    reason: str | None = None
    _event: asyncio.Event = field(default_factory=asyncio.Event)

    def stop(self, reason: str) -> None:
        """Stops the run; the first reason is kept."""
        self.reason = self.reason or reason
        self._event.set()

    async def pause(self, seconds: float) -> None:
        """Sleeps. Raises StoppedError as soon as the run stops."""
        try:
            await asyncio.wait_for(self._event.wait(), seconds)
        except TimeoutError:
            return
        raise StoppedError


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to one request.

    Attributes:
        answers: One answer, or several samples.
        usd: What they cost together in USD; None where that is unknown.
        latency_s: The seconds they took; None where that is unknown.
        on_stored: To be called once the answers are in the work file.
    """

    answers: Sequence[Answer]
    usd: float | None
    latency_s: float | None
    on_stored: Callable[[], None] = lambda: None


class AnswerSource(Protocol):
    """A model that is being recorded, online or by batch. ``stopped`` is why no more requests are sent, if so."""

    name: str
    stopped: str | None

    @property
    def model(self) -> Model: ...

    @property
    def waiting_for(self) -> str | None:
        """What is slow right now, as text for the progress line; None: nothing."""
        ...

    async def ask(self, prompt: Prompt, request: Request) -> Reply:
        """Sends a request, with retries. Raises RequestFailedError, StoppedError."""
        ...

    def release(self) -> None:
        """Wakes all waiters with StoppedError: no more requests will be sent."""
        ...

    async def run(self) -> None:
        """The background work of the source, until it is cancelled. Raises OSError."""
        ...


@dataclass(slots=True, kw_only=True)
class RecordingClient:
    """Implements AnswerSource with one request at a time; stops for a wrong key or a model that always fails.

    Attributes:
        name: The model's name in the policy file.
        model: The model.
        pricer: Computes the cost of its answers.
        limiter: The rate limit, shared by all workers of the model.
        budget: The cost limit of the recording.
        checkpoint: The open work file.
        stop_signal: Stops the run.
        stopped: Why no more requests are sent to the model; None while they are.
    """

    name: str
    model: Model
    pricer: Pricer
    limiter: AdaptiveLimiter
    budget: CostBudget
    checkpoint: Checkpoint
    stop_signal: StopSignal
    stopped: str | None = field(default=None, init=False)
    outage: Outage = field(init=False)
    _bounds: Bounds = field(init=False)
    _failures: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._bounds = Bounds.of(self.pricer.spec)
        self.outage = Outage(self.name, _MAX_FAILURES + self.limiter.max_concurrency)

    @property
    def waiting_for(self) -> str | None:
        """See AnswerSource."""
        pause_s = self.limiter.pause_s
        return f"no requests to {self.name} for {pause_s:.0f} s" if pause_s >= _LONG_S and self.stopped is None else None

    def estimate(self, prompt: Prompt, request: Request) -> float | None:
        """An upper estimate of what the request can cost in USD; None where the price is unknown."""
        return estimate(
            self.pricer, self._bounds, prompt, n=request.n, max_tokens=request.max_tokens, options=request.options
        )

    async def ask(self, prompt: Prompt, request: Request) -> Reply:
        """Sends a request, with retries. Raises RequestFailedError, StoppedError."""
        if self.budget.limit is not None and request.max_tokens is None:
            bound = self.pricer.spec.max_tokens if self.pricer.spec is not None else None
            request = replace(request, max_tokens=bound or MAX_OUTPUT)  # a limit holds only where the answer is bounded
        faults = rejections = 0
        while True:
            sent_at = await self._acquire()
            reserved, number = 0.0, None
            try:
                reserved, number = await self._reserve(prompt, request)
                started = perf_counter()
                answers = await self.model.answer(prompt, request)
            except ModelError as error:
                self._settle_error(error, reserved, number)
                rejected, unavailable = error.status in _REJECTION_STATUSES, self.outage.record_error(error)
                if rejected or unavailable:
                    rejections += rejected
                    self.limiter.on_rejection(sent_at, error.retry_after_s)
                else:
                    faults += 1
                    self.limiter.release()
                if is_permanent(error) or self.outage.expired:
                    self._stop(with_remedy(error))
                    raise StoppedError from None
                if not error.retryable or faults >= ATTEMPTS or rejections >= _MAX_REJECTIONS:
                    raise self._give_up(error, faults + rejections) from None
                if not rejected and not unavailable:
                    await self.stop_signal.pause(_BACKOFF_S * 2**faults * random.uniform(0.5, 1.0))
            except BaseException:
                self.budget.settle(reserved, reserved)
                self.limiter.release()
                if number is not None:
                    with suppress(OSError):  # its line stays open, so that the next run counts what it may have cost
                        self.checkpoint.end_requests([number], reserved)
                raise
            else:
                self.limiter.on_answer()
                self.outage.record_reply(answered=True)
                self._failures = 0
                return self._reply(answers, perf_counter() - started, reserved, number)

    def _reply(self, answers: Sequence[Answer], latency_s: float, reserved: float, number: int | None) -> Reply:
        costs = [a.cost_usd if a.cost_usd is not None else self.pricer.cost(a.usage) for a in answers]
        usd = sum(c for c in costs if c is not None) if answers and None not in costs else None
        # A model that replays a recording states its own latency; the time of looking it up says nothing.
        latency = max((a.latency_s for a in answers if a.latency_s is not None), default=latency_s)
        counted = reserved if usd is None else usd  # under a budget an unknown cost counts as the estimate
        self.budget.settle(reserved, counted)
        if number is None:
            return Reply(answers, usd, latency)
        return Reply(answers, usd, latency, partial(self.checkpoint.end_requests, [number], counted if usd is None else 0.0))

    async def _acquire(self) -> float:
        if self._stopping:  # otherwise a rejection after the end would wait for its pause
            raise StoppedError
        sent_at = await self.limiter.acquire()
        if self._stopping:
            self.limiter.release()
            raise StoppedError
        return sent_at

    @property
    def _stopping(self) -> bool:
        return self.stop_signal.reason is not None or self.stopped is not None

    async def _reserve(self, prompt: Prompt, request: Request) -> tuple[float, int | None]:
        if self.budget.limit is None:
            return 0.0, None
        usd = self.estimate(prompt, request)
        assert usd is not None  # checked before the run begins
        try:
            await self.budget.reserve(usd)
        except OutOfMoneyError:
            self.stop_signal.stop("budget")
            raise StoppedError from None
        return usd, self.checkpoint.begin_request(usd)

    def _settle_error(self, error: ModelError, reserved: float, number: int | None) -> None:
        """Counts the cost of a failed request: by the provider's usage, otherwise by the estimate."""
        usd = reserved if error.usage is None else self.pricer.cost(error.usage) or 0.0
        self.budget.settle(reserved, usd)
        if number is not None or usd:
            self.checkpoint.end_requests([] if number is None else [number], usd)

    def _give_up(self, error: ModelError, attempts: int) -> RequestFailedError:
        self._failures += 1
        if self._failures >= _MAX_FAILURES + self.limiter.max_concurrency:
            self._stop(f"{self.name}: {self._failures} requests failed in a row, the last with: {error}")
        return RequestFailedError(error_kind(error), str(error), attempts)

    def _stop(self, reason: str) -> None:
        self.stopped = self.stopped or reason
        self.release()

    def release(self) -> None:
        """See AnswerSource."""
        self.limiter.release_all()

    async def run(self) -> None:
        """See AnswerSource: there is no background work."""
