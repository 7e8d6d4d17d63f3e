"""Exports of Langfuse: observations as JSON or JSON Lines, from its user interface, its API or its export to blob storage.

Observations of the type GENERATION are imported. Equal prompts are one example; a model's further answers to it are samples.
"""

from collections.abc import Iterator
from typing import Any

from judges import Answer, Usage

from .base import ImportedAnswer, Options, Skipped, unit_score
from .chat import UnsupportedPartError, decoded, example_of, messages_of, seconds_between
from .fields import MOST, Field
from .records import read_each, records
from .replies import reply_of

READS = "read are Langfuse's observations, exported as JSON or JSONL"


def items(path: str, options: Options) -> Iterator[ImportedAnswer | Skipped]:
    """Every observation of an export. Raises RecordingError, OSError."""
    return read_each(records(path, READS), lambda row: [of_observation(row, options)], options.max_bad)


def of_observation(row: Field, options: Options) -> ImportedAnswer | Skipped:
    """The answer of one generation."""
    where = f"{row.where}: {row.need('id', str).value}"
    kind = row.value_of("type", str)
    if kind is not None and kind.upper() != "GENERATION":
        return Skipped(where, f"no generation (type {kind})")
    if row.value_of("level", str) == "ERROR":
        return Skipped(where, "the request failed")
    model = _first(row, "providedModelName", "provided_model_name", "model")
    if not isinstance(model, str) or not model:
        return Skipped(where, "no model is named")
    sent = decoded(row.value.get("input"))
    try:
        messages, reply = messages_of(sent), reply_of(row.value.get("output"))
    except UnsupportedPartError as unsupported:
        return Skipped(where, f"a message has a part of the type {unsupported}, which no prompt of a recording can hold")
    if not messages or reply is None:
        return Skipped(where, "it has no input or no output")
    times = (_first(row, "startTime", "start_time"), _first(row, "endTime", "end_time"))
    latency = seconds_between(*times)
    answer = Answer(
        reply.text,
        tool_calls=reply.tool_calls,
        reasoning=reply.reasoning,
        refusal=reply.refusal,
        finish_reason=reply.finish_reason,
        usage=_usage(row),
        model=model,
        cost_usd=_cost(row),
        latency_s=_number(row.value.get("latency")) if latency is None else latency,
    )
    quality, notes = _quality(row, options)
    example = example_of(messages, sent.get("tools") if isinstance(sent, dict) else None)
    return ImportedAnswer(example, model, answer, quality, notes=notes)


def _first(row: Field, *names: str) -> Any:
    return next((row.value[name] for name in names if row.value.get(name) is not None), None)


def _number(value: Any) -> float | None:
    """A number of 0 or more, also one that is written as text, as in exports of decimals."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= MOST else None


def _usage(row: Field) -> Usage | None:
    details = decoded(_first(row, "usageDetails", "usage_details", "usage"))
    if not isinstance(details, dict):
        return None
    counts = {name: number for name, value in details.items() if (number := _number(value)) is not None}
    # The tokens of a provider's cache are counted apart from ``input``.
    sent = [number for name, number in counts.items() if name.startswith(("input", "promptTokens"))]
    answered = [number for name, number in counts.items() if name.startswith(("output", "completionTokens"))]
    if not sent or not answered or not sum(sent) + sum(answered):
        return None
    cached = sum(number for name, number in counts.items() if name.startswith("input_cache") and "creation" not in name)
    return Usage(int(sum(sent)), int(sum(answered)), cached_tokens=int(cached))


def _cost(row: Field) -> float | None:
    usd = _number(_first(row, "totalCost", "total_cost", "calculatedTotalCost"))
    details = decoded(_first(row, "costDetails", "cost_details"))
    if usd is None and isinstance(details, dict):
        usd = _number(details.get("total"))
    return usd or None  # 0 where Langfuse knows no price of the model


def _quality(row: Field, options: Options) -> tuple[float | None, tuple[str, ...]]:
    scores = decoded(row.value.get("scores"))
    if options.score is None or not isinstance(scores, dict):
        return None, ()
    value = scores.get(options.score)
    quality = unit_score(value[0] if isinstance(value, list) and value else value)
    return quality, () if quality is not None else (f"no quality: no score {options.score!r} in [0, 1]",)
