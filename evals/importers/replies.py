"""Reads the answers in logs of production traffic: texts, messages, completions and responses, also as JSON text."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .chat import UnsupportedPartError, calls_of, content_of, decoded, part_calls, thought_of

_RESPONSE_ITEMS = ("message", "reasoning", "function_call", "custom_tool_call")
# Text interfaces have their answer in one of these, alone: LangChain's chains, Bedrock, Hugging Face.
_TEXT_FIELDS = frozenset(("completion", "text", "generated_text", "output_text"))
_CUT = {"max_output_tokens": "length"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The text of an answer, its tool calls in OpenAI's shape, why it ended, its reasoning and the provider's refusal."""

    text: str
    tool_calls: tuple[Mapping[str, Any], ...] = field(default=())
    finish_reason: str | None = None
    reasoning: str | None = None
    refusal: str | None = None


def reply_of(value: Any) -> Reply | None:
    """The answer in a logged output.

    Args:
        value: A text, a message, a chat completion, a response or a list of one of these; also as JSON text.

    Returns:
        The reply; None where there is no answer.

    Raises:
        UnsupportedPartError: The answer has a part that is not text.
    """
    value = decoded(value)
    if isinstance(value, list):
        if any(_is_response_item(item) for item in value):
            return _responded(value, {})
        return reply_of(value[0]) if value else None
    if isinstance(value, str):
        return Reply(text=value)
    if not isinstance(value, Mapping):
        return None
    for name in ("choices", "candidates", "generations"):  # OpenAI's, Gemini's, LangChain's
        if isinstance(value.get(name), list):
            first = value[name][0] if value[name] else None
            return _chosen(first[0] if isinstance(first, list) and first else first)
    if len(value) == 1 and not _TEXT_FIELDS.isdisjoint(value):
        return reply_of(next(iter(value.values())))
    if isinstance(value.get("output"), list) and (
        value.get("object") == "response" or any(map(_is_response_item, value["output"]))
    ):
        return _responded(value["output"], value)
    finish = value.get("finish_reason", value.get("stop_reason"))
    inner = value.get("message")
    if isinstance(inner, Mapping):
        reply = reply_of(inner)
        return None if reply is None else _ended(reply, finish)
    if not {"content", "parts", "tool_calls", "refusal"} & value.keys():
        # The parsed answer of a schema is logged as an object.
        return Reply(text=json.dumps(value, ensure_ascii=False)) if value and "role" not in value else None
    parts = value.get("parts")
    sent = value.get("content") if parts is None else parts
    content = content_of(sent)
    calls = calls_of(value.get("tool_calls")) or part_calls(sent)
    refusal = value.get("refusal")
    refusal = refusal if isinstance(refusal, str) and refusal else None
    if not isinstance(content, str | None):
        raise UnsupportedPartError("image")
    if content is None and not calls and refusal is None:
        return None
    return Reply(
        text=content or refusal or "",
        tool_calls=calls,
        finish_reason=finish,
        reasoning=thought_of(value) or None,
        refusal=refusal,
    )


def _chosen(choice: Any) -> Reply | None:
    """One of the answers that a model gave at once."""
    if not isinstance(choice, Mapping):
        return None
    finish = choice.get("finish_reason", choice.get("finishReason"))
    for name in ("message", "content", "text"):
        inner = choice.get(name)
        if inner is not None:
            inner = inner["kwargs"] if isinstance(inner, Mapping) and isinstance(inner.get("kwargs"), Mapping) else inner
            reply = reply_of(inner) if name == "content" or isinstance(inner, Mapping) else Reply(text=str(inner))
            return None if reply is None else _ended(reply, finish)
    return None


def _ended(reply: Reply, finish: Any) -> Reply:
    return Reply(
        text=reply.text, tool_calls=reply.tool_calls, finish_reason=finish, reasoning=reply.reasoning, refusal=reply.refusal
    )


def _is_response_item(item: Any) -> bool:
    """Whether it is an output item of the Responses API."""
    if not isinstance(item, Mapping) or item.get("type") not in _RESPONSE_ITEMS:
        return False
    return item["type"] != "message" or isinstance(item.get("content"), list)


def _responded(items: Sequence[Any], response: Mapping[str, Any]) -> Reply | None:
    """The output items of the Responses API."""
    texts: list[str] = []
    refusals: list[str] = []
    thoughts: list[str] = []
    calls: list[Mapping[str, Any]] = []
    for item in items:
        if not isinstance(item, Mapping):
            continue
        if item.get("type") in ("function_call", "custom_tool_call"):
            calls += part_calls([{**item, "type": "function_call", "arguments": item.get("arguments", item.get("input"))}])
        elif item.get("type") == "reasoning":
            thoughts.append(thought_of({"reasoning": item.get("content") or item.get("summary") or ""}))
        elif item.get("type") == "message":
            content = item.get("content")
            parts = content if isinstance(content, list) else []
            refusals += [str(p["refusal"]) for p in parts if isinstance(p, Mapping) and p.get("type") == "refusal"]
            text = content_of(content)
            if not isinstance(text, str | None):
                raise UnsupportedPartError("image")
            texts.append(text or "")
    if not texts and not calls:
        return None
    details = response.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, Mapping) else None
    return Reply(
        text="".join(texts),
        tool_calls=tuple(calls),
        finish_reason=_CUT.get(reason, reason) if reason else "tool_calls" if calls else "stop",
        reasoning="\n\n".join(filter(None, thoughts)) or None,
        refusal="".join(refusals) or None,
    )
