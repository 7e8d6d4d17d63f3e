"""OpenAI's chat completions: reads a request."""

from collections.abc import Callable, Mapping
from typing import Any

from cascade.gateway.errors import bad_request
from cascade.gateway.request import GatewayRequest
from cascade.gateway.schemas.bounds import schema_of
from cascade.gateway.validation import (
    boolean,
    integer,
    list_of,
    not_deep,
    number,
    object_of,
    one_of,
    read_fields,
    shorten,
    text,
)

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
    for name, value in (("model", request.policy), ("messages", request.messages)):
        if not value:
            raise bad_request("is missing", name)
    if request.include_usage and not request.stream:
        raise bad_request("needs stream: true", "stream_options")
    if "top_logprobs" in request.options and not request.logprobs:
        raise bad_request("needs logprobs: true", "top_logprobs")
    if not request.tools:
        for name in ("tool_choice", "parallel_tool_calls"):
            if name in request.options:
                raise bad_request("needs tools", name)
    return request


def _model(value: Any, request: GatewayRequest) -> None:
    request.policy = text(value, "model", 256, empty=False)


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
        request.schema, request.options["response_format"] = {"type": "object"}, {"type": "json_object"}
        request.uses.add("response_format.type")
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


def _temperature(value: Any, request: GatewayRequest) -> None:
    request.temperature = number(value, "temperature", 0, 2)
    if request.temperature > 1:
        request.uses.add("temperature")


def _max_tokens(name: str) -> Callable[[Any, GatewayRequest], None]:
    def reader(value: Any, request: GatewayRequest) -> None:
        if request.max_tokens is not None:
            raise bad_request("is the newer name of max_tokens; send one of the two", "max_completion_tokens")
        request.max_tokens = integer(value, name, 1, 10_000_000)

    return reader


def _n(value: Any, request: GatewayRequest) -> None:
    request.n = integer(value, "n", 1, MAX_CHOICES)


def _logprobs(value: Any, request: GatewayRequest) -> None:
    request.logprobs = boolean(value, "logprobs")
    if request.logprobs:
        request.uses.add("logprobs")


def _top_logprobs(value: Any, request: GatewayRequest) -> None:
    if integer(value, "top_logprobs", 0, 20):
        request.options["top_logprobs"] = value


def user(value: Any, request: GatewayRequest) -> None:
    """Reads ``user``: a tag of the journal."""
    request.set_tag("user", text(value, "user"), "user")


def metadata(value: Any, request: GatewayRequest) -> None:
    """Reads ``metadata``: tags of the journal."""
    for name, tag in object_of(value, "metadata").items():
        request.set_tag(name, text(tag, f"metadata.{shorten(name)}"), f"metadata.{shorten(name)}")


def _stream(value: Any, request: GatewayRequest) -> None:
    request.stream = boolean(value, "stream")


def _stream_options(value: Any, request: GatewayRequest) -> None:
    fields = object_of(value, "stream_options", ("include_usage", "include_obfuscation"))
    if fields.get("include_obfuscation"):
        request.unused.add("stream_options.include_obfuscation")
    request.include_usage = boolean(fields.get("include_usage", False), "stream_options.include_usage")


def cascade_fields(value: Any, request: GatewayRequest) -> None:
    """Reads ``cascade``: the limits of this request."""
    fields = object_of(value, "cascade", ("budget_usd", "deadline_s"))
    if fields.get("budget_usd") is not None:
        request.budget_usd = number(fields["budget_usd"], "cascade.budget_usd", 0, 1e6)
    if fields.get("deadline_s") is not None:
        request.deadline_s = number(fields["deadline_s"], "cascade.deadline_s", 0.001, 86_400)


def _modalities(value: Any, _: GatewayRequest) -> None:
    if value != ["text"]:
        raise bad_request("answers are text; only ['text'] is supported", "modalities", "unsupported")


def unused(name: str, *plain: Any) -> Callable[[Any, GatewayRequest], None]:
    """A field without effect here, and without effect on what the gateway promises; ``plain`` values ask for nothing."""

    def reader(value: Any, request: GatewayRequest) -> None:
        not_deep(value, name)
        if value not in plain:
            request.unused.add(name)

    return reader


def refused(name: str, why: str) -> Callable[[Any, GatewayRequest], None]:
    """A field that cannot be left out without changing what is asked for."""

    def reader(_: Any, __: GatewayRequest) -> None:
        raise bad_request(why, name, "unsupported")

    return reader


def option(name: str, check: Callable[[Any, str], Any], *, rare: bool = True) -> Callable[[Any, GatewayRequest], None]:
    """A field that is passed on to the models; ``rare``: not every provider supports it."""

    def reader(value: Any, request: GatewayRequest) -> None:
        request.options[name] = check(value, name)
        if rare:
            request.uses.add(name)

    return reader


def openai_option(name: str, check: Callable[[Any, str], Any]) -> Callable[[Any, GatewayRequest], None]:
    """A field that only models of OpenAI's interface receive, and others do without."""

    def reader(value: Any, request: GatewayRequest) -> None:
        request.options.setdefault("openai", {})[name] = check(value, name)
        request.uses.add(name)

    return reader


def _bias(value: Any, name: str) -> Any:
    for token, bias in object_of(value, name).items():
        number(bias, f"{name}.{shorten(token)}", -100, 100)
    return value


_READERS: Mapping[str, Callable[[Any, GatewayRequest], None]] = {
    "model": _model,
    "messages": _messages,
    "tools": _tools,
    "tool_choice": _tool_choice,
    "parallel_tool_calls": option("parallel_tool_calls", boolean, rare=False),
    "response_format": _response_format,
    "stop": _stop,
    "seed": option("seed", lambda v, name: integer(v, name, -(2**63), 2**63 - 1)),
    "temperature": _temperature,
    "top_p": option("top_p", lambda v, name: number(v, name, 0, 1), rare=False),
    "presence_penalty": option("presence_penalty", lambda v, name: number(v, name, -2, 2)),
    "frequency_penalty": option("frequency_penalty", lambda v, name: number(v, name, -2, 2)),
    "logit_bias": option("logit_bias", _bias),
    "max_tokens": _max_tokens("max_tokens"),
    "max_completion_tokens": _max_tokens("max_completion_tokens"),
    "n": _n,
    "logprobs": _logprobs,
    "top_logprobs": _top_logprobs,
    "reasoning_effort": openai_option("reasoning_effort", lambda v, name: text(v, name, 32)),
    "verbosity": openai_option("verbosity", lambda v, name: text(v, name, 32)),
    "prompt_cache_key": openai_option("prompt_cache_key", lambda v, name: text(v, name, 256)),
    "safety_identifier": openai_option("safety_identifier", lambda v, name: text(v, name, 256)),
    "user": user,
    "metadata": metadata,
    "stream": _stream,
    "stream_options": _stream_options,
    "store": unused("store", False),
    "service_tier": unused("service_tier", "auto", "default"),
    "prediction": unused("prediction"),
    "prompt_cache_options": unused("prompt_cache_options"),
    "prompt_cache_retention": unused("prompt_cache_retention"),
    "modalities": _modalities,
    "audio": refused("audio", "answers are text; audio is not supported"),
    "web_search_options": refused("web_search_options", "models answer without a search of the web; offer one as a tool"),
    "moderation": refused("moderation", "the provider's moderation is not supported; judges decide what is accepted"),
    "functions": refused("functions", "this field is obsolete; send tools"),
    "function_call": refused("function_call", "this field is obsolete; send tool_choice"),
    "cascade": cascade_fields,
}
