"""A run as events, and the answer's text as soon as it is certain to be returned.

    async for event in cascade.astream("What is 17 * 3?"):
        match event:
            case Token(text=text): print(text, end="")
            case Finished(result=result): ...

After the last event, the texts of the Token events since the last Retracted are ``result.text``.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeAlias

from cascade.models.protocol import Chunk, Model, ModelError, Request
from cascade.result import ANSWERED, Attempt, Reason, Result
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
    """A piece of the answer's text, as the provider sent it; ``refusal``: the provider marks it as a refusal."""

    tier: str
    text: str
    refusal: bool = False


@dataclass(frozen=True, slots=True)
class Reasoning:
    """The model's reasoning before its answer. It is held back as the text is, and sent before it.

    Thoughts that follow live text are sent once the answer is whole. The texts of the Reasoning events since the last
    Retracted add up to ``result.answer.reasoning``. ``thinking_blocks`` are the same thoughts as Anthropic signed or
    redacted them; empty where the model is not Anthropic's.
    """

    tier: str
    text: str
    thinking_blocks: tuple[Mapping[str, Any], ...] = ()


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
    """Every Token and Reasoning so far is void; the text that counts follows, if there is any.

    With ``stream: optimistic`` this follows a rejected answer. With ``held`` it happens only where text that no judge could
    reject was being sent, and then the stream was cut by the provider or the deadline.
    """

    tier: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event, with the result that ``arun`` would have returned."""

    result: Result


Event: TypeAlias = TierStarted | Reasoning | Token | VerdictGiven | Escalated | Retracted | Finished
OnEvent = Callable[[Event], object]


@dataclass(slots=True, eq=False)
class _Received:
    """The part of one request's answer that has arrived; ``unsent``: some of its reasoning was not sent yet."""

    texts: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    thinking_blocks: Sequence[Mapping[str, Any]] = ()
    unsent: bool = False
    refusal: bool = False


@dataclass(slots=True, eq=False)
class EventStream:
    """Turns one run into events; the engine reports to it what happens. Tokens wait here until their answer is accepted.

    Args:
        policy: The run's policy.
        on_event: Called with each event.
        stream: When text becomes an event, in place of the policy's ``stream``.
    """

    policy: "Policy"
    on_event: OnEvent
    stream: "Stream | None" = None
    _tier: str = ""
    _is_live: bool = False  # whether the tier's tokens are sent as they arrive
    _may_be_replaced: bool = False  # whether the tier's accepted answer may still lose to an earlier tier's
    _sent_verdicts: int = 0
    _requests: list[_Received] = field(default_factory=list)  # of the tier
    _received_by_tier: dict[str, list[_Received]] = field(default_factory=dict)
    _source: _Received | None = None  # the request whose tokens are sent
    _sent_tier: str = ""  # the tier whose tokens were sent
    _sent: list[str] = field(default_factory=list)  # the texts sent since the last retraction
    _sent_reasoning: str = ""  # the reasoning sent since then
    _sent_blocks: int = 0  # how many signed blocks were sent with it

    def tier_started(self, tier: "CompiledTier", last_tier: bool, *, has_tools: bool = False) -> None:
        """A tier's model is about to be called; ``has_tools``: with tools, whose calls are judged."""
        self._tier, self._sent_verdicts, self._source = tier.name, 0, None
        self._requests = self._received_by_tier[tier.name] = []
        self._may_be_replaced = last_tier and self.policy.final != "last" and len(self.policy.tiers) > 1
        # The only tier's answer is returned whatever its calls are like.
        is_judged = has_tools and not (len(self.policy.tiers) == 1 and self.policy.when_unsure == "best")
        certain = not self._may_be_replaced and not is_judged and is_certain(tier)
        self._is_live = (self.stream or self.policy.stream) == "optimistic" or certain
        self.on_event(TierStarted(tier.name, tier.handle.model.name))

    async def send(self, model: Model, prompt: Prompt, request: Request) -> Sequence[Answer]:
        """Sends a request as a stream where the model has one; raises what ``model.answer`` raises."""
        received = _Received()
        self._requests.append(received)
        try:
            stream = getattr(model, "stream", None)
            if stream is None:
                answers = await model.answer(prompt, request)
                if answers:
                    self._on_chunk(received, Chunk(text=answers[0].text, answer=answers[0]))
                return answers
            async with aclosing(stream(prompt, request)) as chunks:
                async for chunk in chunks:
                    self._on_chunk(received, chunk)
                    if chunk.answer is not None:
                        return [chunk.answer]
            raise ModelError(f"{model.name}: the stream was cut (no answer at its end)", model=model.name, retryable=True)
        except BaseException:
            received.texts.clear()
            if self._source is received:
                self._source = None
                self._retract()
            raise

    def _on_chunk(self, received: _Received, chunk: Chunk) -> None:
        if chunk.retracts:
            received.texts.clear()
            received.unsent = True
            if self._source is received:
                self._retract()
        if chunk.reasoning or chunk.thinking_blocks:
            received.reasoning.append(chunk.reasoning)
            received.thinking_blocks = (*received.thinking_blocks, *chunk.thinking_blocks)
            received.unsent = True
        if chunk.answer is not None:
            received.reasoning = [chunk.answer.reasoning or ""]
            received.thinking_blocks = chunk.answer.extra.get("thinking_blocks", ())
            received.unsent = True
            received.refusal = is_refusal_text(chunk.answer)
        else:
            received.refusal = received.refusal or chunk.refusal
        if chunk.text:
            self._on_text(received, chunk.text)

    def _on_text(self, received: _Received, text: str) -> None:
        received.texts.append(text)
        if self._source is received:
            self._send_received_reasoning(received)
            self._send(text, received.refusal)
        elif self._is_live and self._source is None:
            self._source = received
            self._sent_tier = self._tier
            self._send_received_reasoning(received)
            for piece in received.texts:
                self._send(piece, received.refusal)

    def _send_received_reasoning(self, received: _Received) -> None:
        if received.unsent:
            received.unsent = False
            self._send_reasoning("".join(received.reasoning), received.thinking_blocks)

    def judged(self, verdicts: Sequence[Verdict]) -> None:
        """Emits the new ones among the tier's verdicts so far."""
        for verdict in verdicts[self._sent_verdicts :]:
            self.on_event(VerdictGiven(self._tier, verdict))
        self._sent_verdicts = len(verdicts)

    def tier_ended(self, attempt: Attempt, next_tier: str | None) -> None:
        """A tier's attempt ended; ``next_tier`` follows (None: none does)."""
        if attempt.reason in ANSWERED and not self._may_be_replaced:
            assert attempt.answer is not None
            self._send_answer(attempt.tier, attempt.answer.text, attempt.answer)
        elif next_tier is not None:
            self._retract()
            self.on_event(Escalated(attempt.tier, attempt.reason, next_tier))

    def run_finished(self, result: Result) -> Result:
        """Emits what was not sent yet of the run's answer, then the result, which it returns."""
        self._send_answer(result.tier, result.text, result.answer)
        self.on_event(Finished(result))
        return result

    def _send_answer(self, tier: str, text: str, answer: Answer | None) -> None:
        """Sends reasoning and text, in the pieces in which it arrived where it did, unless they were sent already."""
        reasoning = (answer.reasoning if answer is not None else None) or ""
        blocks = answer.extra.get("thinking_blocks", ()) if answer is not None else ()
        if "".join(self._sent) == text:
            if not self._sent:
                self._sent_tier = tier
            self._send_reasoning(reasoning, blocks)
            return
        self._retract()
        self._sent_tier = tier
        self._send_reasoning(reasoning, blocks)
        refusal = answer is not None and is_refusal_text(answer)
        arrived = (received.texts for received in self._received_by_tier.get(tier, ()))
        as_received = (texts for texts in arrived if "".join(texts) == text)
        for piece in next(as_received, [text]):
            if piece:
                self._send(piece, refusal)

    def _send(self, text: str, refusal: bool) -> None:
        self._sent.append(text)
        self.on_event(Token(self._sent_tier, text, refusal))

    def _send_reasoning(self, reasoning: str, blocks: Sequence[Mapping[str, Any]]) -> None:
        """Sends what was not sent yet of reasoning that is whole up to here."""
        if not reasoning.startswith(self._sent_reasoning):
            return
        rest, rest_blocks = reasoning[len(self._sent_reasoning) :], tuple(blocks[self._sent_blocks :])
        if rest or rest_blocks:
            self._sent_reasoning, self._sent_blocks = reasoning, len(blocks)
            self.on_event(Reasoning(self._sent_tier, rest, rest_blocks))

    def _retract(self) -> None:
        if self._sent or self._sent_reasoning or self._sent_blocks:
            self._sent, self._sent_reasoning, self._sent_blocks = [], "", 0
            self.on_event(Retracted(self._sent_tier))


def is_refusal_text(answer: Answer) -> bool:
    """Whether the answer's text is what the provider marks as a refusal."""
    return answer.refusal is not None and answer.refusal == answer.text


def is_certain(tier: "CompiledTier") -> bool:
    """Whether the tier's answer is certain to be accepted and returned, so that its tokens are sent at once."""
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
            running.exception()  # so that it is not reported as unread after an early exit


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
