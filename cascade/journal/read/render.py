"""Records for people: one line a run, or everything about one."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from cascade.journal.record import Record
from cascade.promise.sampling import is_sampled


def line(r: Record) -> str:
    """A run in one line."""
    took = f"{r.ended - r.started:.2f} s"
    ending = f"{r.reason}" if r.accepted or r.error else f"NOT accepted: {r.reason}"
    if r.error:
        ending = f"{r.error}: {r.reason}"
    where = f"{r.tier} ({r.model})" if r.tier else "-"
    sure = f"{r.confidence:.3f}" if r.confidence is not None else "-"
    tags = " ".join(f"{k}={v}" for k, v in r.tags.items())
    kind = "" if r.kind == "run" else f" [{r.kind}]"
    parts = (when(r.started), r.run_id, r.policy + kind, where, ending, sure, usd(r.cost_usd), took, tags)
    return "  ".join(parts).rstrip()


def when(seconds: float) -> str:
    """UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S.") + f"{int(seconds * 1000) % 1000:03d}Z"


def usd(amount: float | None) -> str:
    """An amount; unknown is said, never shown as 0."""
    return "cost unknown" if amount is None else f"${amount:.6f}"


def page(r: Record) -> Iterator[str]:
    """Everything that a record holds, line by line."""
    yield f"run        {r.run_id}{'' if r.kind == 'run' else f' ({r.kind})'}"
    yield f"time       {when(r.started)} to {when(r.ended)}"
    yield f"policy     {r.policy}  (hash {r.policy_hash})"
    yield f"prompt     SHA-256 {r.prompt_hash}"
    if r.canary is not None:
        yield f"canary     {r.canary} calibration"
    if r.tags:
        yield f"tags       {', '.join(f'{k}={v}' for k, v in r.tags.items())}"
    if r.attempts and "route" in r.attempts[0]:
        yield f"route      routes[{r.attempts[0]['route']}] of the policy"
    yield f"ended      {'accepted' if r.accepted else 'NOT accepted'}, {r.reason}{f', raised {r.error}' if r.error else ''}"
    if r.tier:
        yield f"answer     tier {r.tier}, model {r.model}, confidence {r.confidence:.4f}"
    yield f"cost       {usd(r.cost_usd)}; the last tier alone: {usd(r.premium_usd)} (estimate)"
    yield f"latency    {r.latency_s:.3f} s"
    for graded in r.feedback:
        note = f"  {graded['note']}" if graded["note"] else ""
        yield f"feedback   quality {graded['quality']:g} at {when(graded['at'])}{note}"
    if r.sampling_probability is not None:
        yield f"sampling   probability {r.sampling_probability:.4f}; {_sampling(r)}"
    for shadow in r.shadows:
        yield f"shadow     {_shadow(shadow)}"
    if r.prompt is not None:
        yield ""
        for message in r.prompt["messages"]:
            content = message.get("content")
            text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
            yield f"[{message.get('role')}] {text}"
    for attempt in r.attempts:
        yield ""
        yield from _attempt(attempt)


def _sampling(r: Record) -> str:
    """Whether the run is in the sample of shadowed runs."""
    if not is_sampled(r.run_id, r.sampling_probability or 0.0):
        return "not sampled"
    return f"sampled, to ask: {', '.join(r.shadow_tiers)}" if r.shadow_tiers else "sampled, no tier left to ask"


def _shadow(shadow: Mapping[str, Any]) -> str:
    """One tier that was asked in the background."""
    cost = usd(shadow.get("cost_usd"))
    if shadow["state"] in ("sent", "failed") and "cost_usd" not in shadow:
        cost += f", counted with its estimate of {usd(shadow.get('estimate_usd'))}"
    same = "agrees with the answer returned" if shadow.get("agrees") else "differs from the answer returned"
    agrees = f", {same}" if "agrees" in shadow else ""
    error = f": {shadow['error']}" if "error" in shadow else ""
    return f"tier {shadow['tier']} ({shadow['model']}) {shadow['state']}{error}, {cost}{agrees}"


def _attempt(a: Mapping[str, Any]) -> Iterator[str]:
    yield f"tier {a['tier']}  ({a['model']})  {a['reason']}{': ' + a['error'] if 'error' in a else ''}"
    for call in a["call_log"]:
        usage = call["usage"]
        tokens = f"{usage['input_tokens']} in, {usage['output_tokens']} out" if usage else "usage unknown"
        fault = f"  FAULT {call['fault']}" if "fault" in call else ""
        yield (
            f"  at {call['started_s']:.3f} s  {call['purpose']}: {call['model']} x{call['n']}, {tokens}, "
            f"{usd(call['cost_usd'])}, {call['latency_s']:.3f} s{fault}"
        )
    if a["answered"] and a.get("judged") is False:
        yield f"  no judge scored or vetoed the answer: confidence {a['confidence']:.4f} is the tier's base rate or prior"
    for v in a["verdicts"]:
        score = "veto" if v["veto"] else "cannot tell" if v["score"] is None else f"{v['score']:.4f}"
        details = ", ".join(f"{k}={x}" for k, x in v.get("details", {}).items())
        yield f"  {v['judge']:<18} {score:<12} {v.get('reason', '')}{f'  ({details})' if details else ''}".rstrip()
    for d in a["decisions"]:
        vetoed = ", vetoed" if d["vetoed"] else ""
        yield f"  stage {d['stage']:<12} {d['confidence']:.4f}{vetoed} -> {d['action']}"
    if "answer" in a:
        yield f"  answer: {a['answer']['text']}"
