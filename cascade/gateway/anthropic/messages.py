"""Anthropic's Messages: a request's fields in our words, and a result as a message."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from cascade.gateway.errors import bad
from cascade.gateway.openai.chat import abstention, schema_of
from cascade.gateway.request import GatewayRequest
from cascade.gateway.response import summary, usage_of
from cascade.gateway.validation import boolean, by_table, listed, number, object_of, one_of, shallow, text, whole
from cascade.result import Result
from judges import Usage

from .blocks import messages_of, system_of

STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


def read(body: Mapping[str, Any]) -> GatewayRequest:
    """What is asked for. Raises Refusal for whatever cannot be honoured, naming the field."""
    asked = GatewayRequest()
    by_table(body, _READERS, asked)
    for name, given in (("model", asked.policy), ("messages", asked.messages), ("max_tokens", asked.max_tokens)):
        if not given:
            raise bad("is missing", name)
    if body.get("system") is not None:
        asked.messages = (system_of(body["system"]), *asked.messages)
    if "tool_choice" in asked.options and not asked.tools:
        raise bad("needs tools", "tool_choice")
    return asked


def _model(value: Any, asked: GatewayRequest) -> None:
    asked.policy = text(value, "model", 256, empty=False)


def _messages(value: Any, asked: GatewayRequest) -> None:
    asked.messages = messages_of(value)


def _tools(value: Any, asked: GatewayRequest) -> None:
    made = []
    for i, tool in enumerate(listed(value, "tools")):
        where = f"tools[{i}]"
        # A tool of Anthropic's own (web search, ...) is another type, with fields of its own.
        object_of(tool, where, ("type", "name", "description", "input_schema", "strict"), ("name", "input_schema"))
        one_of("custom" if tool.get("type") is None else tool["type"], f"{where}.type", ("custom",))
        schema = object_of(shallow(tool["input_schema"], f"{where}.input_schema"), f"{where}.input_schema")
        function: dict[str, Any] = {"name": text(tool["name"], f"{where}.name", 256, empty=False), "parameters": schema}
        if tool.get("description") is not None:
            function["description"] = text(tool["description"], f"{where}.description")
        if tool.get("strict") is not None:
            function["strict"] = boolean(tool["strict"], f"{where}.strict")
        made.append({"type": "function", "function": function})
    asked.tools = tuple(made)


def _tool_choice(value: Any, asked: GatewayRequest) -> None:
    object_of(value, "tool_choice", ("type", "name", "disable_parallel_tool_use"), ("type",))
    kind = one_of(value["type"], "tool_choice.type", ("auto", "any", "tool", "none"))
    if kind == "tool":
        name = text(value.get("name"), "tool_choice.name", 256, empty=False)
        asked.options["tool_choice"] = {"type": "function", "function": {"name": name}}
    else:
        asked.options["tool_choice"] = "required" if kind == "any" else kind
    if boolean(value.get("disable_parallel_tool_use", False), "tool_choice.disable_parallel_tool_use"):
        asked.options["parallel_tool_calls"] = False


def _stop_sequences(value: Any, asked: GatewayRequest) -> None:
    words = listed(value, "stop_sequences")
    if len(words) > 4:
        raise bad("more than four cannot be honoured", "stop_sequences")
    if words:
        asked.options["stop"] = [text(w, f"stop_sequences[{i}]", 256, empty=False) for i, w in enumerate(words)]


def _metadata(value: Any, asked: GatewayRequest) -> None:
    given = object_of(value, "metadata", ("user_id",))
    if given.get("user_id") is not None:
        asked.tags["user"] = text(given["user_id"], "metadata.user_id", 256)


def _output_config(value: Any, asked: GatewayRequest) -> None:
    given = object_of(value, "output_config", ("format",))
    if given.get("format") is not None:
        wanted = object_of(given["format"], "output_config.format", ("type", "schema"), ("type", "schema"))
        one_of(wanted["type"], "output_config.format.type", ("json_schema",))
        asked.schema = schema_of(wanted["schema"], "output_config.format.schema")


def _temperature(value: Any, asked: GatewayRequest) -> None:
    asked.temperature = number(value, "temperature", 0, 1)


def _max_tokens(value: Any, asked: GatewayRequest) -> None:
    asked.max_tokens = whole(value, "max_tokens", 1, 10_000_000)


def _top_p(value: Any, asked: GatewayRequest) -> None:
    asked.options["top_p"] = number(value, "top_p", 0, 1)


def _top_k(value: Any, asked: GatewayRequest) -> None:
    asked.options["top_k"] = whole(value, "top_k", 0, 1_000_000)
    asked.uses.add("top_k")


def _stream(value: Any, asked: GatewayRequest) -> None:
    asked.stream = boolean(value, "stream")


def _thinking(value: Any, _: GatewayRequest) -> None:
    if object_of(value, "thinking").get("type") != "disabled":
        raise bad("only {'type': 'disabled'} can be honoured", "thinking", "unsupported")


def _service_tier(value: Any, _: GatewayRequest) -> None:
    one_of(value, "service_tier", ("auto", "standard_only"))


_READERS: Mapping[str, Callable[[Any, GatewayRequest], None]] = {
    "model": _model,
    "messages": _messages,
    "system": lambda value, asked: None,  # read once the messages are, which it goes before
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


def message(asked: GatewayRequest, result: Result) -> dict[str, Any]:
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
        "cascade": summary(asked.policy, result),
    }


def blocks(result: Result) -> list[dict[str, Any]]:
    """The answer's text and its tool calls."""
    said = abstention(result) if result.abstained else result.text
    made: list[dict[str, Any]] = [{"type": "text", "text": said}] if said else []
    return made + [tool_use(call) for call in result.tool_calls]


def tool_use(call: Mapping[str, Any]) -> dict[str, Any]:
    """A tool call in Anthropic's shape; arguments that are no JSON object stand under ``arguments`` as they are."""
    function = call.get("function") or {}
    raw = function.get("arguments") or "{}"
    try:
        given = json.loads(raw)
    except ValueError:
        given = None
    return {
        "type": "tool_use",
        "id": call.get("id"),
        "name": function.get("name"),
        "input": given if isinstance(given, dict) else {"arguments": raw},
    }


def stop_reason(result: Result) -> str:
    """Why the answer ended, in Anthropic's words."""
    if result.abstained:
        return "refusal"
    said = result.answer.finish_reason if result.answer is not None else None
    if said is None:
        return "tool_use" if result.tool_calls else "end_turn"
    return STOP_REASONS.get(said, said)


def usage(counted: Usage | None) -> dict[str, Any]:
    """Tokens as Anthropic counts them, those of its cache beside the others; null where they are unknown."""
    if counted is None:
        return {"input_tokens": None, "output_tokens": None}
    cached, written = counted.cached_tokens, counted.cache_write_tokens
    return {
        "input_tokens": counted.input_tokens - cached - written,
        "output_tokens": counted.output_tokens,
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": written,
    }
