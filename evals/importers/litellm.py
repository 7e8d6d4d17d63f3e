"""Spend logs of LiteLLM's proxy: rows of LiteLLM_SpendLogs as JSON or JSON Lines, or the payloads of its logging callbacks.

Prompts and answers are stored only with ``store_prompts_in_spend_logs``. Equal prompts are one example; a model's further
answers to it are samples. A spend of 0 is unknown: LiteLLM writes 0 where it knows no price.
"""

from collections.abc import Iterator
from typing import Any

from judges import Answer, Usage

from .base import ImportedAnswer, Options, Skipped
from .chat import UnsupportedPartError, decoded, example_of, messages_of, seconds_between
from .fields import NUMBER, Field
from .records import read_each, records
from .replies import reply_of

READS = "read are rows of LiteLLM_SpendLogs, as /spend/logs returns them, and the payloads of LiteLLM's logging callbacks"
_CALLS = (
    "completion",
    "acompletion",
    "text_completion",
    "atext_completion",
    "anthropic_messages",
    "responses",
    "aresponses",
)


def items(path: str, options: Options) -> Iterator[ImportedAnswer | Skipped]:
    """Every request of a log. Raises RecordingError, OSError."""
    return read_each(records(path, READS), lambda row: [of_row(row)], options.max_bad)


def of_row(row: Field) -> ImportedAnswer | Skipped:
    """The answer to one request."""
    id = row.value_of("request_id", str) or row.value_of("id", str) or "no id"
    where = f"{row.where}: {id}"
    call = row.value_of("call_type", str)
    if call and call not in _CALLS:
        return Skipped(where, f"no chat (call_type {call})")
    if row.value_of("status", str) == "failure" or row.value_of("error_str", str):
        return Skipped(where, "the request failed")
    sent = decoded(row.value.get("proxy_server_request"))
    sent = sent if isinstance(sent, dict) else {}
    try:
        messages = messages_of(row.value.get("messages")) or messages_of(sent)
        reply = reply_of(row.value.get("response") or None)
    except UnsupportedPartError as unsupported:
        return Skipped(where, f"a message has a part of the type {unsupported}, which no prompt of a recording can hold")
    if not messages or reply is None:
        return Skipped(where, "the prompt or the answer was not stored; store_prompts_in_spend_logs stores them")
    model = row.need("model", str).value
    cached = str(row.value.get("cache_hit")).lower() == "true"
    name = "spend" if "spend" in row.value else "response_cost"
    usd = row.value_of(name, *NUMBER, low=0) or None
    notes = ("answered from LiteLLM's cache: cost and time are unknown",) if cached else ()
    answer = Answer(
        reply.text,
        tool_calls=reply.tool_calls,
        reasoning=reply.reasoning,
        refusal=reply.refusal,
        finish_reason=reply.finish_reason,
        usage=_usage(row),
        model=model,
        cost_usd=None if cached else usd,
        latency_s=None if cached else seconds_between(row.value.get("startTime"), row.value.get("endTime")),
    )
    example = example_of(messages, sent.get("tools"))
    return ImportedAnswer(example, model, answer, provider=None, notes=notes)


def _usage(row: Field) -> Usage | None:
    counts: list[Any] = [row.value_of(name, int, low=0) for name in ("prompt_tokens", "completion_tokens")]
    return None if None in counts or not any(counts) else Usage(*counts)
