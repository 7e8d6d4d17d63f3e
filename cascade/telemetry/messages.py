"""Prompts and answers in the shape that the GenAI semantic conventions give messages, as JSON for a span's attribute."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from judges import Answer, Prompt

Part = Mapping[str, Any]


def input_messages(prompt: Prompt) -> str:
    """The chat that was sent: roles and parts."""
    return _dumps([{"role": str(m.get("role")), "parts": list(_parts(m))} for m in prompt.messages])


def output_messages(answers: Sequence[Answer]) -> str:
    """The answers, a message each."""
    return _dumps(
        [
            {
                "role": "assistant",
                "parts": [*_text(a.text), *map(_called, a.tool_calls)],
                "finish_reason": a.finish_reason or "",
            }
            for a in answers
        ]
    )


def _parts(message: Mapping[str, Any]) -> Iterable[Part]:
    content = message.get("content")
    if message.get("role") == "tool":
        yield {"type": "tool_call_response", "id": message.get("tool_call_id"), "response": content}
        return
    yield from _text(content) if isinstance(content, str) else map(_part, content or ())
    yield from map(_called, message.get("tool_calls") or ())


def _text(text: str) -> list[Part]:
    return [{"type": "text", "content": text}] if text else []


def _part(part: Any) -> Part:
    if not isinstance(part, Mapping):
        return {"type": "text", "content": str(part)}
    if part.get("type") == "text":
        return {"type": "text", "content": str(part.get("text", ""))}
    if part.get("type") != "image_url":
        return part
    image = part.get("image_url")
    url = str(image.get("url") if isinstance(image, Mapping) else image)
    if not url.startswith("data:"):
        return {"type": "uri", "modality": "image", "uri": url}
    kind, _, data = url[5:].partition(";base64,")
    return {"type": "blob", "modality": "image", "mime_type": kind, "content": data}


def _called(call: Mapping[str, Any]) -> Part:
    function = call.get("function")
    function = function if isinstance(function, Mapping) else {}
    return {
        "type": "tool_call",
        "id": call.get("id"),
        "name": str(function.get("name", "")),
        "arguments": function.get("arguments"),
    }


def _dumps(messages: Any) -> str:
    # ASCII, so that a lone surrogate in a text cannot make an exporter drop the batch.
    return json.dumps(messages, default=str, separators=(",", ":"))
