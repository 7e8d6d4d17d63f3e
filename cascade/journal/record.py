"""A run as it ended -> its Record: pure, and the only place that says what a record holds."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from math import isfinite
from time import time
from typing import Any, Literal, NamedTuple

from pydantic_core import PydanticSerializationError, to_json

from cascade.engine.outcome import result_of, run_reason
from cascade.engine.plan import CompiledPolicy
from cascade.result import Arm, Attempt, CallRecord, Decision, Result, new_run_id
from cascade.util.totals import total
from judges import Answer, Message, Prompt, Usage, Verdict

from .privacy import Redactor

Kind = Literal["run", "gate"]
Tag = str | int | float | bool
MAX_TAGS, MAX_TAG_NAME, MAX_TAG_TEXT = 16, 64, 256


@dataclass(slots=True)
class PendingRecord:
    """A run that is to be recorded. It is made as the run begins; the engine fills ``attempts``, ``end`` adds the rest.

    Nothing is worked out here, since this is the event loop's part. Times are UTC, in Unix seconds.
    """

    kind: Kind
    policy: str
    compiled: CompiledPolicy
    prompt: Prompt
    tags: Mapping[str, Tag]
    run_id: str = field(default_factory=new_run_id)
    attempts: list[Attempt] = field(default_factory=list)
    started: float = field(default_factory=time)
    ended: float = 0.0
    outcome: Result | BaseException | None = None
    sampling_probability: float | None = None
    shadow_tiers: Sequence[str] = ()
    keeps_text: bool = False
    canary: Arm | None = None

    def end(self, outcome: Result | BaseException) -> None:
        """Sets how the run ended, and the time."""
        self.outcome, self.ended = outcome, time()
        p = self.prompt
        # Copied, since the caller may go on with its messages before they are read.
        self.prompt = Prompt(tuple(map(dict, p.messages)), p.schema, p.tools, p.id, p.tool_choice)


class Record(NamedTuple):
    """One run in the journal.

    ``started`` and ``ended`` are Unix seconds, UTC. ``reason`` is the result's, or for a run that raised the last attempt's,
    "cancelled", or "raised" where a judge's own error ended it; ``error`` is then the exception's class. ``tier``, ``model``
    and ``confidence`` are those of the answer returned. ``cost_usd`` is None where any part has no known price.
    ``premium_usd`` estimates what the last tier alone would have cost: its answer's cost where it was asked, else what a
    recording states, else its price on the usage of the answer returned; None where unknown. ``attempts`` and ``prompt``
    (None without ``journal_text``) are plain data; fields that are absent there are unknown or empty.
    ``sampling_probability`` is that with which the run was to be shadowed, None where its policy shadows none;
    ``shadow_tiers`` are the tiers that a sampled run had to ask in the background, ``shadows`` the outcome.
    ``canary`` says which calibration the run had where its policy had a canary. ``prompt_form`` are the numbers of
    ``cascade.promise.drift.form_features`` where the policy watches for drift.
    """

    run_id: str
    kind: Kind
    started: float
    ended: float
    policy: str
    policy_hash: str
    prompt_hash: str
    accepted: bool
    reason: str
    tier: str | None
    model: str | None
    confidence: float | None
    cost_usd: float | None
    premium_usd: float | None
    latency_s: float
    error: str | None
    tags: Mapping[str, Tag]
    attempts: Sequence[Mapping[str, Any]]
    prompt: Mapping[str, Any] | None = None
    feedback: Sequence[Mapping[str, Any]] = ()
    sampling_probability: float | None = None
    shadow_tiers: Sequence[str] = ()
    shadows: Sequence[Mapping[str, Any]] = ()
    canary: Arm | None = None
    prompt_form: Sequence[float] | None = None


def checked_tags(tags: Mapping[str, Tag]) -> dict[str, Tag]:
    """A copy of the caller's tags. Raises TypeError or ValueError where they are not what a record holds."""
    if len(tags) > MAX_TAGS:
        raise ValueError(f"tags: at most {MAX_TAGS} are kept, got {len(tags)}")
    for name, value in tags.items():
        if not isinstance(name, str) or not isinstance(value, str | int | float | bool):
            raise TypeError(
                f"tags: {name!r}: a tag is a text, a number or a truth value by name, got {type(value).__name__}"
            )
        if not 0 < len(name) <= MAX_TAG_NAME or not plain(name):
            raise ValueError(f"tags: a name has 1 to {MAX_TAG_NAME} printable characters, got {name[:MAX_TAG_NAME]!r}")
        if isinstance(value, str):
            if len(value) > MAX_TAG_TEXT or (value and not plain(value)):
                raise ValueError(f"tags: {name!r}: a text has at most {MAX_TAG_TEXT} printable characters")
        elif not (isfinite(value) if isinstance(value, float) else -(2**63) <= value < 2**63):
            raise ValueError(f"tags: {name!r}: a number must be finite and fit in 64 bits, got {value!r}")
    return dict(tags)


def plain(text: str) -> bool:
    """Whether every database can hold the text: no control characters and no half surrogates."""
    return text.isprintable()


def make(run: PendingRecord, policy_hash: str) -> Record:
    """The record of a run."""
    outcome, attempts = run.outcome, run.attempts
    result = result_of(outcome)
    keep = run.compiled.policy.journal_text or run.keeps_text
    prompt = run.prompt
    tools = prompt.tools
    schema = _schema(prompt.schema)
    reason = run_reason(outcome, attempts)
    # An attempt that was cut short says "deadline", which is not what cut it where the run was cancelled or a judge raised.
    cut = reason if reason in ("cancelled", "raised") else "deadline"
    return Record(
        run_id=run.run_id,
        kind=run.kind,
        started=run.started,
        ended=run.ended,
        policy=run.policy,
        policy_hash=policy_hash,
        prompt_hash=prompt_hash(prompt.messages, schema, tools),
        accepted=result is not None and result.accepted,
        reason=reason,
        tier=result.tier if result is not None else None,
        model=result.model if result is not None else None,
        confidence=result.confidence if result is not None else None,
        cost_usd=result.cost_usd if result is not None else total(a.cost_usd for a in attempts),
        # A gate's answer came from elsewhere.
        premium_usd=None if run.kind == "gate" else run.compiled.premium_usd(run.prompt, attempts, result),
        latency_s=result.latency_s if result is not None else sum(a.latency_s for a in attempts),
        error=None if isinstance(outcome, Result) else type(outcome).__name__,
        tags=run.tags,
        attempts=[_attempt(a, prompt.messages, keep, cut) for a in attempts],
        prompt={"messages": prompt.messages, "schema": schema, "tools": tools} if keep else None,
        sampling_probability=run.sampling_probability,
        shadow_tiers=run.shadow_tiers,
        canary=run.canary,
        prompt_form=_form(prompt) if run.compiled.policy.drift is not None else None,
    )


def _form(prompt: Prompt) -> list[float]:
    from cascade.promise.drift import form_features, text_of

    return [float(f"{value:.4g}") for value in form_features(text_of(prompt.messages))]


def prompt_hash(messages: Sequence[Message], schema: Mapping[str, Any] | None, tools: Sequence[Mapping[str, Any]]) -> str:
    """SHA-256 in hex of the canonical JSON (keys sorted, no spaces, ASCII) of ``{"messages", "schema", "tools"}``."""
    text = _canonical({"messages": messages, "schema": schema, "tools": tools})
    return sha256(text.encode()).hexdigest()


_canonical = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), default=lambda x: dict(x) if isinstance(x, Mapping) else str(x)
).encode


def _schema(schema: Any) -> Mapping[str, Any] | None:
    return schema if schema is None or isinstance(schema, Mapping) else _schema_of_class(schema)


@lru_cache(maxsize=64)
def _schema_of_class(schema: Any) -> Mapping[str, Any]:
    make = getattr(schema, "model_json_schema", None)
    plain_schema: Mapping[str, Any] = make() if make is not None else {"not a schema": type(schema).__name__}
    return plain_schema


def _attempt(a: Attempt, messages: Sequence[Message], keep: bool, cut: str) -> dict[str, Any]:
    answer = a.answer
    redactor = Redactor(messages, _texts(answer), keep=keep)
    entry: dict[str, Any] = {
        "tier": a.tier,
        "model": a.model,
        "reason": cut if a.reason == "deadline" else a.reason,
        "answered": answer is not None,
        "confidence": a.confidence,
        "calibrated": a.calibrated,
        "vetoed": a.vetoed,
        "judged": a.judged,
        "cost_usd": a.cost_usd,
        "judge_cost_usd": a.judge_cost_usd,
        "latency_s": a.latency_s,
        "calls": a.calls,
        "verdicts": [_verdict(v, redactor) for v in a.verdicts],
        "decisions": [_decision(d) for d in a.decisions],
        "call_log": [_call(c, redactor) for c in a.call_log],
    }
    if a.task is not None:
        entry["task"] = a.task
    if a.route is not None:
        entry["route"] = a.route
    if a.min_confidence is not None:
        entry["min_confidence"] = a.min_confidence
    if a.session is not None:
        entry["session"] = a.session
    if a.cluster is not None:
        entry["cluster"] = a.cluster
    if a.error is not None:
        entry["error"] = redactor.prompt_or_answer(a.error)
    if answer is not None:
        if answer.finish_reason is not None:
            entry["finish_reason"] = answer.finish_reason
        if keep:
            entry["answer"] = answer_json(answer)
    return entry


def _texts(answer: Answer | None) -> str:
    """All that the model wrote: a judge's reason may quote its thoughts, too."""
    if answer is None:
        return ""
    return f"{answer.text}\n{answer.reasoning}" if answer.reasoning else answer.text


def _verdict(v: Verdict, redactor: Redactor) -> dict[str, Any]:
    entry: dict[str, Any] = {"judge": v.judge, "score": v.score, "veto": v.veto}
    if v.reason:
        entry["reason"] = redactor.prompt_or_answer(v.reason)
    if v.details:
        entry["details"] = redactor.details(v.details)
    return entry


def _decision(d: Decision) -> dict[str, Any]:
    entry: dict[str, Any] = {"stage": d.stage, "confidence": d.confidence, "vetoed": d.vetoed, "action": d.action.value}
    if d.compared is not None:
        entry["compared"] = d.compared
    return entry


def _call(c: CallRecord, redactor: Redactor) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "model": c.model,
        "purpose": c.purpose,
        "started_s": c.started_s,
        "latency_s": c.latency_s,
        "n": c.n,
        "usage": None if c.usage is None else usage_json(c.usage),
        "cost_usd": c.cost_usd,
    }
    if c.fault is not None:
        entry["fault"], entry["status"] = redactor.prompt_or_answer(c.fault), c.status
    if c.estimated:
        entry["estimated"] = True
    return entry


def usage_json(usage: Usage) -> dict[str, int]:
    """Tokens as a recording states them; kinds with no tokens are left out."""
    entry = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
    for name in ("cached_tokens", "cache_write_tokens", "cache_write_1h_tokens", "reasoning_tokens"):
        if count := getattr(usage, name):
            entry[name] = count
    return entry


def answer_json(answer: Answer) -> dict[str, Any]:
    """The part of an answer that a record with texts contains."""
    entry: dict[str, Any] = {"text": answer.text}
    if answer.reasoning:
        entry["reasoning"] = answer.reasoning
    if answer.tool_calls:
        entry["tool_calls"] = answer.tool_calls
    if answer.logprobs:
        entry["logprob"] = sum(t.logprob for t in answer.logprobs) / len(answer.logprobs)
    elif answer.mean_logprob is not None:
        entry["logprob"] = answer.mean_logprob
    return entry


def dumps(value: Any) -> str:
    """JSON of plain data, in UTF-8 that every database takes; what JSON cannot say becomes null or its text."""
    try:
        return to_json(value, inf_nan_mode="null", fallback=str).decode()
    except (PydanticSerializationError, ValueError):  # half surrogates, bytes that are not UTF-8, circles
        text = json.dumps(value, default=str, skipkeys=True)
        return json.dumps(json.loads(text, parse_constant=lambda _: None))
