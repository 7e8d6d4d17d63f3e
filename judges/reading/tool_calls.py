"""Tool calls as servers send them -> OpenAI's shape, in which each has an id of its own and its arguments as text."""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

Call = Mapping[str, Any]


def read_tool_calls(calls: Any) -> tuple[Call, ...]:
    """An answer's tool calls in OpenAI's shape; fields that it does not know stay as they are.

    An id that is missing, empty or used twice is replaced, arguments that are an object become text, and missing ones
    ``{}``. A call that is ``{"name": ..., "arguments": ...}`` alone is one of a function.

    Args:
        calls: The list that the server sent; None: empty.

    Raises:
        TypeError: It is not a list of calls.
    """
    if calls is None or calls == []:
        return ()
    if not isinstance(calls, list | tuple):
        raise TypeError("tool_calls is not a list")
    ids: set[str] = set()
    return tuple([_read(call, ids) for call in calls])


def arguments_text(arguments: Any) -> str:
    """A call's arguments as JSON text: text stays as it is, what is missing or empty is ``{}``."""
    if isinstance(arguments, str):
        return arguments if arguments.strip() else "{}"
    return "{}" if arguments is None else json.dumps(arguments, ensure_ascii=False)


def new_call_id() -> str:
    """An id for a call that came without one; nine characters or more, letters, digits and ``_``, as all servers take."""
    return f"call_{uuid4().hex[:24]}"


def sent_calls(calls: Sequence[Call]) -> Sequence[Call]:
    """The calls of a history as any server takes them: arguments that are not a JSON object become one.

    Chat templates read them as JSON, and fail with an error of the server where a model once wrote something else.
    Calls that need no change are returned as they are.
    """
    changed = [_sendable(call) for call in calls]
    return calls if all(map(_same, calls, changed)) else changed


def arguments_object(arguments: Any) -> dict[str, Any]:
    """A call's arguments as an object. Anything else is put into the field ``arguments`` of an object, unchanged."""
    if isinstance(arguments, Mapping):
        return dict(arguments)
    if not isinstance(arguments, str):
        return {} if arguments is None else {"arguments": arguments}
    if not arguments.strip():
        return {}
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return {"arguments": arguments}
    return value if isinstance(value, dict) else {"arguments": arguments}


def _read(call: Any, ids: set[str]) -> Call:
    if not isinstance(call, Mapping):
        raise TypeError("a tool call is not an object")
    id, function, custom = call.get("id"), call.get("function"), call.get("custom")
    if isinstance(function, Mapping):
        name, arguments = function.get("name"), function.get("arguments")
        if not isinstance(name, str | None):
            raise TypeError("a tool's name is not text")
        is_text = type(arguments) is str and arguments.strip()
        if is_text and name is not None and type(id) is str and id and id not in ids and call.get("type"):
            ids.add(id)
            return call
        function = {**function, "name": name or "", "arguments": arguments_text(arguments)}
        call = {**call, "type": call.get("type") or "function", "function": function}
    elif isinstance(custom, Mapping):
        call = {**call, "type": "custom"}
    elif isinstance(call.get("name"), str):
        arguments = call["arguments"] if "arguments" in call else call.get("input")
        rest = {name: value for name, value in call.items() if name not in ("name", "arguments", "input", "type")}
        function = {"name": call["name"], "arguments": arguments_text(arguments)}
        call = {"id": None, "type": "function", "function": function, **rest}
    else:
        raise TypeError("a tool call without a function")
    if type(id) is not str or not id or id in ids:
        id = new_call_id()
    ids.add(id)
    return {**call, "id": id}


def _sendable(call: Call) -> Call:
    function = call.get("function")
    if not isinstance(function, Mapping):
        return call
    arguments = function.get("arguments")
    if isinstance(arguments, str) and _is_object(arguments):
        return call
    value = arguments_object(arguments)
    return {**call, "function": {**function, "arguments": json.dumps(value, ensure_ascii=False)}}


def _is_object(arguments: str) -> bool:
    if arguments == "{}":
        return True
    if not arguments.lstrip().startswith("{"):
        return False
    try:
        return isinstance(json.loads(arguments), dict)
    except (ValueError, RecursionError):
        return False


def _same(one: Call, two: Call) -> bool:
    return one is two
