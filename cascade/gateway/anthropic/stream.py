"""A run as Anthropic's server-sent events."""

from collections.abc import Mapping, Sequence
from typing import Any

from cascade.engine.streaming import Reasoning
from cascade.gateway.errors import ApiError, anthropic_shape
from cascade.gateway.openai.completion import abstention
from cascade.gateway.request import GatewayRequest
from cascade.gateway.response import dump, summary, usage_of
from cascade.result import Result, new_run_id
from judges import Usage

from .response import applied_edits, stop_reason, stop_sequence, tool_use, usage


class MessageWriter:
    """Implements Writer. ``message_delta`` contains the field ``cascade`` and the token counts."""

    def __init__(self, request: GatewayRequest) -> None:
        self._request, self._id = request, f"msg_{new_run_id()}"
        self._started = False
        self._index = -1  # of the current or latest block
        self._open = ""  # the type of the block that is open

    def text(self, text: str, model: str) -> bytes:
        """See Writer."""
        return self._start(model) + self._in_block({"type": "text", "text": ""}, {"type": "text_delta", "text": text})

    def reasoning(self, reasoning: Reasoning, model: str) -> bytes:
        """See Writer: blocks before the text, signed where the model is Anthropic's."""
        events = self._start(model)
        for block in reasoning.thinking_blocks:
            events += self._signed_block(block)
        if reasoning.thinking_blocks or not reasoning.text:
            return events
        empty = {"type": "thinking", "thinking": "", "signature": ""}
        return events + self._in_block(empty, {"type": "thinking_delta", "thinking": reasoning.text})

    def refusal(self, text: str, model: str) -> bytes:
        """See Writer: in Anthropic's shape a refusal is text, and ``stop_reason`` marks it."""
        return self.text(text, model)

    def keep_alive(self) -> bytes:
        """See Writer: a ping."""
        return _event({"type": "ping"})

    def end(self, result: Result) -> bytes:
        """See Writer."""
        events = b""
        if result.abstained:
            events += self.text(abstention(result), result.model)
        events += self._start(result.model)
        events += self._stop_block()
        for call in result.tool_calls:
            block = tool_use(call)
            events += self._start_block({**block, "input": {}})
            events += self._delta({"type": "input_json_delta", "partial_json": dump(block["input"]).decode()})
            events += self._stop_block()
        delta = {"stop_reason": stop_reason(result), "stop_sequence": stop_sequence(result)}
        tokens = usage(usage_of([result]))
        run = summary(self._request, result)
        edits = applied_edits(result)
        events += _event({"type": "message_delta", "delta": delta, "usage": tokens, **edits, "cascade": run})
        return events + _event({"type": "message_stop"})

    def close(self, results: Sequence[Result]) -> bytes:
        """See Writer: a message has one choice."""
        return b""

    def error(self, error: ApiError) -> bytes:
        """See Writer."""
        return _event(anthropic_shape(error))

    def _start(self, model: str) -> bytes:
        if self._started:
            return b""
        self._started = True
        # No tokens are known yet; message_delta replaces these counts.
        message: dict[str, Any] = {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage(Usage()),
        }
        return _event({"type": "message_start", "message": message})

    def _start_block(self, block: dict[str, Any]) -> bytes:
        events = self._stop_block()
        self._index, self._open = self._index + 1, block["type"]
        return events + _event({"type": "content_block_start", "index": self._index, "content_block": block})

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _event({"type": "content_block_delta", "index": self._index, "delta": delta})

    def _stop_block(self) -> bytes:
        if not self._open:
            return b""
        self._open = ""
        return _event({"type": "content_block_stop", "index": self._index})

    def _in_block(self, empty: dict[str, Any], delta: dict[str, Any]) -> bytes:
        """A piece of the open block, or of a new one where that is of another type."""
        start = b"" if self._open == empty["type"] else self._start_block(empty)
        return start + self._delta(delta)

    def _signed_block(self, block: Mapping[str, Any]) -> bytes:
        if block["type"] != "thinking":
            return self._start_block(dict(block)) + self._stop_block()
        events = self._start_block({"type": "thinking", "thinking": "", "signature": ""})
        events += self._delta({"type": "thinking_delta", "thinking": block["thinking"]})
        return events + self._delta({"type": "signature_delta", "signature": block["signature"]}) + self._stop_block()


def _event(data: dict[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (data["type"].encode(), dump(data))
