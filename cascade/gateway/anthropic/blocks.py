"""Anthropic's messages in OpenAI's shape, which the rest of the library uses, each with its original."""

import json
from collections.abc import Mapping
from operator import is_
from typing import Any

from cascade.gateway.errors import bad_request
from cascade.gateway.validation import boolean, list_of, not_deep, object_of, one_of, text
from cascade.models.anthropic import valid_id
from cascade.models.message_parts import PART_OF_PREVIOUS, Translated

from .fields import check_block, not_here
from .media import Part, content, media_parts

_USER = ("text", "image", "document", "search_result", "tool_result")
_ASSISTANT = ("text", "tool_use", "thinking", "redacted_thinking")
_AT_ANTHROPIC = ("server_tool_use", "mcp_tool_use", "container_upload", "compaction", "mcp_tool_result", "tool_reference")


def system_of(value: Any, uses: set[str] | None = None) -> Mapping[str, Any]:
    """Reads the system prompt as a message.

    Args:
        value: Text or blocks of text, as the client sent them; blocks without text are left out.
        uses: Receives the names of fields that not every provider supports.

    Raises:
        ApiError: A block is not valid.
    """
    if isinstance(value, str):
        return {"role": "system", "content": value}
    noted = set[str]() if uses is None else uses
    texts = [(block, _text(block, f"system[{i}]", noted)) for i, block in enumerate(list_of(value, "system"))]
    blocks = [block for block, block_text in texts if block_text.strip()]
    return Translated({"role": "system", "content": "\n\n".join(t for _, t in texts if t.strip())}, blocks)


def messages_of(value: Any, uses: set[str]) -> tuple[Mapping[str, Any], ...]:
    """Reads the conversation; tool results become messages of their own.

    Args:
        value: The messages as the client sent them.
        uses: Receives the names of fields that not every provider supports.

    Returns:
        The messages in OpenAI's shape, without empty texts. Signed and redacted thoughts are in ``thinking_blocks``, as
        they are; the others, which no model of Anthropic's would take, in ``reasoning_content``. Each message has its
        original, so that a model of Anthropic's receives what the client sent.

    Raises:
        ApiError: A message is not valid.
    """
    messages: list[Mapping[str, Any]] = []
    for i, message in enumerate(list_of(value, "messages")):
        where = f"messages[{i}]"
        object_of(message, where, ("role", "content"), ("role", "content"))
        role = one_of(message["role"], f"{where}.role", ("user", "assistant", "system"))
        if isinstance(message["content"], str):
            if message["content"]:
                messages.append(Translated({"role": role, "content": message["content"]}, message))
            continue
        blocks = list_of(message["content"], f"{where}.content")
        translate = {"assistant": _assistant, "user": _user, "system": _system}[role]
        translations, sent = translate(blocks, f"{where}.content", uses)
        same = len(sent) == len(blocks) and all(map(is_, sent, blocks))
        original: Any = message if same else {**message, "content": sent}
        # The first translated message represents the whole original; where nothing of that is left, nothing.
        for translation in translations:
            messages.append(Translated(translation, original if sent else PART_OF_PREVIOUS))
            original = PART_OF_PREVIOUS
    if value and not messages:
        raise bad_request("every message is empty", "messages")
    return tuple(messages)


_Translation = tuple[list[Mapping[str, Any]], list[Any]]
"""Messages in OpenAI's shape, and the blocks of the original that a model of Anthropic's takes."""


def _text(block: Any, where: str, uses: set[str]) -> str:
    object_of(block, where, required=("type", "text"))
    one_of(block["type"], f"{where}.type", ("text",))
    check_block(block, where, ("text",), ("text",), uses)
    return text(block["text"], f"{where}.text")


def _kind(block: Any, where: str, allowed: tuple[str, ...]) -> str:
    kind = object_of(block, where, required=("type",))["type"]
    if isinstance(kind, str) and kind not in allowed and (kind in _AT_ANTHROPIC or kind.endswith("_tool_result")):
        raise not_here(kind, where)
    allowed_kind: str = one_of(kind, f"{where}.type", allowed)
    return allowed_kind


def _system(blocks: list[Any], where: str, uses: set[str]) -> _Translation:
    texts = [(block, _text(block, f"{where}[{i}]", uses)) for i, block in enumerate(blocks)]
    nonempty = [(block, block_text) for block, block_text in texts if block_text.strip()]
    message = {"role": "system", "content": "\n\n".join(block_text for _, block_text in nonempty)}
    return [message] if nonempty else [], [block for block, _ in nonempty]


def _user(blocks: list[Any], where: str, uses: set[str]) -> _Translation:
    results: list[Mapping[str, Any]] = []
    other_parts: list[Part] = []  # what tools returned besides text
    parts: list[Part] = []
    sent: list[Any] = []
    for i, block in enumerate(blocks):
        at = f"{where}[{i}]"
        kind = _kind(block, at, _USER)
        if kind == "text":
            block_text = _text(block, at, uses)
            if not block_text.strip():
                continue
            parts.append({"type": "text", "text": block_text})
        elif kind == "tool_result":
            result, media = _result(block, at, uses)
            results.append(result)
            block = _with_valid_id(block, "tool_use_id")
            other_parts += media
        else:
            parts += media_parts(kind, block, at, uses)
        sent.append(block)
    parts = [*other_parts, *parts]
    return [*results, {"role": "user", "content": parts}] if parts else results, sent


def _assistant(blocks: list[Any], where: str, uses: set[str]) -> _Translation:
    texts: list[str] = []
    thoughts: list[str] = []
    signed: list[Mapping[str, Any]] = []
    calls: list[Mapping[str, Any]] = []
    sent: list[Any] = []
    for i, block in enumerate(blocks):
        at = f"{where}[{i}]"
        kind = _kind(block, at, _ASSISTANT)
        if kind == "thinking":
            thought, signature = _thought(block, at)
            if not signature:
                if thought:
                    thoughts.append(thought)
                    uses.add("messages.content.thinking")
                continue
            signed.append(block)
            uses.add("messages.content.thinking.signature")
        elif kind == "redacted_thinking":
            object_of(block, at, ("type", "data"), ("data",))
            text(block["data"], f"{at}.data")
            signed.append(block)
            uses.add("messages.content.redacted_thinking")
        elif kind == "text":
            block_text = _text(block, at, uses)
            if not block_text.strip():
                continue
            texts.append(block_text)
        else:
            calls.append(_call(block, at, uses))
            block = _with_valid_id(block, "id")
        sent.append(block)
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts) or None}
    if thoughts:
        message["reasoning_content"] = "\n\n".join(thoughts)
    if signed:
        message["thinking_blocks"] = signed
    if calls:
        message["tool_calls"] = calls
    elif message["content"] is None:
        if not (thoughts or signed):
            return [], []
        message["content"] = ""
    return [message], sent


def _thought(block: Mapping[str, Any], where: str) -> tuple[str, str]:
    object_of(block, where, ("type", "thinking", "signature"), ("thinking",))
    signature = block.get("signature")
    return text(block["thinking"], f"{where}.thinking"), "" if signature is None else text(signature, f"{where}.signature")


def _with_valid_id(block: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    """The block as Anthropic takes it, where the call's id is one of another provider's model."""
    id = valid_id(block[field])
    return block if id == block[field] else {**block, field: id}


def _call(block: Mapping[str, Any], where: str, uses: set[str]) -> Mapping[str, Any]:
    check_block(block, where, ("id", "name", "input"), ("id", "name", "input"), uses)
    arguments = object_of(not_deep(block["input"], f"{where}.input"), f"{where}.input")
    function = {"name": text(block["name"], f"{where}.name", 256, empty=False), "arguments": json.dumps(arguments)}
    return {"id": text(block["id"], f"{where}.id", 256, empty=False), "type": "function", "function": function}


def _result(block: Mapping[str, Any], where: str, uses: set[str]) -> tuple[Mapping[str, Any], list[Part]]:
    """A tool result as a message, and what of it OpenAI's shape allows in a user's message only: images and files."""
    check_block(block, where, ("tool_use_id", "content", "is_error"), ("tool_use_id",), uses)
    id = text(block["tool_use_id"], f"{where}.tool_use_id", 256, empty=False)
    parts = content(block.get("content"), f"{where}.content", uses)
    media = [part for part in parts if part["type"] != "text"]
    content_text = "\n".join(part["text"] for part in parts if part["type"] == "text")
    if media:
        note = f"[the next message shows what tool call {id} returned]"
        content_text = f"{content_text}\n{note}" if content_text else note
    # Other providers have no field for it.
    if block.get("is_error") is not None and boolean(block["is_error"], f"{where}.is_error"):
        content_text = f"Error: {content_text}"
    return {"role": "tool", "tool_call_id": id, "content": content_text}, media
