"""Converts a model's answer to its fields in a recording and back, and joins the recorded parts of one answer."""

from collections.abc import Mapping, Sequence
from typing import Any

from cascade.util.totals import plus
from evals.common.types import ANSWER, SAMPLES, Part
from judges import Answer, TokenLogprob, Usage
from judges.reading import read_answer

_COUNTS = (
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
)
_SAMPLE_FIELDS = ("text", "quality", "finish_reason", "tool_calls", "latency_s")


def answer_fields(answer: Answer, usd: float | None, latency_s: float | None) -> dict[str, Any]:
    """The answer as a recording holds it, not graded.

    Args:
        answer: The model's answer.
        usd: Its cost in USD; None where that is unknown.
        latency_s: The seconds it took; None where that is unknown.

    Returns:
        The fields of the recorded answer; those without a value are left out.
    """
    fields: dict[str, Any] = {"text": answer.text, "quality": None}
    if answer.finish_reason is not None:
        fields["finish_reason"] = answer.finish_reason
    if answer.reasoning is not None:
        fields["reasoning"] = answer.reasoning
    if answer.refusal is not None:
        fields["refusal"] = answer.refusal
    if answer.tool_calls:
        fields["tool_calls"] = [dict(call) for call in answer.tool_calls]
    if answer.logprobs:
        # Rounding in a server makes a certain token's log-probability come out a hair above 0.
        values = [min(0.0, round(value, 6)) for _, value in answer.logprobs]
        fields["logprob"] = round(sum(values) / len(values), 6)
        fields["tokens"] = [token for token, _ in answer.logprobs]
        fields["token_logprobs"] = values
    elif answer.mean_logprob is not None:
        fields["logprob"] = min(0.0, answer.mean_logprob)
    if answer.first_token_top:
        fields["first_token_top"] = dict(answer.first_token_top)
    if answer.usage is not None:
        fields["usage"] = usage_fields(answer.usage)
    fields["cost_usd"] = usd
    fields["latency_s"] = None if latency_s is None else round(latency_s, 6)
    return fields


def answer_defect(answer: Answer, logprobs: bool) -> str:
    """The parts that a paid answer lacks.

    Args:
        answer: The model's answer.
        logprobs: Whether token log-probabilities were requested.

    Returns:
        ``length``, ``content_filter``, ``empty``, ``unlogged`` (no log-probabilities), or an empty text.
    """
    if answer.finish_reason in ("length", "content_filter"):
        return answer.finish_reason
    if not (answer.text.strip() or answer.tool_calls):
        return "empty"
    return "unlogged" if logprobs and not answer.logprobs and answer.mean_logprob is None else ""


def sample_fields(answer: Answer, latency_s: float | None) -> dict[str, Any]:
    """The answer as a further sample; the cost of samples is recorded apart, as a mean."""
    fields = answer_fields(answer, None, latency_s)
    return {name: fields[name] for name in _SAMPLE_FIELDS if name in fields}


def usage_fields(usage: Usage) -> dict[str, int]:
    """The token counts; those beyond input and output only where they are not 0."""
    counts = {name: getattr(usage, name) for name in _COUNTS}
    return {name: n for name, n in counts.items() if n or name in ("input_tokens", "output_tokens")}


def to_answer(fields: Mapping[str, Any], model: str) -> Answer:
    """The recorded answer as a judge gets it; ``model`` is the provider's name of the model."""
    values, texts = fields.get("token_logprobs"), fields.get("tokens") or ()
    usage = fields.get("usage")
    answer = Answer(
        fields["text"],
        tool_calls=tuple(fields.get("tool_calls") or ()),
        finish_reason=fields.get("finish_reason"),
        logprobs=tuple(TokenLogprob(t, v) for t, v in zip(texts, values, strict=True)) if values else None,
        mean_logprob=fields.get("logprob"),
        first_token_top=fields.get("first_token_top"),
        usage=Usage(**usage) if usage else None,
        model=model,
        cost_usd=fields.get("cost_usd"),
        latency_s=fields.get("latency_s"),
        reasoning=fields.get("reasoning"),
        refusal=fields.get("refusal"),
    )
    return read_answer(answer)


def join_parts(parts: Sequence[Part]) -> dict[str, Any] | None:
    """Joins the parts of one answer to the recorded answer.

    Args:
        parts: Everything recorded of one row and model, oldest first; failures are passed over.

    Returns:
        The recorded answer with its samples and verdicts; None where the answer itself is not among the parts.
    """
    answer: dict[str, Any] | None = None
    samples: list[dict[str, Any]] = []
    samples_usd: float | None = 0.0
    verdicts: dict[str, dict[str, Any]] = {"verdicts": {}, "verdict_cost_usd": {}, "verdict_latency_s": {}}
    for part in parts:
        if not part.count:
            continue
        if part.name == ANSWER:
            answer = dict(part.content)
        elif part.name == SAMPLES:
            samples += part.content["samples"]
            samples_usd = plus(samples_usd, part.usd)
        elif not part.content.get("veto"):  # a recording has no field for vetoes; a replay computes them again
            # Null where the judge could not tell: a replay need not ask again, and the call was paid for anyway.
            verdicts["verdicts"][part.name] = part.content["score"]
            verdicts["verdict_cost_usd"][part.name] = part.usd
            verdicts["verdict_latency_s"][part.name] = part.content["latency_s"]
    if answer is None:
        return None
    if samples:
        answer["samples"] = samples
        if samples_usd is not None:
            answer["sample_cost_usd"] = samples_usd / len(samples)
    return {**answer, **{name: values for name, values in verdicts.items() if values}}
