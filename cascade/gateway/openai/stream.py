"""A run as OpenAI's chat completion chunks."""

from time import time
from typing import Any

from cascade.gateway.errors import ApiError, openai_shape
from cascade.gateway.request import GatewayRequest
from cascade.gateway.response import dump, summary, usage_of
from cascade.result import Result, new_run_id

from .chat import abstention, finish, logprobs, usage

_DONE = b"data: [DONE]\n\n"


class ChatWriter:
    """Implements Writer. The last chunk of the choice holds the field ``cascade``."""

    def __init__(self, asked: GatewayRequest) -> None:
        self._asked = asked
        self._id, self._created = f"chatcmpl-{new_run_id()}", int(time())
        self._model: str | None = None

    def text(self, piece: str, model: str) -> bytes:
        """See Writer."""
        return self._begun(model) + self._chunk({"content": piece})

    def beat(self) -> bytes:
        """See Writer: a comment."""
        return b": waiting\n\n"

    def end(self, result: Result) -> bytes:
        """See Writer."""
        made = self._begun(result.model)
        if result.abstained:
            made += self._chunk({"refusal": abstention(result)})
        for i, call in enumerate(result.tool_calls):
            made += self._chunk({"tool_calls": [{**call, "index": i}]})
        more: dict[str, Any] = {"cascade": summary(self._asked.policy, result)}
        logged = logprobs(self._asked, result)
        made += self._chunk({}, finish(result), logged, more)
        if self._asked.include_usage:
            made += _event({**self._about(), "choices": [], "usage": usage(usage_of([result]))})
        return made + _DONE

    def error(self, refusal: ApiError) -> bytes:
        """See Writer."""
        return _event(openai_shape(refusal))

    def _begun(self, model: str) -> bytes:
        if self._model is not None:
            return b""
        self._model = model
        return self._chunk({"role": "assistant", "content": ""})

    def _about(self) -> dict[str, Any]:
        return {"id": self._id, "object": "chat.completion.chunk", "created": self._created, "model": self._model}

    def _chunk(
        self,
        delta: dict[str, Any],
        finish_reason: str | None = None,
        logged: dict[str, Any] | None = None,
        more: dict[str, Any] | None = None,
    ) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": logged}
        counted = {"usage": None} if self._asked.include_usage else {}
        return _event({**self._about(), "choices": [choice], **counted, **(more or {})})


def _event(data: Any) -> bytes:
    return b"data: %s\n\n" % dump(data)
