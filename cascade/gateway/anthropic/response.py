"""Anthropic's Messages API: writes a result as a message."""

from collections.abc import Mapping
from typing import Any

from cascade.gateway.openai.completion import abstention
from cascade.gateway.request import GatewayRequest
from cascade.gateway.response import summary, usage_of
from cascade.result import Result
from judges import Usage
from judges.reading.tool_calls import arguments_object


def message(request: GatewayRequest, result: Result) -> dict[str, Any]:
    """The result as one message."""
    return {
        "id": f"msg_{result.run_id}",
        "type": "message",
        "role": "assistant",
        "model": result.model,
        "content": blocks(result),
        "stop_reason": stop_reason(result),
        "stop_sequence": stop_sequence(result),
        "usage": usage(usage_of([result])),
        **applied_edits(result),
        "cascade": summary(request, result),
    }


def blocks(result: Result) -> list[dict[str, Any]]:
    """The answer's thoughts, its text and its tool calls; in the provider's order where that is another one."""
    if result.answer is not None and (ordered := result.answer.extra.get("blocks")):
        texts = [block["text"] for block in ordered if block["type"] == "text"]
        calls = [block["id"] for block in ordered if block["type"] == "tool_use"]
        # A judge may have put another answer in its place.
        if "".join(texts) == result.text and calls == [call.get("id") for call in result.tool_calls]:
            return [_plain(block) for block in ordered if block["type"] in _BLOCK_FIELDS]
    content = abstention(result) if result.abstained else result.text
    text_blocks: list[dict[str, Any]] = [{"type": "text", "text": content}] if content else []
    return thinking(result) + text_blocks + [tool_use(call) for call in result.tool_calls]


_BLOCK_FIELDS: Mapping[str, tuple[str, ...]] = {
    "text": ("type", "text"),
    "thinking": ("type", "thinking", "signature"),
    "redacted_thinking": ("type", "data"),
    "tool_use": ("type", "id", "name", "input"),
}


def _plain(block: Mapping[str, Any]) -> dict[str, Any]:
    fields = _BLOCK_FIELDS[block["type"]]
    return {name: block.get(name, "") for name in fields}


def thinking(result: Result) -> list[dict[str, Any]]:
    """The answer's thoughts: Anthropic's own blocks, or another model's thoughts as one block without a signature."""
    if result.answer is None:
        return []
    if blocks := result.answer.extra.get("thinking_blocks"):
        return [dict(block) for block in blocks]
    reasoning = result.answer.reasoning
    return [{"type": "thinking", "thinking": reasoning, "signature": ""}] if reasoning else []


def tool_use(call: Mapping[str, Any]) -> dict[str, Any]:
    """A tool call in Anthropic's shape; arguments that are not a JSON object are passed as text, as ``arguments``."""
    function = call.get("function") or {}
    return {
        "type": "tool_use",
        "id": call.get("id"),
        "name": function.get("name"),
        "input": arguments_object(function.get("arguments")),
    }


def applied_edits(result: Result) -> dict[str, Any]:
    """Anthropic's ``context_management``: what it left out of the conversation; empty where the model says nothing of it."""
    edits = None if result.answer is None else result.answer.extra.get("context_management")
    return {} if edits is None else {"context_management": edits}


def stop_sequence(result: Result) -> str | None:
    """The stop sequence that ended the answer, where the provider names it."""
    if result.answer is None or result.tool_calls or result.answer.finish_reason != "stop":
        return None
    return result.answer.extra.get("stop_sequence")


def stop_reason(result: Result) -> str:
    """Anthropic's stop reason: ``tool_use`` wherever there is a call to run.

    A call that was cut or filtered is not to be run: its answer ends with ``max_tokens`` or ``refusal``, as at Anthropic.
    """
    if result.answer is None:
        return "refusal"
    reason = result.answer.finish_reason or "stop"
    if result.tool_calls and reason not in ("length", "content_filter"):
        return "tool_use"
    if result.answer.refusal is not None or reason == "content_filter":
        return "refusal"
    if reason in ("stop", "tool_calls"):
        return "end_turn" if stop_sequence(result) is None else "stop_sequence"
    return "max_tokens"  # an unknown word means that the answer may be incomplete


def usage(tokens: Usage | None) -> dict[str, Any]:
    """Tokens as Anthropic counts them, without those of its cache; null where they are unknown."""
    if tokens is None:
        return {"input_tokens": None, "output_tokens": None}
    cached, written = tokens.cached_tokens, tokens.cache_write_tokens
    return {
        "input_tokens": tokens.input_tokens - cached - written,
        "output_tokens": tokens.output_tokens,
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": written,
        "cache_creation": {
            "ephemeral_5m_input_tokens": written - tokens.cache_write_1h_tokens,
            "ephemeral_1h_input_tokens": tokens.cache_write_1h_tokens,
        },
    }
