"""Fields that OpenAI's chat completions and responses have in common."""

from collections.abc import Callable, Mapping
from typing import Any

from cascade.gateway import field_readers as common
from cascade.gateway.field_readers import Reader, option, refused, unused
from cascade.gateway.request import GatewayRequest
from cascade.gateway.validation import boolean, integer, number, object_of, shorten, text


def openai_option(name: str, check: Callable[[Any, str], Any], where: str | None = None) -> Reader:
    """A field that only models of OpenAI's interface receive, and others do without.

    Args:
        name: The option's name in a model's request.
        check: Checks its value; receives the value and the name that errors give the field.
        where: That name. Default: the option's name.

    Returns:
        The field's reader.
    """

    def reader(value: Any, request: GatewayRequest) -> None:
        request.options.setdefault("openai", {})[name] = check(value, where or name)
        request.uses.add(name)

    return reader


def short_text(value: Any, name: str) -> str:
    """A word, such as a level of effort. Raises ApiError."""
    return text(value, name, 32)


def any_object(request: GatewayRequest) -> None:
    """Reads ``json_object``: the answer is any JSON object."""
    request.schema, request.options["response_format"] = {"type": "object"}, {"type": "json_object"}
    request.uses.add("response_format.type")


def _temperature(value: Any, request: GatewayRequest) -> None:
    request.temperature = number(value, "temperature", 0, 2)
    if request.temperature > 1:
        request.uses.add("temperature")


def _top_logprobs(value: Any, request: GatewayRequest) -> None:
    if integer(value, "top_logprobs", 0, 20):
        request.options["top_logprobs"] = value


def _user(value: Any, request: GatewayRequest) -> None:
    request.set_tag("user", text(value, "user"), "user")


def _metadata(value: Any, request: GatewayRequest) -> None:
    for name, tag in object_of(value, "metadata").items():
        request.set_tag(name, text(tag, f"metadata.{shorten(name)}"), f"metadata.{shorten(name)}")


def _cache_key(value: Any, name: str) -> str:
    return text(value, name, 256)


OPENAI_FIELDS: Mapping[str, Reader] = {
    "model": common.model,
    "parallel_tool_calls": option("parallel_tool_calls", boolean, rare=False),
    "temperature": _temperature,
    "top_p": common.top_p,
    "top_logprobs": _top_logprobs,
    "prompt_cache_key": openai_option("prompt_cache_key", _cache_key),
    "safety_identifier": openai_option("safety_identifier", _cache_key),
    "user": _user,
    "metadata": _metadata,
    "stream": common.stream,
    "store": unused("store", False),
    "service_tier": unused("service_tier", "auto", "default"),
    "prompt_cache_options": unused("prompt_cache_options"),
    "prompt_cache_retention": unused("prompt_cache_retention"),
    "moderation": refused("moderation", "the provider's moderation is not supported; judges decide what is accepted"),
    "cascade": common.cascade_fields,
}
