"""Spans of the OpenTelemetry GenAI conventions: OTLP as JSON or JSON Lines, or spans as the console exporter prints them.

The content is in ``gen_ai.input.messages`` and ``gen_ai.output.messages``, in OpenLLMetry's ``gen_ai.prompt.N.content``
or in span events; it must have been captured. Equal prompts are one example; a model's further answers to it are samples.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from evals.recording import RecordingError
from judges import Answer, Usage

from .base import ImportedAnswer, Options, Skipped
from .chat import UnsupportedPartError, decoded, example_of, messages_of, seconds_between
from .fields import Field
from .records import read_each, records
from .replies import Reply, reply_of

READS = "read are OTLP/JSON traces (resourceSpans), and spans with their attributes"
_OPERATIONS = ("chat", "text_completion", "generate_content", "completion")
_FINISH = {"tool_call": "tool_calls", "end_turn": "stop", "max_tokens": "length"}
_ERROR_STATUS = (2, "2", "ERROR", "STATUS_CODE_ERROR")
Attributes = Mapping[str, Any]


def items(path: str, options: Options) -> Iterator[ImportedAnswer | Skipped]:
    """Every span of a file. Raises RecordingError, OSError."""
    return read_each(_spans(path), lambda span: [of_span(span)], options.max_bad)


def _spans(path: str) -> Iterator[Field | RecordingError]:
    for record in records(path, READS, ("spans",)):
        if isinstance(record, RecordingError):
            yield record
            continue
        try:
            yield from list(_inner(record))
        except RecordingError as error:
            yield error


def _inner(record: Field) -> Iterator[Field]:
    """The spans of an OTLP request; a span itself."""
    resources = record.get("resourceSpans", list) or record.get("resource_spans", list)
    if resources is None:
        yield record
        return
    for resource in resources.items():
        scopes = resource.get("scopeSpans", list) or resource.get("scope_spans", list)
        for scope in scopes.items() if scopes is not None else ():
            spans = scope.get("spans", list)
            yield from spans.items() if spans is not None else ()


def attributes_of(value: Any) -> dict[str, Any]:
    """Attributes by name: of OTLP's list of key and value, or of an object."""
    if isinstance(value, Mapping):
        return dict(value)
    pairs = [pair for pair in value if isinstance(pair, Mapping) and "key" in pair] if isinstance(value, list) else []
    return {str(pair["key"]): _any_value(pair.get("value")) for pair in pairs}


def _any_value(value: Any) -> Any:
    """OTLP's AnyValue: an object with one field that names the type."""
    if not isinstance(value, Mapping) or len(value) != 1:
        return value
    (kind, inner), *_ = value.items()
    match kind:
        case "intValue":
            return int(inner) if isinstance(inner, str) and inner.lstrip("-").isdecimal() else inner
        case "arrayValue":
            return [_any_value(v) for v in inner.get("values") or []] if isinstance(inner, Mapping) else []
        case "kvlistValue":
            return attributes_of(inner.get("values")) if isinstance(inner, Mapping) else {}
    return inner


def of_span(span: Field) -> ImportedAnswer | Skipped:
    """The answer of one model call."""
    attributes = attributes_of(span.value.get("attributes") if isinstance(span.value, dict) else None)
    context = decoded(span.value.get("context"))
    own = span.value.get("spanId") or (context.get("span_id") if isinstance(context, Mapping) else None) or "no id"
    where = f"{span.where}: span {own}"
    model = attributes.get("gen_ai.request.model") or attributes.get("gen_ai.response.model")
    operation = attributes.get("gen_ai.operation.name")
    if not isinstance(model, str) or (operation is not None and operation not in _OPERATIONS):
        return Skipped(where, "no call of a chat model")
    status = span.value.get("status")
    code = status.get("code", status.get("status_code")) if isinstance(status, Mapping) else None
    if code in _ERROR_STATUS or "error.type" in attributes:
        return Skipped(where, "the request failed")
    try:
        messages, reply = _content(span, attributes)
    except UnsupportedPartError as unsupported:
        return Skipped(where, f"a message has a part of the type {unsupported}, which no prompt of a recording can hold")
    if not messages or reply is None:
        return Skipped(where, "the content was not captured; see your instrumentation's option to capture messages")
    finish = reply.finish_reason or next(iter(_list(attributes.get("gen_ai.response.finish_reasons"))), None)
    answer = Answer(
        reply.text,
        tool_calls=reply.tool_calls,
        reasoning=reply.reasoning,
        refusal=reply.refusal,
        finish_reason=_FINISH.get(finish, finish) if isinstance(finish, str) else None,
        usage=_usage(attributes),
        model=model,
        latency_s=_latency(span),
    )
    provider = attributes.get("gen_ai.provider.name", attributes.get("gen_ai.system"))
    price_provider = provider if provider in ("openai", "anthropic") else None
    tools = decoded(attributes.get("gen_ai.tool.definitions")) or _numbered_tools(attributes)
    return ImportedAnswer(example_of(messages, tools), model, answer, provider=price_provider)


def _list(value: Any) -> list[Any]:
    value = decoded(value)
    return value if isinstance(value, list) else []


def _content(span: Field, attributes: Attributes) -> tuple[list[dict[str, Any]], Reply | None]:
    """Prompt and answer, by the newest convention that the span follows."""
    events = [(str(e.get("name")), attributes_of(e.get("attributes"))) for e in _list(span.value.get("events"))
              if isinstance(e, Mapping)]  # fmt: skip
    for source in (attributes, *(fields for _, fields in events)):
        if "gen_ai.input.messages" in source:
            system = _list(source.get("gen_ai.system_instructions"))
            head = messages_of([{"role": "system", "parts": system}]) if system else []
            return [*head, *messages_of(source["gen_ai.input.messages"])], reply_of(source.get("gen_ai.output.messages"))
    if "gen_ai.prompt.0.content" in attributes or "gen_ai.prompt.0.role" in attributes:
        return messages_of(_numbered(attributes, "gen_ai.prompt")), reply_of(_numbered(attributes, "gen_ai.completion"))
    messages: list[dict[str, Any]] = []
    reply: Reply | None = None
    for name, fields in events:
        content = decoded(fields.get("gen_ai.event.content"))
        body = content if isinstance(content, Mapping) else fields
        if name == "gen_ai.choice":
            reply = reply or reply_of(decoded(body.get("message", body)))
        elif name.startswith("gen_ai.") and name.endswith(".message"):
            messages += messages_of([{"role": name.split(".")[1], **body}])
        elif name == "gen_ai.content.prompt":
            messages = messages_of(fields.get("gen_ai.prompt"))
        elif name == "gen_ai.content.completion":
            reply = reply_of(fields.get("gen_ai.completion"))
    return messages, reply


def _numbered(attributes: Attributes, prefix: str) -> list[dict[str, Any]]:
    """OpenLLMetry's messages: ``gen_ai.prompt.0.role``, ``gen_ai.prompt.0.content``, ..."""
    messages: list[dict[str, Any]] = []
    while any(f"{prefix}.{len(messages)}.{name}" in attributes for name in ("role", "content", "finish_reason")):
        at = f"{prefix}.{len(messages)}"
        message = {
            "role": attributes.get(f"{at}.role", "assistant"),
            "content": decoded_parts(attributes.get(f"{at}.content")),
        }
        for name in ("finish_reason", "tool_call_id", "reasoning", "reasoning_content", "refusal"):
            if value := attributes.get(f"{at}.{name}"):
                message[name] = value
        if calls := _numbered_calls(attributes, f"{at}.tool_calls"):
            message["tool_calls"] = calls
        messages.append(message)
    return messages


def _numbered_calls(attributes: Attributes, prefix: str) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []
    while name := attributes.get(f"{prefix}.{len(calls)}.name"):
        at = f"{prefix}.{len(calls)}"
        calls.append({"name": name, "id": attributes.get(f"{at}.id"), "arguments": attributes.get(f"{at}.arguments")})
    return calls


def _numbered_tools(attributes: Attributes) -> list[dict[str, Any]] | None:
    """OpenLLMetry's tools: ``llm.request.functions.0.name``, ``.description``, ``.parameters``."""
    tools: list[dict[str, Any]] = []
    while name := attributes.get(f"llm.request.functions.{len(tools)}.name"):
        at = f"llm.request.functions.{len(tools)}"
        function = {"name": name, "description": attributes.get(f"{at}.description") or ""}
        parameters = decoded(attributes.get(f"{at}.parameters"))
        if isinstance(parameters, Mapping):
            function["parameters"] = parameters
        tools.append({"type": "function", "function": function})
    return tools or None


def decoded_parts(content: Any) -> Any:
    """A content of several parts, which is logged as JSON text; any other text as it is."""
    parts = decoded(content)
    typed = isinstance(parts, list) and parts and all(isinstance(p, Mapping) and "type" in p for p in parts)
    return parts if typed else content


def _usage(attributes: Attributes) -> Usage | None:
    def count(*names: str) -> int | None:
        values = (attributes.get(f"gen_ai.usage.{name}") for name in names)
        return next((v for v in values if isinstance(v, int) and not isinstance(v, bool) and v >= 0), None)

    sent, answered = count("input_tokens", "prompt_tokens"), count("output_tokens", "completion_tokens")
    if sent is None or answered is None:
        return None
    return Usage(
        sent,
        answered,
        cached_tokens=count("cache_read.input_tokens", "cache_read_input_tokens") or 0,
        cache_write_tokens=count("cache_creation.input_tokens", "cache_creation_input_tokens") or 0,
        reasoning_tokens=count("reasoning.output_tokens", "reasoning_tokens") or 0,
    )


def _latency(span: Field) -> float | None:
    """Seconds: OTLP counts nanoseconds, as text; the console exporter prints ISO times."""
    times = []
    for name, other in (("startTimeUnixNano", "start_time"), ("endTimeUnixNano", "end_time")):
        nanos = span.value.get(name)
        is_number = isinstance(nanos, int) or (isinstance(nanos, str) and nanos.isdecimal() and len(nanos) < 25)
        times.append(int(nanos) / 1e9 if is_number else span.value.get(other))
    return seconds_between(*times)
