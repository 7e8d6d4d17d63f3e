"""Anthropic's Messages API: reads a request, and which of its fields have no effect here."""

from collections.abc import Mapping
from typing import Any

from cascade.gateway.errors import ApiError, bad_request
from cascade.gateway.field_readers import (
    Reader,
    cascade_fields,
    check_present,
    max_tokens,
    model,
    option,
    refused,
    stream,
    top_p,
    unused,
)
from cascade.gateway.request import GatewayRequest
from cascade.gateway.schemas.bounds import schema_of
from cascade.gateway.validation import (
    boolean,
    check_cache_control,
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
from cascade.models.anthropic import BETAS

from .blocks import messages_of, system_of
from .tools import tools_of

_MAX_STOPS = 64
_EDITS = ("clear_tool_uses_20250919", "clear_thinking_20251015")
# Betas that change neither what a token costs nor who runs a tool. Others would break what a policy promises.
_FORWARDED_BETAS = tuple(
    f"{name}-2"
    for name in (
        *("adaptive-thinking", "cache-diagnosis", "claude-code", "computer-use", "context-management", "effort"),
        *("extended-cache-ttl", "fine-grained-tool-streaming", "interleaved-thinking", "mid-conversation-system"),
        *("mid-conversation-system-clear-at", "output-128k", "pdfs", "prompt-caching", "prompt-caching-scope"),
        *("redact-thinking", "structured-outputs", "thinking-binding-controls", "thinking-display-updates"),
        *("thinking-token-count", "token-counting", "token-efficient-tools", "tool-examples"),
    )
)


def read(body: Mapping[str, Any], betas: str = "", *, counts: bool = False) -> GatewayRequest:
    """Reads the body of a request.

    Args:
        body: The JSON object that the client sent.
        betas: The header ``anthropic-beta``.
        counts: Whether the request is to count its tokens only, so that ``max_tokens`` may be missing.

    Returns:
        The request.

    Raises:
        ApiError: A field is missing, wrong, unknown or not supported; the error names it.
    """
    request = GatewayRequest()
    read_fields(body, _READERS, request)
    check_present(model=request.policy, messages=request.messages, max_tokens=counts or request.max_tokens)
    if body.get("system") is not None:
        system = system_of(body["system"], request.uses)
        if system["content"]:
            request.messages = (system, *request.messages)
    if "tool_choice" in request.options and not request.tools:
        if request.options["tool_choice"] not in ("none", "auto"):
            raise bad_request("needs tools", "tool_choice")
        del request.options["tool_choice"]  # as without it
    if betas:
        _read_betas(betas, request)
    return request


def _native(request: GatewayRequest) -> dict[str, Any]:
    """The options that only models of Anthropic's receive."""
    native: dict[str, Any] = request.options.setdefault("anthropic", {})
    return native


def _read_betas(betas: str, request: GatewayRequest) -> None:
    forwarded = []
    for name in dict.fromkeys(part.strip() for part in betas[:4096].split(",")):
        if name.startswith(_FORWARDED_BETAS) and name.replace("-", "").isalnum() and name.isascii():
            forwarded.append(name)
        elif name:
            request.unused.add(f"anthropic-beta: {shorten(name)}")
    if forwarded:
        _native(request)[BETAS] = forwarded
        request.uses.add("anthropic-beta")


def _messages(value: Any, request: GatewayRequest) -> None:
    request.messages = messages_of(value, request.uses)


def _tools(value: Any, request: GatewayRequest) -> None:
    request.tools = tools_of(value, request.uses)


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
    words = list_of(value, "stop_sequences", _MAX_STOPS)
    if words:
        request.options["stop"] = [text(w, f"stop_sequences[{i}]", 256, empty=False) for i, w in enumerate(words)]
    if len(words) > 4:
        request.uses.add("stop_sequences")


def _metadata(value: Any, request: GatewayRequest) -> None:
    fields = object_of(value, "metadata", ("user_id",))
    if fields.get("user_id") is not None:
        request.set_tag("user", text(fields["user_id"], "metadata.user_id"), "metadata.user_id")


def _output_config(value: Any, request: GatewayRequest) -> None:
    fields = object_of(value, "output_config", ("format", "effort", "task_budget"))
    if fields.get("format") is not None:
        format = object_of(fields["format"], "output_config.format", ("type", "schema"), ("type", "schema"))
        one_of(format["type"], "output_config.format.type", ("json_schema",))
        where = "output_config.format.schema"
        request.set_schema(schema_of(format["schema"], where), where)
    if fields.get("effort") is not None:
        effort = one_of(fields["effort"], "output_config.effort", ("low", "medium", "high", "xhigh", "max"))
        _native(request)["output_config"] = {"effort": effort}
        request.uses.add("output_config.effort")
    if fields.get("task_budget") is not None:
        request.unused.add("output_config.task_budget")


def _temperature(value: Any, request: GatewayRequest) -> None:
    request.temperature = number(value, "temperature", 0, 1)


def _thinking(value: Any, request: GatewayRequest) -> None:
    fields = ("type", "budget_tokens", "display", "block_binding")
    object_of(not_deep(value, "thinking"), "thinking", fields, ("type",))
    kind = one_of(value["type"], "thinking.type", ("enabled", "adaptive", "between_tools", "disabled"))
    if kind == "enabled":
        integer(value.get("budget_tokens"), "thinking.budget_tokens", 1, 10_000_000)
    _native(request)["thinking"] = value
    if kind != "disabled":
        request.uses.add("thinking")


def _context_management(value: Any, request: GatewayRequest) -> None:
    edits = object_of(value, "context_management", ("edits",)).get("edits") or []
    for i, edit in enumerate(list_of(edits, "context_management.edits")):
        where = f"context_management.edits[{i}]"
        kind = object_of(not_deep(edit, where), where, required=("type",))["type"]
        if kind not in _EDITS:
            edit_names = ", ".join(_EDITS)
            raise bad_request(f"{shorten(str(kind))!r} is not supported; only {edit_names}", f"{where}.type", "unsupported")
    _native(request)["context_management"] = value
    request.uses.add("context_management")


def _cache_control(value: Any, request: GatewayRequest) -> None:
    check_cache_control(value, "cache_control")
    _native(request)["cache_control"] = value
    request.uses.add("cache_control")


def _speed(value: Any, request: GatewayRequest) -> None:
    if one_of(value, "speed", ("standard", "fast")) == "fast":
        request.unused.add("speed")


def _service_tier(value: Any, request: GatewayRequest) -> None:
    one_of(value, "service_tier", ("auto", "standard_only"))
    request.unused.add("service_tier")


def _thread(_: Any, __: GatewayRequest) -> None:
    """Conversations that the server keeps. Anthropic's client reads from ``details`` that it is to send every message."""
    message = "thread: the gateway keeps no conversations; send every message"
    details = {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}
    raise ApiError(400, message, param="thread", code="unsupported", extra={"details": details})


_HOSTED = "tools that run at Anthropic are not supported; only tools that the client runs are"

_READERS: Mapping[str, Reader] = {
    "model": model,
    "messages": _messages,
    "system": lambda value, request: None,  # read after the messages, which it precedes
    "max_tokens": max_tokens("max_tokens"),
    "tools": _tools,
    "tool_choice": _tool_choice,
    "stop_sequences": _stop_sequences,
    "temperature": _temperature,
    "top_p": top_p,
    "top_k": option("top_k", lambda v, name: integer(v, name, 0, 1_000_000)),
    "metadata": _metadata,
    "output_config": _output_config,
    "stream": stream,
    "cascade": cascade_fields,
    "thinking": _thinking,
    "context_management": _context_management,
    "cache_control": _cache_control,
    "service_tier": _service_tier,
    "speed": _speed,
    "diagnostics": unused("diagnostics"),
    "fallbacks": unused("fallbacks"),
    "fallback_credit_token": unused("fallback_credit_token"),
    "container": refused("container", _HOSTED, [], {}),
    "mcp_servers": refused("mcp_servers", _HOSTED, [], {}),
    "compaction": refused(
        "compaction", "a summary of the conversation cannot be judged; send the messages themselves", [], {}
    ),
    "thread": _thread,
    "inference_geo": refused("inference_geo", "the operator sets in the policy file where requests are processed", [], {}),
    "billing_policy": refused("billing_policy", "the operator sets which account is billed", [], {}),
}
