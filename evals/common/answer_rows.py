"""An Answer as it stands in a recording, and the parts of a work file put together to a recorded answer."""

from collections.abc import Mapping, Sequence
from typing import Any

from evals.record.checkpoint import ANSWER, SAMPLES, Part
from judges import Answer, TokenLogprob, Usage

_COUNTS = ("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens")


def as_recorded(answer: Answer, usd: float | None, latency_s: float | None) -> dict[str, Any]:
    """The answer with its cost in USD and the seconds it took, None where unknown; fields without a value are left out."""
    told: dict[str, Any] = {"text": answer.text, "quality": None}
    if answer.finish_reason is not None:
        told["finish_reason"] = answer.finish_reason
    if answer.tool_calls:
        told["tool_calls"] = [dict(call) for call in answer.tool_calls]
    if answer.logprobs:
        # Rounding in a server makes a certain token's log-probability come out a hair above 0.
        values = [min(0.0, round(value, 6)) for _, value in answer.logprobs]
        told["logprob"] = round(sum(values) / len(values), 6)
        told["tokens"] = [token for token, _ in answer.logprobs]
        told["token_logprobs"] = values
    elif answer.mean_logprob is not None:
        told["logprob"] = min(0.0, answer.mean_logprob)
    if answer.first_token_top:
        told["first_token_top"] = dict(answer.first_token_top)
    if answer.usage is not None:
        told["usage"] = usage_fields(answer.usage)
    told["cost_usd"] = usd
    told["latency_s"] = None if latency_s is None else round(latency_s, 6)
    return told


def end_of(answer: Answer, logprobs: bool) -> str:
    """What an answer lacks that was paid: ``length``, ``content_filter``, ``empty``, ``unlogged``, or nothing."""
    if answer.finish_reason in ("length", "content_filter"):
        return answer.finish_reason
    if not (answer.text.strip() or answer.tool_calls):
        return "empty"
    return "unlogged" if logprobs and not answer.logprobs and answer.mean_logprob is None else ""


def as_sample(answer: Answer, latency_s: float | None) -> dict[str, Any]:
    """The answer as a further sample; what samples cost stands beside them."""
    told = as_recorded(answer, None, latency_s)
    return {k: v for k, v in told.items() if k in ("text", "quality", "finish_reason", "tool_calls", "latency_s")}


def usage_fields(usage: Usage) -> dict[str, int]:
    """The token counts; those beyond input and output only where they are not 0."""
    counts = {name: getattr(usage, name) for name in _COUNTS}
    return {name: n for name, n in counts.items() if n or name in ("input_tokens", "output_tokens")}


def to_answer(told: Mapping[str, Any], model: str) -> Answer:
    """The recorded answer as a judge sees it, ``model`` the provider's name."""
    values, texts = told.get("token_logprobs"), told.get("tokens") or ()
    usage = told.get("usage")
    return Answer(
        told["text"],
        tool_calls=tuple(told.get("tool_calls") or ()),
        finish_reason=told.get("finish_reason"),
        logprobs=tuple(TokenLogprob(t, v) for t, v in zip(texts, values, strict=True)) if values else None,
        mean_logprob=told.get("logprob"),
        first_token_top=told.get("first_token_top"),
        usage=Usage(**usage) if usage else None,
        model=model,
        cost_usd=told.get("cost_usd"),
        latency_s=told.get("latency_s"),
    )


def assemble(parts: Sequence[Part]) -> dict[str, Any] | None:
    """The recorded answer of these parts, oldest first; None where the answer itself is not among them."""
    answer: dict[str, Any] | None = None
    samples: list[dict[str, Any]] = []
    sampled_usd: float | None = 0.0
    verdicts: dict[str, dict[str, Any]] = {"verdicts": {}, "verdict_cost_usd": {}, "verdict_latency_s": {}}
    for part in parts:
        if not part.count:
            continue
        if part.name == ANSWER:
            answer = dict(part.found)
        elif part.name == SAMPLES:
            samples += part.found["samples"]
            sampled_usd = None if part.usd is None or sampled_usd is None else sampled_usd + part.usd
        elif not part.found.get("veto"):  # a recording has no place for vetoes; the replay's own judge says it again
            # Null where the judge could not tell: a replay need not ask again, and what it cost was paid all the same.
            verdicts["verdicts"][part.name] = part.found["score"]
            verdicts["verdict_cost_usd"][part.name] = part.usd
            verdicts["verdict_latency_s"][part.name] = part.found["latency_s"]
    if answer is None:
        return None
    if samples:
        answer["samples"] = samples
        if sampled_usd is not None:
            answer["sample_cost_usd"] = sampled_usd / len(samples)
    return {**answer, **{name: said for name, said in verdicts.items() if said}}
