"""Anthropic's messages, converted to OpenAI's shape, which the rest of the library uses."""

import json
from collections.abc import Mapping
from typing import Any

from cascade.gateway.errors import bad_request
from cascade.gateway.validation import boolean, list_of, not_deep, object_of, one_of, text

_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")


def system_of(value: Any) -> Mapping[str, Any]:
    """Reads the system prompt as a message. Raises ApiError."""
    if isinstance(value, str):
        return {"role": "system", "content": value}
    blocks = [_text(block, f"system[{i}]") for i, block in enumerate(list_of(value, "system"))]
    return {"role": "system", "content": "\n\n".join(blocks)}


def messages_of(value: Any, uses: set[str]) -> tuple[Mapping[str, Any], ...]:
    """Reads the conversation; tool results become messages of their own.

    Args:
        value: The messages as the client sent them.
        uses: Receives the names of fields that not every provider supports.

    Returns:
        The messages in OpenAI's shape. Signed and redacted thoughts are in ``thinking_blocks``, as they are; the others,
        which no model of Anthropic's would take, in ``reasoning_content``.

    Raises:
        ApiError: A message is not valid.
    """
    messages: list[Mapping[str, Any]] = []
    for i, message in enumerate(list_of(value, "messages")):
        where = f"messages[{i}]"
        object_of(message, where, ("role", "content"), ("role", "content"))
        role = one_of(message["role"], f"{where}.role", ("user", "assistant"))
        if isinstance(message["content"], str):
            messages.append({"role": role, "content": message["content"]})
        else:
            blocks = list_of(message["content"], f"{where}.content")
            messages += _assistant(blocks, where, uses) if role == "assistant" else _user(blocks, where)
    return tuple(messages)


def _text(block: Any, where: str) -> str:
    object_of(block, where, ("type", "text"), ("type", "text"))
    one_of(block["type"], f"{where}.type", ("text",))
    return text(block["text"], f"{where}.text")


def _kind(block: Any, where: str, allowed: tuple[str, ...]) -> str:
    object_of(block, where, required=("type",))
    kind: str = one_of(block["type"], f"{where}.type", allowed)
    return kind


def _user(blocks: list[Any], where: str) -> list[Mapping[str, Any]]:
    results: list[Mapping[str, Any]] = []
    parts: list[Mapping[str, Any]] = []
    for i, block in enumerate(blocks):
        at = f"{where}.content[{i}]"
        kind = _kind(block, at, ("text", "image", "tool_result"))
        if kind == "tool_result":
            if parts:
                raise bad_request("tool results must come first in a message", at)
            results.append(_result(block, at))
        elif kind == "image":
            parts.append(_image(block, at))
        else:
            parts.append({"type": "text", "text": _text(block, at)})
    return [*results, {"role": "user", "content": parts}] if parts or not results else results


def _assistant(blocks: list[Any], where: str, uses: set[str]) -> list[Mapping[str, Any]]:
    texts: list[str] = []
    thoughts: list[str] = []
    signed: list[Mapping[str, Any]] = []
    calls: list[Mapping[str, Any]] = []
    for i, block in enumerate(blocks):
        at = f"{where}.content[{i}]"
        kind = _kind(block, at, ("text", "tool_use", "thinking", "redacted_thinking"))
        if kind == "thinking":
            thought, signature = _thought(block, at)
            if signature:
                signed.append({"type": "thinking", "thinking": thought, "signature": signature})
                uses.add("messages.content.thinking.signature")
            elif thought:
                thoughts.append(thought)
                uses.add("messages.content.thinking")
        elif kind == "redacted_thinking":
            object_of(block, at, ("type", "data"), ("data",))
            signed.append({"type": kind, "data": text(block["data"], f"{at}.data")})
            uses.add("messages.content.redacted_thinking")
        elif kind == "text":
            if calls:
                raise bad_request("text after a tool call is not supported", at, "unsupported")
            texts.append(_text(block, at))
        else:
            calls.append(_call(block, at))
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts) or None}
    if thoughts:
        message["reasoning_content"] = "\n\n".join(thoughts)
    if signed:
        message["thinking_blocks"] = signed
    if calls:
        message["tool_calls"] = calls
    elif message["content"] is None:
        message["content"] = ""
    return [message]


def _thought(block: Mapping[str, Any], where: str) -> tuple[str, str]:
    object_of(block, where, ("type", "thinking", "signature"), ("thinking",))
    signature = block.get("signature")
    return text(block["thinking"], f"{where}.thinking"), "" if signature is None else text(signature, f"{where}.signature")


def _call(block: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    object_of(block, where, ("type", "id", "name", "input"), ("id", "name", "input"))
    arguments = object_of(not_deep(block["input"], f"{where}.input"), f"{where}.input")
    function = {"name": text(block["name"], f"{where}.name", 256, empty=False), "arguments": json.dumps(arguments)}
    return {"id": text(block["id"], f"{where}.id", 256, empty=False), "type": "function", "function": function}


def _result(block: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    object_of(block, where, ("type", "tool_use_id", "content", "is_error"), ("tool_use_id",))
    id = text(block["tool_use_id"], f"{where}.tool_use_id", 256, empty=False)
    content = block.get("content")
    if content is None or isinstance(content, str):
        content_text = content or ""
    else:
        parts = list_of(content, f"{where}.content")
        content_text = "\n".join(_text(part, f"{where}.content[{i}]") for i, part in enumerate(parts))
    # Other providers have no field for it.
    if block.get("is_error") is not None and boolean(block["is_error"], f"{where}.is_error"):
        content_text = f"Error: {content_text}"
    return {"role": "tool", "tool_call_id": id, "content": content_text}


def _image(block: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    object_of(block, where, ("type", "source"), ("source",))
    at = f"{where}.source"
    source = object_of(block["source"], at, ("type", "media_type", "data", "url"), ("type",))
    if one_of(source["type"], f"{at}.type", ("base64", "url")) == "url":
        url = text(source.get("url"), f"{at}.url", empty=False)
        if not url.startswith(("https://", "http://")):
            raise bad_request("must be an http(s) URL", f"{at}.url")
    else:
        kind = one_of(source.get("media_type"), f"{at}.media_type", _IMAGES)
        url = f"data:{kind};base64,{text(source.get('data'), f'{at}.data', empty=False)}"
    return {"type": "image_url", "image_url": {"url": url}}
