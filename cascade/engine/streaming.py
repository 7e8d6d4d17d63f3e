"""A run as events: what happens as it happens, and the answer's text as soon as nothing can take it back.

    async for event in cascade.astream("What is 17 * 3?"):
        match event:
            case Token(text=text): print(text, end="")
            case Finished(result=result): ...

After the last event, the texts of the Token events since the last Retracted are ``result.text``.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeAlias

from cascade.models.protocol import Model, ModelError, Request
from cascade.result import Attempt, Reason, Result
from judges import Answer, Prompt, Verdict

if TYPE_CHECKING:
    from cascade.policy.schema import Policy, Stream

    from .plan import CompiledTier


@dataclass(frozen=True, slots=True)
class TierStarted:
    """A tier is asked; ``model`` is the model's name in the policy."""

    tier: str
    model: str


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the answer's text, as the provider cut it."""

    tier: str
    text: str


@dataclass(frozen=True, slots=True)
class VerdictGiven:
    """What a judge said of the tier's whole answer."""

    tier: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Escalated:
    """The tier's answer was given up, or there is none; ``next_tier`` is asked now."""

    tier: str
    reason: Reason
    next_tier: str


@dataclass(frozen=True, slots=True)
class Retracted:
    """Every Token so far is void; what counts follows, if anything does.

    With ``stream: optimistic`` that is how a rejected answer ends. With ``held`` it happens only where text that no judge
    could reject was flowing already, and then the provider cut the stream, or the deadline did.
    """

    tier: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event: what ``arun`` would have returned."""

    result: Result


Event: TypeAlias = TierStarted | Token | VerdictGiven | Escalated | Retracted | Finished
OnEvent = Callable[[Event], object]


class EventStream:
    """Turns one run into events; the engine tells it what happens. Tokens wait here until their answer is accepted."""

    __slots__ = (
        "_emit",
        "_heard",
        "_is_live",
        "_judged",
        "_policy",
        "_sent",
        "_speaker",
        "_speaks",
        "_stream",
        "_takes",
        "_tier",
        "_waits",
    )

    def __init__(self, policy: "Policy", on_event: OnEvent, stream: "Stream | None" = None) -> None:
        self._policy, self._emit, self._stream = policy, on_event, stream or policy.stream
        self._tier = ""
        self._is_live = False  # whether the tier's tokens are sent as they come
        self._waits = False  # whether the tier's accepted answer may still lose to an earlier one
        self._judged = 0
        self._takes: list[list[str]] = []  # the texts of each request that the tier made
        self._heard: dict[str, list[list[str]]] = {}  # the same by tier
        self._speaker: list[str] | None = None  # the request whose tokens flow
        self._speaks = ""  # the tier whose tokens were sent
        self._sent: list[str] = []  # since the last retraction

    def started(self, tier: "CompiledTier", last_tier: bool) -> None:
        """A tier is about to be asked."""
        self._tier, self._judged, self._speaker = tier.name, 0, None
        self._takes = self._heard[tier.name] = []
        self._waits = last_tier and self._policy.final == "best" and len(self._policy.tiers) > 1
        self._is_live = self._stream == "optimistic" or (not self._waits and is_certain(tier))
        self._emit(TierStarted(tier.name, tier.seat.model.name))

    async def ask(self, model: Model, prompt: Prompt, request: Request) -> Sequence[Answer]:
        """Stands in for ``model.answer``: asks for a stream where the model has one. Raises what the model raises."""
        take: list[str] = []
        self._takes.append(take)
        try:
            stream = getattr(model, "stream", None)
            if stream is None:
                answers = await model.answer(prompt, request)
                if answers and answers[0].text:
                    self._on_text(take, answers[0].text)
                return answers
            async with aclosing(stream(prompt, request)) as chunks:
                async for chunk in chunks:
                    if chunk.retracts:
                        take.clear()
                        if self._speaker is take:
                            self._retract()
                    if chunk.text:
                        self._on_text(take, chunk.text)
                    if chunk.answer is not None:
                        return [chunk.answer]
            raise ModelError(f"{model.name}: the stream was cut (no answer at its end)", model=model.name, retryable=True)
        except BaseException:
            take.clear()
            if self._speaker is take:
                self._speaker = None
                self._retract()
            raise

    def _on_text(self, take: list[str], text: str) -> None:
        take.append(text)
        if self._speaker is take:
            self._send(text)
        elif self._is_live and self._speaker is None:
            self._speaker = take
            self._speaks = self._tier
            for piece in take:
                self._send(piece)

    def judged(self, verdicts: Sequence[Verdict]) -> None:
        """The tier's verdicts so far; those that are new become events."""
        for verdict in verdicts[self._judged :]:
            self._emit(VerdictGiven(self._tier, verdict))
        self._judged = len(verdicts)

    def ended(self, attempt: Attempt, next_tier: str | None) -> None:
        """The tier is done; ``next_tier`` is asked after it (None: none is)."""
        if attempt.reason == "accepted" and not self._waits:
            assert attempt.answer is not None
            self._show(attempt.tier, attempt.answer.text)
        elif next_tier is not None:
            self._retract()
            self._emit(Escalated(attempt.tier, attempt.reason, next_tier))

    def finished(self, result: Result) -> Result:
        """The run is done: what was not sent yet of its answer is, then the result."""
        self._show(result.tier, result.text)
        self._emit(Finished(result))
        return result

    def _show(self, tier: str, text: str) -> None:
        """Sends the text, as it arrived where it did, unless it was sent already."""
        if "".join(self._sent) == text:
            return
        self._retract()
        self._speaks = tier
        as_heard = (take for take in self._heard.get(tier, ()) if "".join(take) == text)
        for piece in next(as_heard, [text]):
            if piece:
                self._send(piece)

    def _send(self, text: str) -> None:
        self._sent.append(text)
        self._emit(Token(self._speaks, text))

    def _retract(self) -> None:
        if self._sent:
            self._sent = []
            self._emit(Retracted(self._speaks))


def is_certain(tier: "CompiledTier") -> bool:
    """Whether the tier's answer is accepted and returned as it is, whatever it says, so that its tokens need not wait."""
    thresholds = tier.thresholds
    if not tier.judges:
        return thresholds.final <= 0 or (not tier.calibrators and tier.prior >= thresholds.final)
    if thresholds.final > 0 or any(thresholds.reject_below[:-1]):
        return False
    return all(getattr(judge, "only_scores", False) for judge in tier.judges)


async def as_they_come(run: Callable[[OnEvent], Awaitable[Any]]) -> AsyncGenerator[Event]:
    """The events of ``run``, which is given what to call with each. Raises what it raises; closing cancels it."""
    queue: asyncio.Queue[Event | None] = asyncio.Queue()
    running = asyncio.ensure_future(run(queue.put_nowait))
    running.add_done_callback(lambda _: queue.put_nowait(None))
    try:
        while (event := await queue.get()) is not None:
            yield event
        await running
    finally:
        if not running.done():
            running.cancel()
            await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # whoever left early has no use for it


def in_thread(run: Callable[[OnEvent], Awaitable[Any]], loop: Callable[[], asyncio.AbstractEventLoop]) -> Generator[Event]:
    """``as_they_come`` for code that is not async: the run goes on in another thread's ``loop``, from the first event on."""
    queue: SimpleQueue[Event | None] = SimpleQueue()

    async def going() -> None:
        await run(queue.put)

    running = asyncio.run_coroutine_threadsafe(going(), loop())
    running.add_done_callback(lambda _: queue.put(None))
    try:
        while (event := queue.get()) is not None:
            yield event
        running.result()
    finally:
        running.cancel()
