"""Anthropic's messages in OpenAI's shape, which all floors speak."""

import json
from collections.abc import Mapping
from typing import Any

from cascade.gateway.errors import bad
from cascade.gateway.validation import boolean, listed, object_of, one_of, shallow, text

_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")


def system_of(value: Any) -> Mapping[str, Any]:
    """The system prompt as a message. Raises Refusal."""
    if isinstance(value, str):
        return {"role": "system", "content": value}
    blocks = [_text(block, f"system[{i}]") for i, block in enumerate(listed(value, "system"))]
    return {"role": "system", "content": "\n\n".join(blocks)}


def messages_of(value: Any) -> tuple[Mapping[str, Any], ...]:
    """The conversation; results of tools become messages of their own. Raises Refusal."""
    made: list[Mapping[str, Any]] = []
    for i, message in enumerate(listed(value, "messages")):
        where = f"messages[{i}]"
        object_of(message, where, ("role", "content"), ("role", "content"))
        role = one_of(message["role"], f"{where}.role", ("user", "assistant"))
        if isinstance(message["content"], str):
            made.append({"role": role, "content": message["content"]})
        else:
            blocks = listed(message["content"], f"{where}.content")
            made += _assistant(blocks, where) if role == "assistant" else _user(blocks, where)
    return tuple(made)


def _text(block: Any, where: str) -> str:
    object_of(block, where, ("type", "text"), ("type", "text"))
    one_of(block["type"], f"{where}.type", ("text",))
    return text(block["text"], f"{where}.text")


def _kind(block: Any, where: str, known: tuple[str, ...]) -> str:
    object_of(block, where, needed=("type",))
    kind: str = one_of(block["type"], f"{where}.type", known)
    return kind


def _user(blocks: list[Any], where: str) -> list[Mapping[str, Any]]:
    results: list[Mapping[str, Any]] = []
    parts: list[Mapping[str, Any]] = []
    for i, block in enumerate(blocks):
        at = f"{where}.content[{i}]"
        kind = _kind(block, at, ("text", "image", "tool_result"))
        if kind == "tool_result":
            if parts:
                raise bad("results of tools come before everything else in a message", at)
            results.append(_result(block, at))
        elif kind == "image":
            parts.append(_image(block, at))
        else:
            parts.append({"type": "text", "text": _text(block, at)})
    return [*results, {"role": "user", "content": parts}] if parts or not results else results


def _assistant(blocks: list[Any], where: str) -> list[Mapping[str, Any]]:
    texts: list[str] = []
    calls: list[Mapping[str, Any]] = []
    for i, block in enumerate(blocks):
        at = f"{where}.content[{i}]"
        if _kind(block, at, ("text", "tool_use")) == "text":
            if calls:
                raise bad("a text after a tool call cannot be honoured", at, "unsupported")
            texts.append(_text(block, at))
        else:
            calls.append(_call(block, at))
    made: dict[str, Any] = {"role": "assistant", "content": "".join(texts) or None}
    if calls:
        made["tool_calls"] = calls
    elif made["content"] is None:
        made["content"] = ""
    return [made]


def _call(block: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    object_of(block, where, ("type", "id", "name", "input"), ("id", "name", "input"))
    given = object_of(shallow(block["input"], f"{where}.input"), f"{where}.input")
    function = {"name": text(block["name"], f"{where}.name", 256, empty=False), "arguments": json.dumps(given)}
    return {"id": text(block["id"], f"{where}.id", 256, empty=False), "type": "function", "function": function}


def _result(block: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    object_of(block, where, ("type", "tool_use_id", "content", "is_error"), ("tool_use_id",))
    id = text(block["tool_use_id"], f"{where}.tool_use_id", 256, empty=False)
    content = block.get("content")
    if content is None or isinstance(content, str):
        said = content or ""
    else:
        parts = listed(content, f"{where}.content")
        said = "\n".join(_text(part, f"{where}.content[{i}]") for i, part in enumerate(parts))
    # The other providers have no field for it.
    if block.get("is_error") is not None and boolean(block["is_error"], f"{where}.is_error"):
        said = f"Error: {said}"
    return {"role": "tool", "tool_call_id": id, "content": said}


def _image(block: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    object_of(block, where, ("type", "source"), ("source",))
    at = f"{where}.source"
    source = object_of(block["source"], at, ("type", "media_type", "data", "url"), ("type",))
    if one_of(source["type"], f"{at}.type", ("base64", "url")) == "url":
        url = text(source.get("url"), f"{at}.url", empty=False)
        if not url.startswith(("https://", "http://")):
            raise bad("must be an http(s) address", f"{at}.url")
    else:
        kind = one_of(source.get("media_type"), f"{at}.media_type", _IMAGES)
        url = f"data:{kind};base64,{text(source.get('data'), f'{at}.data', empty=False)}"
    return {"type": "image_url", "image_url": {"url": url}}
