"""Messages and tools in OpenAI's shape, checked field by field."""

from collections.abc import Mapping
from typing import Any

from cascade.gateway.errors import bad_request
from cascade.gateway.request import FOREIGN, UNREAD
from cascade.gateway.validation import MAX_TOOLS, check_cache_control, list_of, not_deep, object_of, one_of, shorten, text
from cascade.models.message_parts import Translated
from judges.reading.tool_calls import arguments_text

_ROLES = ("system", "developer", "user", "assistant", "tool")
_PARTS: Mapping[str, tuple[str, ...]] = {
    "text": ("text",),
    "refusal": ("refusal",),
    "image_url": ("url", "detail"),
    "input_audio": ("data", "format"),
    "file": ("file_data", "file_id", "filename"),
}
_CALL_FIELDS = frozenset(("id", "type", "function", "index"))
_FUNCTION_FIELDS = frozenset(("name", "arguments", "parsed_arguments"))
_FIELDS = frozenset(("role", "content", "name", "tool_calls", "tool_call_id", "refusal"))
_REASONING = frozenset(("reasoning_content", "reasoning"))  # only of assistants
# Fields of a completion's message that a client may send back, as long as they are empty, and what is to be sent instead.
_CONTINUES = ("prefix", "partial")  # asks Mistral, DeepSeek or Moonshot to continue this message
_EMPTY = {
    "audio": "audio is not supported; send its transcript as content",
    "function_call": "this field is obsolete; send tool_calls",
}


def messages_of(value: Any, uses: set[str], where: str = "messages") -> tuple[Mapping[str, Any], ...]:
    """Reads a conversation.

    Args:
        value: The messages as the client sent them.
        uses: Receives the names of fields that not every provider supports.
        where: The field's name for errors.

    Returns:
        The messages.

    Raises:
        ApiError: A message is not valid.
    """
    messages = tuple([_message(message, f"{where}[{i}]", uses) for i, message in enumerate(list_of(value, where))])
    if any(not call["id"] for message in messages for call in message.get("tool_calls", ())):
        return _with_call_ids(messages)
    return messages


def _with_call_ids(messages: tuple[Mapping[str, Any], ...]) -> tuple[Mapping[str, Any], ...]:
    """The messages with an id for each call that has none, and the same one for its result: results follow in order.

    The same history has the same ids each time, since a provider's cache compares them.
    """
    result: list[Mapping[str, Any]] = []
    pending: list[str] = []
    for i, message in enumerate(messages):
        if calls := message.get("tool_calls"):
            calls = [call if call["id"] else {**call, "id": f"call_{i}_{j}"} for j, call in enumerate(calls)]
            pending = [call["id"] for call, before in zip(calls, message["tool_calls"], strict=True) if not before["id"]]
            message = {**message, "tool_calls": calls}
        elif message.get("role") == "tool" and not message["tool_call_id"] and pending:
            message = {**message, "tool_call_id": pending.pop(0)}
        result.append(message)
    return tuple(result)


def _message(message: Any, where: str, uses: set[str]) -> Mapping[str, Any]:
    object_of(message, where, required=("role",))
    role, content = message["role"], message.get("content")
    if role not in _ROLES:
        one_of(role, f"{where}.role", _ROLES)
    if len(message) == 2 and type(content) is str and role != "tool":
        return dict(message)
    clean = {name: value for name, value in message.items() if value is not None}
    for name in message:
        if f"messages.{name}" in UNREAD or name in _EMPTY:
            if name in _EMPTY and message[name]:
                raise bad_request(_EMPTY[name], f"{where}.{name}", "unsupported")
            if clean.pop(name, None):
                uses.add(f"messages.{name}")
        elif name in _REASONING and role == "assistant":
            if name in clean:
                text(clean[name], f"{where}.{name}")
                uses.add(f"messages.{name}")
        elif name in _FIELDS:
            continue
        elif role == "assistant" and not (name in _CONTINUES and message[name]):
            if clean.pop(name, None) is not None:  # of the server that wrote the answer
                uses.add(f"{FOREIGN}{shorten(name)}")
        else:
            raise bad_request(f"unknown field; known: {', '.join(sorted(_FIELDS))}", f"{where}.{shorten(name)}")
    if "name" in clean:
        text(clean["name"], f"{where}.name", 64 if role != "tool" else 256)
        if role == "tool":
            del clean["name"]  # the function's name, which tool_call_id says already
        else:
            uses.add("messages.name")
    if clean.get("tool_calls") == []:
        del clean["tool_calls"]
        clean.setdefault("content", "")
        content = clean["content"]
    if "refusal" in clean:
        text(clean["refusal"], f"{where}.refusal")
        uses.add("messages.refusal")
    if isinstance(content, list):
        clean["content"] = [
            _part(part, f"{where}.content[{i}]", uses) for i, part in enumerate(list_of(content, f"{where}.content"))
        ]
    elif content is not None:
        text(content, f"{where}.content")
    if "tool_calls" in clean:
        if role != "assistant":
            raise bad_request("only the role 'assistant' may have tool calls", f"{where}.tool_calls")
        clean["tool_calls"] = [*calls_of(clean["tool_calls"], f"{where}.tool_calls", uses)]
    elif content is None and role == "assistant" and not _REASONING.isdisjoint(clean):
        clean.setdefault("content", "")  # the answer was cut while the model thought
    elif content is None and not (role == "assistant" and "refusal" in clean):
        raise bad_request("is missing", f"{where}.content")
    if (role == "tool") != ("tool_call_id" in clean):
        raise bad_request("is required for the role 'tool' and not allowed for any other", f"{where}.tool_call_id")
    if role == "tool":
        text(clean["tool_call_id"], f"{where}.tool_call_id", 256)
    return clean


def _part(part: Any, where: str, uses: set[str]) -> Mapping[str, Any]:
    object_of(part, where, required=("type",))
    kind = part["type"]
    if not isinstance(kind, str) or kind not in _PARTS:
        one_of(kind, f"{where}.type", tuple(_PARTS))
    object_of(part, where, ("type", kind, "cache_control"), (kind,))
    if kind in ("text", "refusal"):
        text(part[kind], f"{where}.{kind}")
    else:
        inner = object_of(part[kind], f"{where}.{kind}", _PARTS[kind])
        for name, value in inner.items():
            if value is not None:
                text(value, f"{where}.{kind}.{name}")
        if kind == "image_url":
            _image(inner, f"{where}.image_url")
    if kind not in ("text", "image_url"):
        uses.add("messages.refusal" if kind == "refusal" else f"messages.content.{kind}")
    clean = {name: value for name, value in part.items() if value is not None}
    if "cache_control" not in clean:
        return clean
    check_cache_control(clean["cache_control"], f"{where}.cache_control")
    uses.add("cache_control")
    original = clean if kind == "text" else None
    del (clean := dict(clean))["cache_control"]
    return clean if original is None else Translated(clean, original)


def _image(image: Mapping[str, Any], where: str) -> None:
    if not str(image.get("url", "")).startswith(("https://", "http://", "data:image/")):
        raise bad_request("must be an http(s) address or a data:image/ address", f"{where}.url")
    if image.get("detail") is not None:
        one_of(image["detail"], f"{where}.detail", ("auto", "low", "high"))


def calls_of(value: Any, where: str, uses: set[str] | None = None) -> tuple[Mapping[str, Any], ...]:
    """Reads tool calls.

    Args:
        value: The calls as the client sent them.
        where: The field's name for errors.
        uses: Receives the names of fields that not every provider supports.

    Raises:
        ApiError: A call is not valid.
    """
    uses = set() if uses is None else uses
    return tuple([_call(call, f"{where}[{i}]", uses) for i, call in enumerate(list_of(value, where))])


def _call(call: Any, where: str, uses: set[str]) -> Mapping[str, Any]:
    """A call of the history. Fields that other servers put into it (``extra_content``) go back to them as they came."""
    object_of(not_deep(call, where), where, required=("function",))
    id = call.get("id")
    if id is not None:
        text(id, f"{where}.id", 256)
    one_of(call.get("type") or "function", f"{where}.type", ("function",))
    function = object_of(call["function"], f"{where}.function", required=("name",))
    text(function["name"], f"{where}.function.name")
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        arguments = arguments_text(arguments)
    for fields, known_fields in ((call, _CALL_FIELDS), (function, _FUNCTION_FIELDS)):
        uses.update(f"messages.tool_calls.{shorten(name)}" for name in fields if name not in known_fields)
    return {**call, "id": id, "type": "function", "function": {**function, "arguments": arguments}}


def tools_of(value: Any) -> tuple[Mapping[str, Any], ...]:
    """Reads the tools. Raises ApiError."""
    tools = []
    for i, tool in enumerate(list_of(value, "tools", MAX_TOOLS)):
        where = f"tools[{i}]"
        object_of(tool, where, ("type", "function"), ("type", "function"))
        one_of(tool["type"], f"{where}.type", ("function",))
        allowed = ("name", "description", "parameters", "strict")
        function = object_of(tool["function"], f"{where}.function", allowed, ("name",))
        text(function["name"], f"{where}.function.name", 256, empty=False)
        if function.get("description") is not None:
            text(function["description"], f"{where}.function.description")
        if function.get("parameters") is not None:
            object_of(not_deep(function["parameters"], f"{where}.function.parameters"), f"{where}.function.parameters")
        fields = {name: value for name, value in function.items() if value is not None}
        tools.append({"type": "function", "function": fields})
    return tuple(tools)
