"""The input items of a response as messages in OpenAI's chat shape, which the rest of the library uses."""

import json
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping, Sequence
from typing import Any

from cascade.gateway.errors import ApiError, bad_request
from cascade.gateway.validation import list_of, object_of, one_of, shorten, text

_ROLES = ("user", "assistant", "system", "developer")
_IGNORED_KEYS = ("id", "status", "type", "phase", "created_by")  # of an item: they say nothing to a model
_SIGNED = "cascade:"  # what the gateway's own ``encrypted_content`` begins with


class _Conversation:
    """Collects messages: a model's reasoning, text and calls are one message, as a chat completion would have them."""

    def __init__(self, uses: set[str], unused: set[str]) -> None:
        self.messages: list[Mapping[str, Any]] = []
        self.uses, self.unused = uses, unused
        self._answer: dict[str, Any] | None = None
        self._tool_parts: list[Mapping[str, Any]] = []  # what tools returned besides text

    def answer(self) -> dict[str, Any]:
        """The model's message that is being collected."""
        if self._answer is None:
            self.end()
            self._answer = {"role": "assistant", "content": None}
        return self._answer

    def add(self, message: Mapping[str, Any], tool_parts: Sequence[Mapping[str, Any]] = ()) -> None:
        """Adds a whole message; ``tool_parts`` follow it and the tool results after it."""
        self._end_answer()
        if message["role"] != "tool":
            self._end_results()
        self.messages.append(message)
        self._tool_parts += tool_parts

    def end(self) -> None:
        """Adds what is still being collected."""
        self._end_answer()
        self._end_results()

    def _end_answer(self) -> None:
        if self._answer is not None:
            if "tool_calls" not in self._answer and self._answer["content"] is None and "refusal" not in self._answer:
                self._answer["content"] = ""
            self.messages.append(self._answer)
            self._answer = None

    def _end_results(self) -> None:
        if self._tool_parts:
            self.messages.append({"role": "user", "content": self._tool_parts})
            self._tool_parts = []


def messages_of(value: Any, uses: set[str], unused: set[str]) -> tuple[Mapping[str, Any], ...]:
    """Reads the input.

    Args:
        value: Text or a list of items, as the client sent it.
        uses: Receives the names of fields that not every provider supports.
        unused: Receives the names of fields that no model receives.

    Returns:
        The messages.

    Raises:
        ApiError: An item is not valid, or is of a kind that the gateway does not support.
    """
    if isinstance(value, str):
        return ({"role": "user", "content": value},) if value else ()
    conversation = _Conversation(uses, unused)
    for i, item in enumerate(list_of(value, "input")):
        where = f"input[{i}]"
        kind = object_of(item, where).get("type")
        if kind is None and "role" in item:
            kind = "message"
        reader = _READERS.get(kind) if isinstance(kind, str) else None
        if reader is None:
            raise _unsupported(kind, where)
        reader(item, where, conversation)
    conversation.end()
    return tuple(conversation.messages)


def _unsupported(kind: object, where: str) -> ApiError:
    if kind == "item_reference":
        message = "the gateway keeps no items; send the item itself instead of a reference to it"
    else:
        name = shorten(str(kind))
        message = f"{name!r} is not supported; known: {', '.join(_READERS)}. The provider's own tools do not run here"
    return bad_request(message, f"{where}.type", "unsupported")


def _message(item: Mapping[str, Any], where: str, conversation: _Conversation) -> None:
    object_of(item, where, ("role", "content", *_IGNORED_KEYS), ("role", "content"))
    role = one_of(item["role"], f"{where}.role", _ROLES)
    content = item["content"]
    if role != "assistant":
        parts = content if isinstance(content, str) else _parts(content, f"{where}.content", conversation)
        conversation.add({"role": role, "content": parts})
        return
    answer = conversation.answer()
    if answer["content"] is not None or "tool_calls" in answer:
        conversation.end()
        answer = conversation.answer()
    if isinstance(content, str):
        answer["content"] = content
        return
    texts = []
    for i, part in enumerate(list_of(content, f"{where}.content")):
        at = f"{where}.content[{i}]"
        kind = one_of(
            object_of(part, at, required=("type",))["type"], f"{at}.type", ("output_text", "refusal", "input_text")
        )
        if kind == "refusal":
            answer["refusal"] = text(part.get("refusal"), f"{at}.refusal")
            conversation.uses.add("messages.refusal")
        else:
            texts.append(text(part.get("text"), f"{at}.text"))
    answer["content"] = "".join(texts) if texts or "refusal" not in answer else None


def _parts(content: Any, where: str, conversation: _Conversation) -> list[Mapping[str, Any]]:
    return [_part(part, f"{where}[{i}]", conversation) for i, part in enumerate(list_of(content, where))]


def _part(part: Any, where: str, conversation: _Conversation) -> Mapping[str, Any]:
    kinds = ("input_text", "input_image", "input_file", "output_text", "text")
    kind = one_of(object_of(part, where, required=("type",))["type"], f"{where}.type", kinds)
    if kind == "input_image":
        object_of(part, where, ("type", "image_url", "detail", "file_id"))
        _no_upload(part, where)
        url = text(part.get("image_url"), f"{where}.image_url", empty=False)
        if not url.startswith(("https://", "http://", "data:image/")):
            raise bad_request("must be an http(s) address or a data:image/ address", f"{where}.image_url")
        detail = part.get("detail")
        detail = {} if detail is None else {"detail": one_of(detail, f"{where}.detail", ("auto", "low", "high", "original"))}
        return {"type": "image_url", "image_url": {"url": url, **detail}}
    if kind == "input_file":
        object_of(part, where, ("type", "file_data", "filename", "file_id", "file_url", "detail"))
        _no_upload(part, where)
        if part.get("file_url") is not None:
            raise bad_request("send the file itself as file_data", f"{where}.file_url", "unsupported")
        fields = {name: text(part[name], f"{where}.{name}") for name in ("file_data", "filename") if part.get(name)}
        conversation.uses.add("messages.content.file")
        return {"type": "file", "file": fields}
    return {"type": "text", "text": text(part.get("text"), f"{where}.text")}


def _no_upload(part: Mapping[str, Any], where: str) -> None:
    if part.get("file_id") is not None:
        raise bad_request("uploaded files are not supported; send the content itself", f"{where}.file_id", "unsupported")


def _call(item: Mapping[str, Any], where: str, conversation: _Conversation) -> None:
    fields = ("call_id", "name", "arguments", "caller", "namespace", *_IGNORED_KEYS)
    object_of(item, where, fields, ("call_id", "name", "arguments"))
    function = {"name": text(item["name"], f"{where}.name", 256), "arguments": text(item["arguments"], f"{where}.arguments")}
    id = text(item["call_id"], f"{where}.call_id", 256, empty=False)
    answer = conversation.answer()
    answer.setdefault("tool_calls", []).append({"id": id, "type": "function", "function": function})


def _call_output(item: Mapping[str, Any], where: str, conversation: _Conversation) -> None:
    object_of(item, where, ("call_id", "output", "caller", "name", *_IGNORED_KEYS), ("call_id", "output"))
    id = text(item["call_id"], f"{where}.call_id", 256, empty=False)
    if isinstance(item["output"], str):
        conversation.add({"role": "tool", "tool_call_id": id, "content": item["output"]})
        return
    parts = _parts(item["output"], f"{where}.output", conversation)
    media = [part for part in parts if part["type"] != "text"]
    texts = [part["text"] for part in parts if part["type"] == "text"]
    if media:
        texts.append(f"[the next message shows what tool call {id} returned]")
    conversation.add({"role": "tool", "tool_call_id": id, "content": "\n".join(texts)}, media)


def _reasoning(item: Mapping[str, Any], where: str, conversation: _Conversation) -> None:
    object_of(item, where, ("summary", "content", "encrypted_content", *_IGNORED_KEYS))
    answer = conversation.answer()
    if answer["content"] is not None or "tool_calls" in answer:
        conversation.end()
        answer = conversation.answer()
    thoughts: list[str] = []
    for field in ("content", "summary"):  # the whole thought says more than its summary
        if not thoughts:
            for i, part in enumerate(list_of(item.get(field) or [], f"{where}.{field}")):
                thoughts.append(text(object_of(part, f"{where}.{field}[{i}]").get("text"), f"{where}.{field}[{i}].text"))
    sealed = item.get("encrypted_content")
    signed = None if sealed is None else unseal(text(sealed, f"{where}.encrypted_content"))
    if signed:
        answer["thinking_blocks"] = signed
        conversation.uses.add("messages.content.thinking.signature")
    elif sealed:
        conversation.unused.add("input.reasoning.encrypted_content")
    if thoughts:
        answer["reasoning_content"] = "\n\n".join(thoughts)
        if not signed:
            conversation.uses.add("messages.reasoning_content")


_READERS = {"message": _message, "function_call": _call, "function_call_output": _call_output, "reasoning": _reasoning}


def seal(blocks: Sequence[Mapping[str, Any]]) -> str:
    """Thoughts that Anthropic signed, as the ``encrypted_content`` in which a client sends them back."""
    return _SIGNED + b64encode(json.dumps(list(blocks)).encode()).decode()


def unseal(sealed: str) -> list[dict[str, Any]] | None:
    """The signed thoughts in ``encrypted_content``; None where it is another server's. Their signatures prove them."""
    if not sealed.startswith(_SIGNED):
        return None
    try:
        blocks = json.loads(b64decode(sealed[len(_SIGNED) :], validate=True))
    except (Base64Error, ValueError):
        return None
    return [_signed_block(block) for block in blocks] if _are_signed(blocks) else None


_SIGNED_FIELDS = {"thinking": ("type", "thinking", "signature"), "redacted_thinking": ("type", "data")}


def _are_signed(blocks: Any) -> bool:
    return isinstance(blocks, list) and all(
        isinstance(block, dict)
        and block.get("type") in _SIGNED_FIELDS
        and all(isinstance(block.get(name), str) for name in _SIGNED_FIELDS[block["type"]])
        for block in blocks
    )


def _signed_block(block: Mapping[str, Any]) -> dict[str, Any]:
    return {name: block[name] for name in _SIGNED_FIELDS[block["type"]]}
