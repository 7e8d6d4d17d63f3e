"""Puts an answer together from the events of a stream, as the body that the provider would have sent in one piece."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from judges import Answer, Usage
from judges.reading import ReasoningStream

from .http import mapping
from .logprobs import logged_tokens
from .message_parts import calls_in, reasoning_in, signed_thoughts, text_in
from .protocol import Chunk
from .sse import DONE, Event, cut_off
from .streamed_calls import StreamedCalls

AnswerOf = Callable[[Mapping[str, Any]], Answer]
UsageOf = Callable[[Any], Usage | None]
_PLAIN_FIELDS = frozenset(("content", "role"))  # of a delta, as most are


def _chunk(
    split: ReasoningStream,
    text: str,
    calls: tuple[Mapping[str, Any], ...] = (),
    *,
    reasoning: str = "",
    reasoned: bool = False,
    refusal: bool = False,
) -> Chunk | None:
    """The answer text and reasoning that a piece of text adds: reasoning inside the text is separated from it.

    ``reasoning`` arrived in a field of its own; ``reasoned``: some has arrived, now or before.
    """
    if text and not (calls or reasoning) and split.passes(text):
        return Chunk(text=text, refusal=refusal)
    retractions = split.retracted
    answer_text = split.add(text) if text else ""
    retracts = split.retracted > retractions
    if text:
        reasoning += split.new_reasoning(continues=reasoned)
    if answer_text or calls or retracts or reasoning:
        return Chunk(text=answer_text, reasoning=reasoning, refusal=refusal, tool_calls=calls, retracts=retracts)
    return None


def _is_plain(delta: Mapping[str, Any]) -> bool:
    """Whether a delta adds to the text and to nothing else, as most do."""
    return _PLAIN_FIELDS.issuperset(delta) or not any(map(delta.get, delta.keys() - _PLAIN_FIELDS))


class ChatReader:
    """OpenAI's chat completion chunks -> the chat completion. Implements Reader.

    ``answer_of`` and ``usage_of`` make an Answer of a completion and a Usage of its usage, as for one in one piece;
    ``tools`` are the request's.
    """

    def __init__(
        self,
        name: str,
        answer_of: AnswerOf,
        usage_of: UsageOf,
        split: ReasoningStream | None = None,
        tools: Sequence[Any] = (),
    ) -> None:
        self.name, self._answer_of, self._usage_of = name, answer_of, usage_of
        self._split = split or ReasoningStream()
        self._body: Mapping[str, Any] | None = None  # where the server did not stream
        self._text: list[str] = []
        self._refusal: list[str] = []
        self._reasoning: list[str] = []
        self._calls = StreamedCalls(tools)
        self._tokens: list[Mapping[str, Any]] = []
        self._finish: str | None = None
        self._usage: Any = None
        self._done = False

    @property
    def usage(self) -> Usage | None:
        """See Reader."""
        return self._usage_of(self._usage)

    def add(self, event: Event) -> Chunk | None:
        """See Reader."""
        if event is DONE:
            self._done = True
            return None
        if event.get("usage") is not None:
            self._usage = event["usage"]
        choices = event.get("choices")
        if not choices:
            return None
        choice = choices[0]
        if choice.get("message") is not None:
            self._body = event
            return None
        if choice.get("finish_reason") is not None:
            self._finish = choice["finish_reason"]
        delta = choice.get("delta") or {}
        logprobs = choice.get("logprobs")
        if logprobs is None and type(text := delta.get("content")) is str and (len(delta) == 1 or _is_plain(delta)):
            if not text:
                return None
            self._text.append(text)
            return _chunk(self._split, text, reasoned=len(self._reasoning) > 0)
        text, refusal = self._text_of(delta)
        reasoning = reasoning_in(delta)
        if reasoning:
            self._reasoning.append(reasoning)
        calls = tuple(self._calls.add(call) for call in calls_in(delta) or ())
        if logprobs is not None:
            self._tokens.extend(logged_tokens(logprobs, text))
        reasoned = len(self._reasoning) > 0
        return _chunk(self._split, text, calls, reasoning=reasoning, reasoned=reasoned, refusal=refusal)

    def _text_of(self, delta: Mapping[str, Any]) -> tuple[str, bool]:
        """The text that a delta adds, and whether that is the provider's refusal."""
        text = text_in(delta.get("content"))
        if text:
            self._text.append(text)
        elif (refusal := delta.get("refusal")) and not self._text:
            self._refusal.append(refusal)
            return str(refusal), True
        return text, False

    def answer(self) -> Answer:
        """See Reader."""
        if self._body is not None:
            return self._answer_of(self._body)
        if self._finish is None:  # some servers send no [DONE]: the finish reason is the answer's end
            raise cut_off(self.name, "no finish_reason" if self._done else "neither finish_reason nor [DONE]")
        message = {
            "content": "".join(self._text),
            "refusal": "".join(self._refusal),
            "reasoning": "".join(self._reasoning),
            "tool_calls": self._calls.calls,
        }
        choice = {"message": message, "finish_reason": self._finish, "logprobs": {"content": self._tokens}}
        return self._answer_of({"choices": [choice], "usage": self._usage})


class MessageReader:
    """Anthropic's message events -> the message. Implements Reader.

    ``answer_of`` and ``usage_of`` make an Answer of a message and a Usage of its usage, as for one in one piece.
    """

    def __init__(self, name: str, answer_of: AnswerOf, usage_of: UsageOf, split: ReasoningStream | None = None) -> None:
        self.name, self._answer_of, self._usage_of = name, answer_of, usage_of
        self._split = split or ReasoningStream()
        self._body: Mapping[str, Any] | None = None  # where the server did not stream
        self._message: dict[str, Any] = {}
        self._blocks: list[dict[str, Any]] = []
        self._pieces: list[list[str]] = []  # of each block: its text, or its input's JSON
        self._calls: list[int] = []  # which blocks are tool calls
        self._has_counts = self._done = self._has_thoughts = False

    @property
    def usage(self) -> Usage | None:
        """See Reader. The count at the message's start is that of a message that has just begun."""
        return self._usage_of(self._message.get("usage")) if self._has_counts else None

    def add(self, event: Event) -> Chunk | None:
        """See Reader."""
        kind = event.get("type")
        if kind == "content_block_delta":
            return self._delta(event["index"], event["delta"])
        if kind == "content_block_start":
            return self._block(event["index"], event["content_block"])
        if kind == "message_start":
            self._message = dict(event["message"])
        elif kind == "message_delta":
            counts = {k: v for k, v in mapping(event.get("usage")).items() if v is not None}
            self._has_counts = self._has_counts or bool(counts)
            usage = {**mapping(self._message.get("usage")), **counts}
            edits = {name: event[name] for name in ("context_management",) if event.get(name) is not None}
            self._message = {**self._message, **event["delta"], **edits, "usage": usage}
        elif kind == "content_block_stop":
            return self._block_end(event["index"])
        elif kind == "message_stop":
            self._done = True
        elif kind == "message":  # the server did not stream
            self._body = event
        return None

    def _block(self, index: int, block: Mapping[str, Any]) -> Chunk | None:
        if index != len(self._blocks):
            raise ValueError("a block out of order")
        self._blocks.append(dict(block))
        self._pieces.append([])
        if block["type"] == "tool_use":
            self._calls.append(index)
            function = {"name": block["name"], "arguments": ""}
            call = {"index": len(self._calls) - 1, "id": block["id"], "type": "function", "function": function}
            return Chunk(tool_calls=(call,))
        if block["type"] == "text" and block["text"]:
            self._pieces[index].append(block["text"])
            return self._text_chunk(block["text"])
        if block["type"] == "thinking":
            # A whole answer joins thoughts in the same way.
            separator = "\n\n" if self._has_thoughts else ""
            self._has_thoughts = True
            self._pieces[index].append(block["thinking"])
            return Chunk(reasoning=separator + block["thinking"]) if separator or block["thinking"] else None
        return None

    def _text_chunk(self, text: str) -> Chunk | None:
        return _chunk(self._split, text, reasoned=self._has_thoughts)

    def _block_end(self, index: int) -> Chunk | None:
        block = self._blocks[index]
        if block["type"] == "thinking":
            block = {**block, "thinking": "".join(self._pieces[index])}
        blocks = signed_thoughts([block])
        return Chunk(thinking_blocks=tuple(blocks)) if blocks else None

    def _delta(self, index: int, delta: Mapping[str, Any]) -> Chunk | None:
        if delta["type"] == "text_delta":
            self._pieces[index].append(delta["text"])
            return self._text_chunk(delta["text"])
        if delta["type"] == "thinking_delta":
            self._pieces[index].append(delta["thinking"])
            return Chunk(reasoning=delta["thinking"])
        if delta["type"] == "signature_delta":
            self._blocks[index]["signature"] = delta["signature"]
            return None
        if delta["type"] == "input_json_delta":
            self._pieces[index].append(delta["partial_json"])
            if index in self._calls:
                call = {"index": self._calls.index(index), "function": {"arguments": delta["partial_json"]}}
                return Chunk(tool_calls=(call,))
        return None  # citations: no part of the answer

    def answer(self) -> Answer:
        """See Reader."""
        from jiter import from_json

        if self._body is not None:
            return self._answer_of(self._body)
        if not self._done:
            raise cut_off(self.name, "no message_stop")
        # A call that the limit of tokens cut short is what the SDK makes of it: as much as is there.
        partial: bool = self._message.get("stop_reason") == "max_tokens"
        for block, pieces in zip(self._blocks, self._pieces, strict=True):
            whole = "".join(pieces)
            if block["type"] in ("text", "thinking"):
                block[block["type"]] = whole
            elif whole and block["type"] == "tool_use":
                block["input"] = from_json(whole.encode(), partial_mode=partial)
        usage = self._message.get("usage") if self._has_counts else None
        return self._answer_of({**self._message, "content": self._blocks, "usage": usage})
