"""A run as OpenAI's chat completion chunks."""

from collections.abc import Sequence
from time import time
from typing import Any

from cascade.engine.streaming import Reasoning
from cascade.gateway.errors import ApiError, openai_shape
from cascade.gateway.request import GatewayRequest
from cascade.gateway.response import dump, summary, usage_of
from cascade.result import Result, new_run_id

from .completion import finish_reason, logprobs, refusal, usage

_DONE = b"data: [DONE]\n\n"


def chat_writers(request: GatewayRequest) -> "list[ChatWriter]":
    """A writer for each choice of a request; they share the completion's id."""
    first = ChatWriter(request)
    return [first, *(ChatWriter(request, i, first.id) for i in range(1, request.n))]


class ChatWriter:
    """Implements Writer. The last chunk of the choice holds the field ``cascade``.

    Args:
        request: The request.
        index: Which choice it writes.
        id: The completion's id; None: a new one.
    """

    def __init__(self, request: GatewayRequest, index: int = 0, id: str | None = None) -> None:
        self._request, self._index = request, index
        self.id, self._created = id or f"chatcmpl-{new_run_id()}", int(time())
        self._model: str | None = None
        self._refused = False  # whether a refusal was written

    def text(self, text: str, model: str) -> bytes:
        """See Writer."""
        return self._first(model) + self._chunk({"content": text})

    def reasoning(self, reasoning: Reasoning, model: str) -> bytes:
        """See Writer. Redacted thoughts have no text."""
        events = self._first(model)
        return events + self._chunk({"reasoning_content": reasoning.text}) if reasoning.text else events

    def refusal(self, text: str, model: str) -> bytes:
        """See Writer."""
        self._refused = True
        return self._first(model) + self._chunk({"refusal": text})

    def keep_alive(self) -> bytes:
        """See Writer: a comment."""
        return b": waiting\n\n"

    def end(self, result: Result) -> bytes:
        """See Writer."""
        events = self._first(result.model)
        if not self._refused and (refusal_text := refusal(result)) is not None:
            events += self._chunk({"refusal": refusal_text})
        for i, call in enumerate(result.tool_calls):
            events += self._chunk({"tool_calls": [{**call, "index": i}]})
        extra: dict[str, Any] = {"cascade": summary(self._request, result)}
        logprobs_data = logprobs(self._request, result)
        return events + self._chunk({}, finish_reason(result), logprobs_data, extra)

    def close(self, results: Sequence[Result]) -> bytes:
        """See Writer: the tokens of all choices where the client asks for them, and the end."""
        if not self._request.include_usage:
            return _DONE
        return _event({**self._chunk_fields(), "choices": [], "usage": usage(usage_of(results))}) + _DONE

    def error(self, error: ApiError) -> bytes:
        """See Writer."""
        return _event(openai_shape(error))

    def _first(self, model: str) -> bytes:
        if self._model is not None:
            return b""
        self._model = model
        return self._chunk({"role": "assistant", "content": ""})

    def _chunk_fields(self) -> dict[str, Any]:
        return {"id": self.id, "object": "chat.completion.chunk", "created": self._created, "model": self._model}

    def _chunk(
        self,
        delta: dict[str, Any],
        finish_reason: str | None = None,
        logprobs_data: dict[str, Any] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> bytes:
        choice = {"index": self._index, "delta": delta, "finish_reason": finish_reason, "logprobs": logprobs_data}
        usage_field = {"usage": None} if self._request.include_usage else {}
        return _event({**self._chunk_fields(), "choices": [choice], **usage_field, **(extra or {})})


def _event(data: Any) -> bytes:
    return b"data: %s\n\n" % dump(data)
