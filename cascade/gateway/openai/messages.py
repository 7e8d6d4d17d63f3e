"""Messages and tools in OpenAI's shape, checked part by part."""

from collections.abc import Mapping
from typing import Any

from cascade.gateway.errors import bad
from cascade.gateway.validation import listed, object_of, one_of, shallow, text

_ROLES = ("system", "developer", "user", "assistant", "tool")
_PARTS: Mapping[str, tuple[str, ...]] = {
    "text": ("text",),
    "refusal": ("refusal",),
    "image_url": ("url", "detail"),
    "input_audio": ("data", "format"),
    "file": ("file_data", "file_id", "filename"),
}
_FIELDS = frozenset(("role", "content", "name", "tool_calls", "tool_call_id", "refusal"))
# What a completion says of itself and a client may send back as it came, as long as it says nothing.
_EMPTY = frozenset(("annotations", "audio", "function_call"))


def messages_of(value: Any, uses: set[str]) -> tuple[Mapping[str, Any], ...]:
    """The conversation. ``uses`` gets what not every provider can honour. Raises Refusal."""
    given = listed(value, "messages")
    return tuple([_message(message, f"messages[{i}]", uses) for i, message in enumerate(given)])


def _message(message: Any, where: str, uses: set[str]) -> Mapping[str, Any]:
    object_of(message, where, needed=("role",))
    role, content = message["role"], message.get("content")
    if role not in _ROLES:
        one_of(role, f"{where}.role", _ROLES)
    if len(message) == 2 and type(content) is str and role != "tool":
        return dict(message)
    made = {name: given for name, given in message.items() if given is not None}
    for name in message:
        if name in _EMPTY and not message[name]:
            made.pop(name, None)
        elif name not in _FIELDS:
            raise bad(f"unknown field; known: {', '.join(sorted(_FIELDS))}", f"{where}.{name}")
    if "name" in made:
        text(made["name"], f"{where}.name", 64)
        uses.add("messages.name")
    if "refusal" in made:
        text(made["refusal"], f"{where}.refusal")
        uses.add("messages.refusal")
    if isinstance(content, list):
        made["content"] = [_part(part, f"{where}.content[{i}]", uses) for i, part in enumerate(content)]
    elif content is not None:
        text(content, f"{where}.content")
    if "tool_calls" in made:
        if role != "assistant":
            raise bad("only an assistant calls tools", f"{where}.tool_calls")
        made["tool_calls"] = [
            _call(call, f"{where}.tool_calls[{i}]")
            for i, call in enumerate(listed(made["tool_calls"], f"{where}.tool_calls"))
        ]
    elif content is None and not (role == "assistant" and "refusal" in made):
        raise bad("is missing", f"{where}.content")
    if (role == "tool") != ("tool_call_id" in made):
        raise bad("belongs to a message of the role 'tool', and there it is needed", f"{where}.tool_call_id")
    if role == "tool":
        text(made["tool_call_id"], f"{where}.tool_call_id", 256, empty=False)
    return made


def _part(part: Any, where: str, uses: set[str]) -> Mapping[str, Any]:
    object_of(part, where, needed=("type",))
    kind = part["type"]
    if not isinstance(kind, str) or kind not in _PARTS:
        one_of(kind, f"{where}.type", tuple(_PARTS))
    object_of(part, where, ("type", kind), (kind,))
    if kind in ("text", "refusal"):
        text(part[kind], f"{where}.{kind}")
    else:
        inner = object_of(part[kind], f"{where}.{kind}", _PARTS[kind])
        for name, given in inner.items():
            if given is not None:
                text(given, f"{where}.{kind}.{name}")
        if kind == "image_url":
            _image(inner, f"{where}.image_url")
    if kind not in ("text", "image_url"):
        uses.add("messages.refusal" if kind == "refusal" else f"messages.content.{kind}")
    return {name: given for name, given in part.items() if given is not None}


def _image(image: Mapping[str, Any], where: str) -> None:
    if not str(image.get("url", "")).startswith(("https://", "http://", "data:image/")):
        raise bad("must be an http(s) address or a data:image/ address", f"{where}.url")
    if image.get("detail") is not None:
        one_of(image["detail"], f"{where}.detail", ("auto", "low", "high"))


def _call(call: Any, where: str) -> Mapping[str, Any]:
    object_of(call, where, ("id", "type", "function", "index"), ("id", "function"))
    text(call["id"], f"{where}.id", 256, empty=False)
    one_of(call.get("type", "function"), f"{where}.type", ("function",))
    function = object_of(call["function"], f"{where}.function", ("name", "arguments"), ("name", "arguments"))
    for name in ("name", "arguments"):
        text(function[name], f"{where}.function.{name}")
    return {"id": call["id"], "type": "function", "function": function}


def tools_of(value: Any) -> tuple[Mapping[str, Any], ...]:
    """The tools. Raises Refusal."""
    made = []
    for i, tool in enumerate(listed(value, "tools")):
        where = f"tools[{i}]"
        object_of(tool, where, ("type", "function"), ("type", "function"))
        one_of(tool["type"], f"{where}.type", ("function",))
        known = ("name", "description", "parameters", "strict")
        function = object_of(tool["function"], f"{where}.function", known, ("name",))
        text(function["name"], f"{where}.function.name", 256, empty=False)
        if function.get("description") is not None:
            text(function["description"], f"{where}.function.description")
        if function.get("parameters") is not None:
            object_of(shallow(function["parameters"], f"{where}.function.parameters"), f"{where}.function.parameters")
        kept = {name: given for name, given in function.items() if given is not None}
        made.append({"type": "function", "function": kept})
    return tuple(made)
