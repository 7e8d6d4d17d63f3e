"""Anthropic's tools in OpenAI's shape."""

from collections.abc import Mapping
from typing import Any

from cascade.gateway.validation import MAX_TOOLS, boolean, check_cache_control, list_of, not_deep, object_of, text
from cascade.models.message_parts import Translated

from .fields import not_here

# Tools that Anthropic describes to its models and the client runs.
_CLIENT_TOOLS = ("bash_2", "text_editor_2", "memory_2", "computer_2")
_PASSED_ON = ("defer_loading", "eager_input_streaming", "input_examples", "allowed_callers")
_FIELDS = ("type", "name", "description", "input_schema", "strict", "cache_control", *_PASSED_ON)


def tools_of(value: Any, uses: set[str]) -> tuple[Mapping[str, Any], ...]:
    """Reads the tools.

    Args:
        value: The tools as the client sent them.
        uses: Receives the names of fields that not every provider supports.

    Returns:
        The tools in OpenAI's shape, each with its original.

    Raises:
        ApiError: A tool is not valid, or runs at Anthropic.
    """
    return tuple([_tool(tool, f"tools[{i}]", uses) for i, tool in enumerate(list_of(value, "tools", MAX_TOOLS))])


def _tool(tool: Any, where: str, uses: set[str]) -> Translated:
    kind = object_of(tool, where).get("type")
    if kind is not None and kind != "custom":
        return _client_tool(tool, text(kind, f"{where}.type", 64), where, uses)
    object_of(tool, where, _FIELDS, ("name", "input_schema"))
    schema = object_of(not_deep(tool["input_schema"], f"{where}.input_schema"), f"{where}.input_schema")
    function: dict[str, Any] = {"name": text(tool["name"], f"{where}.name", 256, empty=False), "parameters": schema}
    if tool.get("description") is not None:
        function["description"] = text(tool["description"], f"{where}.description")
    if tool.get("strict") is not None:
        function["strict"] = boolean(tool["strict"], f"{where}.strict")
    _note_cache_control(tool, where, uses)
    for name in _PASSED_ON:
        if tool.get(name) is not None:
            not_deep(tool[name], f"{where}.{name}")
            uses.add(f"tools.{name}")
    return Translated({"type": "function", "function": function}, tool)


def _client_tool(tool: Mapping[str, Any], kind: str, where: str, uses: set[str]) -> Translated:
    if not kind.startswith(_CLIENT_TOOLS):
        raise not_here(kind, where)
    object_of(not_deep(tool, where), where, required=("name",))
    name = text(tool["name"], f"{where}.name", 256, empty=False)
    _note_cache_control(tool, where, uses)
    uses.add("tools.type")
    return Translated({"type": "function", "function": {"name": name}}, tool)


def _note_cache_control(tool: Mapping[str, Any], where: str, uses: set[str]) -> None:
    if tool.get("cache_control") is not None:
        check_cache_control(tool["cache_control"], f"{where}.cache_control")
        uses.add("cache_control")
