"""OpenAI's chat completions: reads a request."""

from collections.abc import Mapping
from typing import Any

from cascade.gateway.errors import bad_request
from cascade.gateway.field_readers import Reader, check_present, max_tokens, option, refused, unused
from cascade.gateway.request import GatewayRequest
from cascade.gateway.schemas.bounds import schema_of
from cascade.gateway.validation import (
    boolean,
    integer,
    list_of,
    number,
    object_of,
    one_of,
    read_fields,
    shorten,
    text,
)

from .fields import OPENAI_FIELDS, any_object, openai_option, short_text
from .messages import messages_of, tools_of

MAX_CHOICES = 8


def read(body: Mapping[str, Any]) -> GatewayRequest:
    """Reads the body of a request.

    Args:
        body: The JSON object that the client sent.

    Returns:
        The request.

    Raises:
        ApiError: A field is missing, wrong, unknown or not supported; the error names it.
    """
    request = GatewayRequest()
    read_fields(body, _READERS, request)
    check_present(model=request.policy, messages=request.messages)
    if body.get("max_tokens") is not None and body.get("max_completion_tokens") is not None:
        raise bad_request("is the newer name of max_tokens; send one of the two", "max_completion_tokens")
    if request.include_usage and not request.stream:
        raise bad_request("needs stream: true", "stream_options")
    if "top_logprobs" in request.options and not request.logprobs:
        raise bad_request("needs logprobs: true", "top_logprobs")
    if not request.tools:
        for name in ("tool_choice", "parallel_tool_calls"):
            if name in request.options:
                raise bad_request("needs tools", name)
    return request


def _messages(value: Any, request: GatewayRequest) -> None:
    request.messages = messages_of(value, request.uses)


def _tools(value: Any, request: GatewayRequest) -> None:
    request.tools = tools_of(value)


def _tool_choice(value: Any, request: GatewayRequest) -> None:
    if isinstance(value, str):
        one_of(value, "tool_choice", ("none", "auto", "required"))
    else:
        object_of(value, "tool_choice", ("type", "function"), ("type", "function"))
        one_of(value["type"], "tool_choice.type", ("function",))
        object_of(value["function"], "tool_choice.function", ("name",), ("name",))
        text(value["function"]["name"], "tool_choice.function.name", 256, empty=False)
    request.options["tool_choice"] = value


def _response_format(value: Any, request: GatewayRequest) -> None:
    object_of(value, "response_format", ("type", "json_schema"), ("type",))
    kind = one_of(value["type"], "response_format.type", ("text", "json_object", "json_schema"))
    if kind == "json_object":
        any_object(request)
    elif kind == "json_schema":
        where = "response_format.json_schema"
        fields = object_of(value.get("json_schema"), where, ("name", "description", "schema", "strict"), ("schema",))
        request.set_schema(schema_of(fields["schema"], f"{where}.schema"), f"{where}.schema")
        # Every answer is checked against the schema; this is for the provider alone.
        request.strict = None if fields.get("strict") is None else boolean(fields["strict"], f"{where}.strict")


def _stop(value: Any, request: GatewayRequest) -> None:
    words = [value] if isinstance(value, str) else list_of(value, "stop")
    if not 0 < len(words) <= 4:
        raise bad_request("must be one to four strings", "stop")
    request.options["stop"] = [text(word, f"stop[{i}]", 256, empty=False) for i, word in enumerate(words)]


def _n(value: Any, request: GatewayRequest) -> None:
    request.n = integer(value, "n", 1, MAX_CHOICES)


def _logprobs(value: Any, request: GatewayRequest) -> None:
    request.logprobs = boolean(value, "logprobs")
    if request.logprobs:
        request.uses.add("logprobs")


def _stream_options(value: Any, request: GatewayRequest) -> None:
    fields = object_of(value, "stream_options", ("include_usage", "include_obfuscation"))
    if fields.get("include_obfuscation"):
        request.unused.add("stream_options.include_obfuscation")
    request.include_usage = boolean(fields.get("include_usage", False), "stream_options.include_usage")


def _modalities(value: Any, _: GatewayRequest) -> None:
    if value != ["text"]:
        raise bad_request("answers are text; only ['text'] is supported", "modalities", "unsupported")


def _bias(value: Any, name: str) -> Any:
    for token, bias in object_of(value, name).items():
        number(bias, f"{name}.{shorten(token)}", -100, 100)
    return value


_READERS: Mapping[str, Reader] = {
    **OPENAI_FIELDS,
    "messages": _messages,
    "tools": _tools,
    "tool_choice": _tool_choice,
    "response_format": _response_format,
    "stop": _stop,
    "seed": option("seed", lambda v, name: integer(v, name, -(2**63), 2**63 - 1)),
    "presence_penalty": option("presence_penalty", lambda v, name: number(v, name, -2, 2)),
    "frequency_penalty": option("frequency_penalty", lambda v, name: number(v, name, -2, 2)),
    "logit_bias": option("logit_bias", _bias),
    "max_tokens": max_tokens("max_tokens"),
    "max_completion_tokens": max_tokens("max_completion_tokens"),
    "n": _n,
    "logprobs": _logprobs,
    "reasoning_effort": openai_option("reasoning_effort", short_text),
    "verbosity": openai_option("verbosity", short_text),
    "stream_options": _stream_options,
    "prediction": unused("prediction"),
    "modalities": _modalities,
    "audio": refused("audio", "answers are text; audio is not supported"),
    "web_search_options": refused("web_search_options", "web search is not supported; offer it as a tool"),
    "functions": refused("functions", "this field is obsolete; send tools"),
    "function_call": refused("function_call", "this field is obsolete; send tool_choice"),
}
