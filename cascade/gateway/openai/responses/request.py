"""OpenAI's responses: reads a request."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cascade.gateway.errors import bad_request
from cascade.gateway.field_readers import check_present, max_tokens, refused, unused
from cascade.gateway.openai.fields import OPENAI_FIELDS, any_object, openai_option, short_text
from cascade.gateway.request import GatewayRequest
from cascade.gateway.schemas.bounds import schema_of
from cascade.gateway.validation import (
    MAX_TOOLS,
    boolean,
    list_of,
    not_deep,
    object_of,
    one_of,
    read_fields,
    shorten,
    text,
)

from .items import messages_of

_ENCRYPTED, _LOGPROBS = "reasoning.encrypted_content", "message.output_text.logprobs"


@dataclass(slots=True)
class ResponseRequest(GatewayRequest):
    """A request for a response.

    Attributes:
        seals_reasoning: Whether signed thoughts are returned as ``encrypted_content``.
        body: The request as the client sent it, of which a response repeats several fields.
    """

    seals_reasoning: bool = False
    body: Mapping[str, Any] | None = None


def read(body: Mapping[str, Any]) -> ResponseRequest:
    """Reads the body of a request.

    Args:
        body: The JSON object that the client sent.

    Returns:
        The request.

    Raises:
        ApiError: A field is missing, wrong, unknown or not supported; the error names it.
    """
    request = ResponseRequest(body=body)
    read_fields(body, READERS, request)
    check_present(model=request.policy, input=request.messages)
    if body.get("instructions") is not None:
        instructions = text(body["instructions"], "instructions")
        if instructions:
            request.messages = ({"role": "system", "content": instructions}, *request.messages)
    if not request.tools:
        if request.options.get("tool_choice", "auto") not in ("auto", "none"):
            raise bad_request("needs tools", "tool_choice")
        for name in ("tool_choice", "parallel_tool_calls"):
            request.options.pop(name, None)  # as without them
    if "top_logprobs" in request.options:
        request.logprobs = True
    if request.logprobs:
        request.uses.add("logprobs")
    return request


def _input(value: Any, request: ResponseRequest) -> None:
    request.messages = messages_of(value, request.uses, request.unused)


def _tools(value: Any, request: ResponseRequest) -> None:
    request.tools = tuple([_tool(tool, f"tools[{i}]", request) for i, tool in enumerate(list_of(value, "tools", MAX_TOOLS))])


def _tool(tool: Any, where: str, request: ResponseRequest) -> Mapping[str, Any]:
    kind = object_of(tool, where, required=("type",))["type"]
    if kind != "function":
        message = f"{shorten(str(kind))!r} is not supported; only functions are, which the client runs"
        raise bad_request(message, f"{where}.type", "unsupported")
    known_fields = (
        "type",
        "name",
        "description",
        "parameters",
        "strict",
        "defer_loading",
        "output_schema",
        "allowed_callers",
    )
    object_of(tool, where, known_fields, ("name",))
    function: dict[str, Any] = {"name": text(tool["name"], f"{where}.name", 256, empty=False)}
    if tool.get("description") is not None:
        function["description"] = text(tool["description"], f"{where}.description")
    if tool.get("parameters") is not None:
        function["parameters"] = object_of(not_deep(tool["parameters"], f"{where}.parameters"), f"{where}.parameters")
    if tool.get("strict") is not None:
        function["strict"] = boolean(tool["strict"], f"{where}.strict")
    for name in ("defer_loading", "output_schema", "allowed_callers"):
        if tool.get(name):
            request.unused.add(f"tools.{name}")
    return {"type": "function", "function": function}


def _tool_choice(value: Any, request: ResponseRequest) -> None:
    if isinstance(value, str):
        request.options["tool_choice"] = one_of(value, "tool_choice", ("none", "auto", "required"))
        return
    kind = object_of(value, "tool_choice", required=("type",))["type"]
    if kind != "function":
        message = f"{shorten(str(kind))!r} is not supported; name a function, or 'none', 'auto' or 'required'"
        raise bad_request(message, "tool_choice.type", "unsupported")
    object_of(value, "tool_choice", ("type", "name"), ("name",))
    name = text(value["name"], "tool_choice.name", 256, empty=False)
    request.options["tool_choice"] = {"type": "function", "function": {"name": name}}


def _text(value: Any, request: ResponseRequest) -> None:
    fields = object_of(value, "text", ("format", "verbosity"))
    if fields.get("verbosity") is not None:
        openai_option("verbosity", short_text, "text.verbosity")(fields["verbosity"], request)
    if fields.get("format") is None:
        return
    where = "text.format"
    known_fields = ("type", "name", "schema", "strict", "description")
    format = object_of(fields["format"], where, known_fields, ("type",))
    kind = one_of(format["type"], f"{where}.type", ("text", "json_object", "json_schema"))
    if kind == "json_object":
        any_object(request)
    elif kind == "json_schema":
        # Every answer is checked against the schema, so that it is always strict.
        object_of(format, where, known_fields, ("schema",))
        request.set_schema(schema_of(format["schema"], f"{where}.schema"), f"{where}.schema")


def _reasoning(value: Any, request: ResponseRequest) -> None:
    fields = object_of(value, "reasoning", ("effort", "summary", "generate_summary", "context", "mode"))
    if fields.get("effort") is not None:
        openai_option("reasoning_effort", short_text, "reasoning.effort")(fields["effort"], request)
    for name in ("context", "mode"):
        if fields.get(name) is not None:
            request.unused.add(f"reasoning.{name}")
    # Thoughts are returned as they are, whatever kind of summary is asked for.


def _include(value: Any, request: ResponseRequest) -> None:
    for i, name in enumerate(list_of(value, "include")):
        if name == _ENCRYPTED:
            request.seals_reasoning = True
        elif name == _LOGPROBS:
            request.logprobs = True
        else:
            request.unused.add(f"include: {shorten(text(name, f'include[{i}]'))}")


def _stream_options(value: Any, request: ResponseRequest) -> None:
    if object_of(value, "stream_options", ("include_obfuscation",)).get("include_obfuscation"):
        request.unused.add("stream_options.include_obfuscation")


def _background(value: Any, _: ResponseRequest) -> None:
    if boolean(value, "background"):
        raise bad_request("the gateway answers while the client waits; only false is supported", "background", "unsupported")


_STATELESS = "the gateway keeps no responses; send the whole conversation as input"

READERS: Mapping[str, Callable[[Any, Any], None]] = {
    **OPENAI_FIELDS,
    "input": _input,
    "instructions": lambda value, request: None,  # read after the input, which they precede
    "tools": _tools,
    "tool_choice": _tool_choice,
    "text": _text,
    "reasoning": _reasoning,
    "include": _include,
    "max_output_tokens": max_tokens("max_output_tokens"),
    "stream_options": _stream_options,
    "truncation": unused("truncation", "disabled"),
    "max_tool_calls": unused("max_tool_calls"),
    "context_management": unused("context_management"),
    "access_programs": unused("access_programs"),
    "image": unused("image"),
    "background": _background,
    "background_options": refused("background_options", "the gateway answers while the client waits"),
    "previous_response_id": refused("previous_response_id", _STATELESS),
    "conversation": refused("conversation", _STATELESS),
    "prompt": refused("prompt", "the gateway keeps no templates; send instructions and input"),
}
