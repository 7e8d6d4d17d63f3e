"""A run as Anthropic's server-sent events."""

from typing import Any

from cascade.gateway.errors import ApiError, anthropic_shape
from cascade.gateway.openai.chat import abstention
from cascade.gateway.request import GatewayRequest
from cascade.gateway.response import dump, summary, usage_of
from cascade.result import Result, new_run_id
from judges import Usage

from .messages import stop_reason, tool_use, usage


class MessageWriter:
    """Implements Writer. ``message_delta`` holds the field ``cascade`` and all that was counted."""

    def __init__(self, asked: GatewayRequest) -> None:
        self._asked, self._id = asked, f"msg_{new_run_id()}"
        self._started = False
        self._index = -1  # of the block that is open, or was last

    def text(self, piece: str, model: str) -> bytes:
        """See Writer."""
        made = self._begun(model)
        if self._index < 0:
            made += self._block({"type": "text", "text": ""})
        return made + self._delta({"type": "text_delta", "text": piece})

    def beat(self) -> bytes:
        """See Writer: a ping."""
        return _event({"type": "ping"})

    def end(self, result: Result) -> bytes:
        """See Writer."""
        made = b""
        if result.abstained:
            made += self.text(abstention(result), result.model)
        made += self._begun(result.model)
        if self._index >= 0:
            made += self._stopped()
        for call in result.tool_calls:
            whole = tool_use(call)
            made += self._block({**whole, "input": {}})
            made += self._delta({"type": "input_json_delta", "partial_json": dump(whole["input"]).decode()})
            made += self._stopped()
        delta = {"stop_reason": stop_reason(result), "stop_sequence": None}
        counted = usage(usage_of([result]))
        told = summary(self._asked.policy, result)
        made += _event({"type": "message_delta", "delta": delta, "usage": counted, "cascade": told})
        return made + _event({"type": "message_stop"})

    def error(self, refusal: ApiError) -> bytes:
        """See Writer."""
        return _event(anthropic_shape(refusal))

    def _begun(self, model: str) -> bytes:
        if self._started:
            return b""
        self._started = True
        # Nothing is counted yet; clients add up from here, and message_delta replaces it.
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

    def _block(self, block: dict[str, Any]) -> bytes:
        self._index += 1
        return _event({"type": "content_block_start", "index": self._index, "content_block": block})

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _event({"type": "content_block_delta", "index": self._index, "delta": delta})

    def _stopped(self) -> bytes:
        return _event({"type": "content_block_stop", "index": self._index})


def _event(data: dict[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (data["type"].encode(), dump(data))
