"""Reads prompts and answers from the logs of production traffic: chat messages, texts or parts, also as JSON text."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from cascade.models.message_parts import reasoning_in
from evals.recording import Example

from .base import split_messages

_TEXT_PARTS = ("text", "input_text", "output_text")
_CALL_PARTS = ("tool_call", "tool_use", "function_call", "tool-call")
_THOUGHT_PARTS = ("reasoning", "thinking", "thought", "redacted_thinking")
_LANGCHAIN_ROLES = ("human", "ai", "system", "tool", "function", "developer")
_ROLES = {"human": "user", "ai": "assistant", "model": "assistant"}


class UnsupportedPartError(Exception):
    """A message has a part that no prompt of a recording can hold; the message is its type."""


def decoded(value: Any) -> Any:
    """The value, parsed where it is a text that holds a JSON object or list."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        with suppress(ValueError, RecursionError):
            return json.loads(value)
    return value


def messages_of(value: Any) -> list[dict[str, Any]]:
    """The chat messages of a logged prompt.

    Args:
        value: A text, a message, a list of messages, or an object with ``messages`` or ``prompt``; also as JSON text.

    Returns:
        The messages; none where the prompt is missing.

    Raises:
        UnsupportedPartError: A message has a part that is neither text nor image nor a tool call.
    """
    value = decoded(value)
    if isinstance(value, Mapping):
        if "role" in value:
            return [_message(value)]
        inner = next((value[name] for name in ("messages", "prompt", "input", "contents") if value.get(name)), None)
        tools = value.get("system") or value.get("instructions")
        head = [{"role": "system", "content": tools}] if isinstance(tools, str) else []
        return [*head, *messages_of(inner)] if inner is not None else []
    if isinstance(value, str):
        return [{"role": "user", "content": value}] if value.strip() else []
    if not isinstance(value, list) or not value:
        return []
    if len(value) == 1 and isinstance(value[0], list):  # LangChain logs a batch of conversations
        return messages_of(value[0])
    messages = [_with_role(m) for m in value]
    return [_message(m) for m in messages if m is not None] if None not in messages else []


def _with_role(message: Any) -> Mapping[str, Any] | None:
    """A message with its role; LangChain calls it the type, and may put the rest into ``data`` or ``kwargs``."""
    if not isinstance(message, Mapping):
        return None
    if message.get("role"):
        return message
    inner = next((message[name] for name in ("data", "kwargs") if isinstance(message.get(name), Mapping)), message)
    role = str(message.get("type") or inner.get("type") or "").removesuffix("Message").lower()
    return {**inner, "role": role} if role in _LANGCHAIN_ROLES and "content" in inner else None


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    role = str(message["role"])
    entry: dict[str, Any] = {"role": _ROLES.get(role, role)}
    parts = message.get("parts")
    content = message.get("content") if parts is None else parts
    entry["content"] = content_of(content)
    calls = calls_of(message.get("tool_calls")) or part_calls(content)
    if calls:
        entry["tool_calls"] = list(calls)
    if entry["role"] == "assistant" and (thought := thought_of(message)):
        entry["reasoning_content"] = thought
    if message.get("tool_call_id"):
        entry["tool_call_id"] = message["tool_call_id"]
    return entry


def content_of(content: Any) -> Any:
    """Text, or a list of text and image parts; text where all parts are."""
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list):
        return json.dumps(content, ensure_ascii=False)
    parts: list[dict[str, Any]] = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else "text"
        if kind is None and isinstance(part.get("text"), str):  # Gemini's parts have no type
            kind = "text"
        if kind in _CALL_PARTS or kind in _THOUGHT_PARTS:
            continue
        if kind in _TEXT_PARTS:
            text = part if isinstance(part, str) else part.get("text", part.get("content"))
            parts.append({"type": "text", "text": str(text or "")})
        elif kind == "refusal":
            parts.append({"type": "text", "text": str(part.get("refusal") or "")})
        elif kind == "tool_call_response":
            parts.append({"type": "text", "text": text_of(part.get("response", part.get("result")))})
        elif kind == "image_url":
            parts.append(dict(part))
        else:
            raise UnsupportedPartError(kind)
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts) if parts else None
    return parts


def text_of(value: Any) -> str:
    """A text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def calls_of(calls: Any) -> tuple[Mapping[str, Any], ...]:
    """The tool calls of a message's field, as it was logged: also those without a function of their own."""
    if not isinstance(calls, list | tuple):
        return ()
    return tuple(
        call if isinstance(call.get("function"), Mapping) or "name" not in call else _call(call)
        for call in calls
        if isinstance(call, Mapping)
    )


def _call(part: Mapping[str, Any]) -> Mapping[str, Any]:
    arguments: Any = next((part[name] for name in ("arguments", "input", "args") if part.get(name) is not None), {})
    function = {"name": str(part.get("name")), "arguments": text_of(arguments)}
    return {"id": part.get("call_id", part.get("id")), "type": "function", "function": function}


def part_calls(parts: Any) -> tuple[Mapping[str, Any], ...]:
    """The tool calls among the parts of a message."""
    return tuple(
        _call(part)
        for part in (parts if isinstance(parts, list) else ())
        if isinstance(part, Mapping) and part.get("type") in _CALL_PARTS
    )


def thought_of(message: Mapping[str, Any]) -> str:
    """The reasoning of a logged message, in a field, in parts or in Anthropic's blocks; empty where there is none."""
    if thought := reasoning_in(message):
        return thought
    texts = []
    for parts in (message.get("parts"), message.get("content"), message.get("thinking_blocks")):
        for part in parts if isinstance(parts, list) else ():
            if isinstance(part, Mapping) and part.get("type") in _THOUGHT_PARTS:
                texts.append(reasoning_in({"reasoning": [part]}))
    return "\n\n".join(filter(None, texts))


def example_of(
    messages: Sequence[Mapping[str, Any]], tools: Any = None, *, task: str = "", reference: Any = None
) -> Example:
    """The example of a logged prompt. Its id is a hash of what was asked, so that equal prompts are one example."""
    prompt, system = split_messages(messages)
    known_tools = tuple(tools) if isinstance(tools, list) and all(isinstance(t, Mapping) for t in tools) else ()
    content = json.dumps([system, prompt, known_tools], sort_keys=True).encode("utf-8", "surrogatepass")
    id = hashlib.blake2b(content, digest_size=8).hexdigest()
    return Example(id, prompt, {}, system=system, tools=known_tools, task=task, reference=reference)


def seconds_between(start: Any, end: Any) -> float | None:
    """The seconds between two times (ISO 8601 or Unix seconds); None where one is missing or unreadable."""
    moments = [_unix_time(value) for value in (start, end)]
    if moments[0] is None or moments[1] is None or moments[1] < moments[0]:
        return None
    return moments[1] - moments[0]


def _unix_time(value: Any) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    with suppress(TypeError, ValueError):
        return datetime.fromisoformat(value).timestamp()
    return None
