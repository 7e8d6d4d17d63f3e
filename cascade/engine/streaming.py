"""A run as events, and the answer's text as soon as it is certain to be returned.

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
    """A tier's model is called; ``model`` is its name in the policy."""

    tier: str
    model: str


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the answer's text, as the provider sent it."""

    tier: str
    text: str


@dataclass(frozen=True, slots=True)
class VerdictGiven:
    """A judge's verdict on the tier's whole answer."""

    tier: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Escalated:
    """The tier has no answer, or it was not accepted; ``next_tier`` is called now."""

    tier: str
    reason: Reason
    next_tier: str


@dataclass(frozen=True, slots=True)
class Retracted:
    """Every Token so far is void; the text that counts follows, if there is any.

    With ``stream: optimistic`` this follows a rejected answer. With ``held`` it happens only where text that no judge could
    reject was being sent, and then the stream was cut by the provider or the deadline.
    """

    tier: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event, with the result that ``arun`` would have returned."""

    result: Result


Event: TypeAlias = TierStarted | Token | VerdictGiven | Escalated | Retracted | Finished
OnEvent = Callable[[Event], object]


class EventStream:
    """Turns one run into events; the engine reports to it what happens. Tokens wait here until their answer is accepted.

    Args:
        policy: The run's policy.
        on_event: Called with each event.
        stream: When text becomes an event, in place of the policy's ``stream``.
    """

    __slots__ = (
        "_emit",
        "_is_live",
        "_may_be_replaced",
        "_policy",
        "_requests",
        "_sent",
        "_sent_tier",
        "_sent_verdicts",
        "_source",
        "_stream",
        "_texts_by_tier",
        "_tier",
    )

    def __init__(self, policy: "Policy", on_event: OnEvent, stream: "Stream | None" = None) -> None:
        self._policy, self._emit, self._stream = policy, on_event, stream or policy.stream
        self._tier = ""
        self._is_live = False  # whether the tier's tokens are sent as they arrive
        self._may_be_replaced = False  # whether the tier's accepted answer may still lose to an earlier tier's
        self._sent_verdicts = 0
        self._requests: list[list[str]] = []  # the texts of each of the tier's requests
        self._texts_by_tier: dict[str, list[list[str]]] = {}
        self._source: list[str] | None = None  # the request whose tokens are sent
        self._sent_tier = ""  # the tier whose tokens were sent
        self._sent: list[str] = []  # the texts sent since the last retraction

    def tier_started(self, tier: "CompiledTier", last_tier: bool) -> None:
        """A tier's model is about to be called."""
        self._tier, self._sent_verdicts, self._source = tier.name, 0, None
        self._requests = self._texts_by_tier[tier.name] = []
        self._may_be_replaced = last_tier and self._policy.final == "best" and len(self._policy.tiers) > 1
        self._is_live = self._stream == "optimistic" or (not self._may_be_replaced and is_certain(tier))
        self._emit(TierStarted(tier.name, tier.handle.model.name))

    async def send(self, model: Model, prompt: Prompt, request: Request) -> Sequence[Answer]:
        """Sends a request as a stream where the model has one; raises what ``model.answer`` raises."""
        texts: list[str] = []
        self._requests.append(texts)
        try:
            stream = getattr(model, "stream", None)
            if stream is None:
                answers = await model.answer(prompt, request)
                if answers and answers[0].text:
                    self._on_text(texts, answers[0].text)
                return answers
            async with aclosing(stream(prompt, request)) as chunks:
                async for chunk in chunks:
                    if chunk.retracts:
                        texts.clear()
                        if self._source is texts:
                            self._retract()
                    if chunk.text:
                        self._on_text(texts, chunk.text)
                    if chunk.answer is not None:
                        return [chunk.answer]
            raise ModelError(f"{model.name}: the stream was cut (no answer at its end)", model=model.name, retryable=True)
        except BaseException:
            texts.clear()
            if self._source is texts:
                self._source = None
                self._retract()
            raise

    def _on_text(self, texts: list[str], text: str) -> None:
        texts.append(text)
        if self._source is texts:
            self._send(text)
        elif self._is_live and self._source is None:
            self._source = texts
            self._sent_tier = self._tier
            for piece in texts:
                self._send(piece)

    def judged(self, verdicts: Sequence[Verdict]) -> None:
        """Emits the new ones among the tier's verdicts so far."""
        for verdict in verdicts[self._sent_verdicts :]:
            self._emit(VerdictGiven(self._tier, verdict))
        self._sent_verdicts = len(verdicts)

    def tier_ended(self, attempt: Attempt, next_tier: str | None) -> None:
        """A tier's attempt ended; ``next_tier`` follows (None: none does)."""
        if attempt.reason == "accepted" and not self._may_be_replaced:
            assert attempt.answer is not None
            self._send_answer(attempt.tier, attempt.answer.text)
        elif next_tier is not None:
            self._retract()
            self._emit(Escalated(attempt.tier, attempt.reason, next_tier))

    def run_finished(self, result: Result) -> Result:
        """Emits what was not sent yet of the run's answer, then the result, which it returns."""
        self._send_answer(result.tier, result.text)
        self._emit(Finished(result))
        return result

    def _send_answer(self, tier: str, text: str) -> None:
        """Sends the text, in the pieces in which it arrived where it did, unless it was sent already."""
        if "".join(self._sent) == text:
            return
        self._retract()
        self._sent_tier = tier
        as_received = (texts for texts in self._texts_by_tier.get(tier, ()) if "".join(texts) == text)
        for piece in next(as_received, [text]):
            if piece:
                self._send(piece)

    def _send(self, text: str) -> None:
        self._sent.append(text)
        self._emit(Token(self._sent_tier, text))

    def _retract(self) -> None:
        if self._sent:
            self._sent = []
            self._emit(Retracted(self._sent_tier))


def is_certain(tier: "CompiledTier") -> bool:
    """Whether the tier's answer is accepted and returned whatever its text is, so that its tokens need not wait."""
    thresholds = tier.thresholds
    if not tier.judges:
        return thresholds.final <= 0 or (not tier.calibrators and tier.prior >= thresholds.final)
    if thresholds.final > 0 or any(thresholds.reject_below[:-1]):
        return False
    return all(getattr(judge, "only_scores", False) for judge in tier.judges)


async def events_of(run: Callable[[OnEvent], Awaitable[Any]]) -> AsyncGenerator[Event]:
    """Yields the events of a run as they happen; closing the generator cancels the run.

    Args:
        run: Starts the run, with the function to call with each event.

    Raises:
        CascadeError: What the run raises, after its events.
    """
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
            running.exception()  # nobody reads it after an early exit


def events_in_thread(
    run: Callable[[OnEvent], Awaitable[Any]], loop: Callable[[], asyncio.AbstractEventLoop]
) -> Generator[Event]:
    """``events_of`` for code that is not async: the run starts with the first event, in another thread's ``loop``."""
    queue: SimpleQueue[Event | None] = SimpleQueue()

    async def work() -> None:
        await run(queue.put)

    running = asyncio.run_coroutine_threadsafe(work(), loop())
    running.add_done_callback(lambda _: queue.put(None))
    try:
        while (event := queue.get()) is not None:
            yield event
        running.result()
    finally:
        running.cancel()
