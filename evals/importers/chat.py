"""Reads prompts and answers from the logs of production traffic: chat messages, texts or parts, also as JSON text."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from evals.recording import Example

from .base import split_messages

_TEXT_PARTS = ("text", "input_text", "output_text")
_ROLES = {"human": "user", "ai": "assistant", "model": "assistant"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The text of an answer, its tool calls in OpenAI's shape, and why it ended."""

    text: str
    tool_calls: tuple[Mapping[str, Any], ...] = field(default=())
    finish_reason: str | None = None


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
    if isinstance(value, list) and value and all(isinstance(m, Mapping) and m.get("role") for m in value):
        return [_message(m) for m in value]
    return []


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    role = str(message["role"])
    entry: dict[str, Any] = {"role": _ROLES.get(role, role)}
    parts = message.get("parts")
    entry["content"] = _content(message.get("content") if parts is None else parts)
    calls = tuple(message.get("tool_calls") or ()) or _part_calls(parts)
    if calls:
        entry["tool_calls"] = list(calls)
    if message.get("tool_call_id"):
        entry["tool_call_id"] = message["tool_call_id"]
    return entry


def _content(content: Any) -> Any:
    """Text, or a list of text and image parts; text where all parts are."""
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list):
        return json.dumps(content, ensure_ascii=False)
    parts: list[dict[str, Any]] = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else "text"
        if kind in ("tool_call", "tool_use", "reasoning", "thinking"):
            continue
        if kind in _TEXT_PARTS:
            text = part if isinstance(part, str) else part.get("text", part.get("content"))
            parts.append({"type": "text", "text": str(text or "")})
        elif kind == "tool_call_response":
            parts.append({"type": "text", "text": _text_of(part.get("response", part.get("result")))})
        elif kind == "image_url":
            parts.append(dict(part))
        else:
            raise UnsupportedPartError(kind)
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts) if parts else None
    return parts


def _text_of(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _part_calls(parts: Any) -> tuple[Mapping[str, Any], ...]:
    calls = []
    for part in parts if isinstance(parts, list) else ():
        if isinstance(part, Mapping) and part.get("type") == "tool_call":
            function = {"name": str(part.get("name")), "arguments": _text_of(part.get("arguments", {}))}
            calls.append({"id": part.get("id"), "type": "function", "function": function})
    return tuple(calls)


def reply_of(value: Any) -> Reply | None:
    """The answer in a logged output.

    Args:
        value: A text, a message, a chat completion or a list of one of these; also as JSON text.

    Returns:
        The reply; None where there is no answer.

    Raises:
        UnsupportedPartError: The answer has a part that is not text.
    """
    value = decoded(value)
    if isinstance(value, list):
        return reply_of(value[0]) if value else None
    if isinstance(value, str):
        return Reply(text=value)
    if not isinstance(value, Mapping):
        return None
    if isinstance(value.get("choices"), list):
        return reply_of(value["choices"][0]) if value["choices"] else None
    finish = value.get("finish_reason", value.get("stop_reason"))
    inner = value.get("message")
    if isinstance(inner, Mapping):
        reply = reply_of(inner)
        return None if reply is None else Reply(text=reply.text, tool_calls=reply.tool_calls, finish_reason=finish)
    if not {"content", "parts", "tool_calls"} & value.keys():
        # The parsed answer of a schema is logged as an object.
        return Reply(text=json.dumps(value, ensure_ascii=False)) if value and "role" not in value else None
    entry = _message({"role": "assistant", **value})
    content = entry["content"]
    if not isinstance(content, str | None):
        raise UnsupportedPartError("image")
    if content is None and not entry.get("tool_calls"):
        return None
    return Reply(text=content or "", tool_calls=tuple(entry.get("tool_calls") or ()), finish_reason=finish)


def example_of(messages: Sequence[Mapping[str, Any]], tools: Any = None, **fields: Any) -> Example:
    """The example of a logged prompt. Its id is a hash of what was asked, so that equal prompts are one example."""
    prompt, system = split_messages(messages)
    known_tools = tuple(tools) if isinstance(tools, list) and all(isinstance(t, Mapping) for t in tools) else ()
    content = json.dumps([system, prompt, known_tools], sort_keys=True).encode("utf-8", "surrogatepass")
    id = hashlib.blake2b(content, digest_size=8).hexdigest()
    return Example(id, prompt, {}, system=system, tools=known_tools, **fields)


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
