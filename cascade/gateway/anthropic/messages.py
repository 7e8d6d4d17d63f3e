"""Anthropic's Messages API: reads a request and writes a result as a message."""

from collections.abc import Callable, Mapping
from typing import Any

from cascade.gateway.errors import bad_request
from cascade.gateway.openai.chat import abstention
from cascade.gateway.request import GatewayRequest
from cascade.gateway.response import summary, usage_of
from cascade.gateway.schema_bounds import schema_of
from cascade.gateway.validation import (
    MAX_TOOLS,
    boolean,
    integer,
    list_of,
    not_deep,
    number,
    object_of,
    one_of,
    read_fields,
    text,
)
from cascade.result import Result
from judges import Usage
from judges.reading.tool_calls import arguments_object

from .blocks import messages_of, system_of


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
    for name, value in (("model", request.policy), ("messages", request.messages), ("max_tokens", request.max_tokens)):
        if not value:
            raise bad_request("is missing", name)
    if body.get("system") is not None:
        request.messages = (system_of(body["system"]), *request.messages)
    if "tool_choice" in request.options and not request.tools:
        raise bad_request("needs tools", "tool_choice")
    return request


def _model(value: Any, request: GatewayRequest) -> None:
    request.policy = text(value, "model", 256, empty=False)


def _messages(value: Any, request: GatewayRequest) -> None:
    request.messages = messages_of(value, request.uses)


def _tools(value: Any, request: GatewayRequest) -> None:
    tools = []
    for i, tool in enumerate(list_of(value, "tools", MAX_TOOLS)):
        where = f"tools[{i}]"
        # Anthropic's own tools (web search, ...) have other types with other fields.
        object_of(tool, where, ("type", "name", "description", "input_schema", "strict"), ("name", "input_schema"))
        one_of("custom" if tool.get("type") is None else tool["type"], f"{where}.type", ("custom",))
        schema = object_of(not_deep(tool["input_schema"], f"{where}.input_schema"), f"{where}.input_schema")
        function: dict[str, Any] = {"name": text(tool["name"], f"{where}.name", 256, empty=False), "parameters": schema}
        if tool.get("description") is not None:
            function["description"] = text(tool["description"], f"{where}.description")
        if tool.get("strict") is not None:
            function["strict"] = boolean(tool["strict"], f"{where}.strict")
        tools.append({"type": "function", "function": function})
    request.tools = tuple(tools)


def _tool_choice(value: Any, request: GatewayRequest) -> None:
    object_of(value, "tool_choice", ("type", "name", "disable_parallel_tool_use"), ("type",))
    kind = one_of(value["type"], "tool_choice.type", ("auto", "any", "tool", "none"))
    if kind == "tool":
        name = text(value.get("name"), "tool_choice.name", 256, empty=False)
        request.options["tool_choice"] = {"type": "function", "function": {"name": name}}
    else:
        request.options["tool_choice"] = "required" if kind == "any" else kind
    if boolean(value.get("disable_parallel_tool_use", False), "tool_choice.disable_parallel_tool_use"):
        request.options["parallel_tool_calls"] = False


def _stop_sequences(value: Any, request: GatewayRequest) -> None:
    words = list_of(value, "stop_sequences")
    if len(words) > 4:
        raise bad_request("at most four are supported", "stop_sequences")
    if words:
        request.options["stop"] = [text(w, f"stop_sequences[{i}]", 256, empty=False) for i, w in enumerate(words)]


def _metadata(value: Any, request: GatewayRequest) -> None:
    fields = object_of(value, "metadata", ("user_id",))
    if fields.get("user_id") is not None:
        request.tags["user"] = text(fields["user_id"], "metadata.user_id", 256)


def _output_config(value: Any, request: GatewayRequest) -> None:
    fields = object_of(value, "output_config", ("format",))
    if fields.get("format") is not None:
        format = object_of(fields["format"], "output_config.format", ("type", "schema"), ("type", "schema"))
        one_of(format["type"], "output_config.format.type", ("json_schema",))
        where = "output_config.format.schema"
        request.set_schema(schema_of(format["schema"], where), where)


def _temperature(value: Any, request: GatewayRequest) -> None:
    request.temperature = number(value, "temperature", 0, 1)


def _max_tokens(value: Any, request: GatewayRequest) -> None:
    request.max_tokens = integer(value, "max_tokens", 1, 10_000_000)


def _top_p(value: Any, request: GatewayRequest) -> None:
    request.options["top_p"] = number(value, "top_p", 0, 1)


def _top_k(value: Any, request: GatewayRequest) -> None:
    request.options["top_k"] = integer(value, "top_k", 0, 1_000_000)
    request.uses.add("top_k")


def _stream(value: Any, request: GatewayRequest) -> None:
    request.stream = boolean(value, "stream")


def _thinking(value: Any, _: GatewayRequest) -> None:
    if object_of(value, "thinking").get("type") != "disabled":
        raise bad_request("only {'type': 'disabled'} is supported", "thinking", "unsupported")


def _service_tier(value: Any, _: GatewayRequest) -> None:
    one_of(value, "service_tier", ("auto", "standard_only"))


_READERS: Mapping[str, Callable[[Any, GatewayRequest], None]] = {
    "model": _model,
    "messages": _messages,
    "system": lambda value, request: None,  # read after the messages, which it precedes
    "max_tokens": _max_tokens,
    "tools": _tools,
    "tool_choice": _tool_choice,
    "stop_sequences": _stop_sequences,
    "temperature": _temperature,
    "top_p": _top_p,
    "top_k": _top_k,
    "metadata": _metadata,
    "output_config": _output_config,
    "stream": _stream,
    "thinking": _thinking,
    "service_tier": _service_tier,
}


def message(request: GatewayRequest, result: Result) -> dict[str, Any]:
    """The result as one message."""
    return {
        "id": f"msg_{result.run_id}",
        "type": "message",
        "role": "assistant",
        "model": result.model,
        "content": blocks(result),
        "stop_reason": stop_reason(result),
        "stop_sequence": None,
        "usage": usage(usage_of([result])),
        "cascade": summary(request, result),
    }


def blocks(result: Result) -> list[dict[str, Any]]:
    """The answer's thoughts, its text and its tool calls."""
    content = abstention(result) if result.abstained else result.text
    text_blocks: list[dict[str, Any]] = [{"type": "text", "text": content}] if content else []
    return thinking(result) + text_blocks + [tool_use(call) for call in result.tool_calls]


def thinking(result: Result) -> list[dict[str, Any]]:
    """The answer's thoughts: Anthropic's own blocks, or another model's thoughts as one block without a signature."""
    if result.answer is None:
        return []
    if blocks := result.answer.extra.get("thinking_blocks"):
        return [dict(block) for block in blocks]
    reasoning = result.answer.reasoning
    return [{"type": "thinking", "thinking": reasoning, "signature": ""}] if reasoning else []


def tool_use(call: Mapping[str, Any]) -> dict[str, Any]:
    """A tool call in Anthropic's shape; arguments that are not a JSON object are passed as text, as ``arguments``."""
    function = call.get("function") or {}
    return {
        "type": "tool_use",
        "id": call.get("id"),
        "name": function.get("name"),
        "input": arguments_object(function.get("arguments")),
    }


def stop_reason(result: Result) -> str:
    """Anthropic's stop reason: ``tool_use`` wherever there is a call to run.

    A call that was cut or filtered is not to be run: its answer ends with ``max_tokens`` or ``refusal``.
    """
    if result.answer is None:
        return "refusal"
    reason = result.answer.finish_reason or "stop"
    if result.tool_calls and reason not in ("length", "content_filter"):
        return "tool_use"
    if result.answer.refusal is not None or reason == "content_filter":
        return "refusal"
    # A word that no one knows says that the answer may not be complete.
    return "end_turn" if reason in ("stop", "tool_calls") else "max_tokens"


def usage(tokens: Usage | None) -> dict[str, Any]:
    """Tokens as Anthropic counts them, without those of its cache; null where they are unknown."""
    if tokens is None:
        return {"input_tokens": None, "output_tokens": None}
    cached, written = tokens.cached_tokens, tokens.cache_write_tokens
    return {
        "input_tokens": tokens.input_tokens - cached - written,
        "output_tokens": tokens.output_tokens,
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": written,
    }
