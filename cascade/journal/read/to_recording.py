"""Records with text -> a recording, so that thresholds are tuned on what production saw.

Runs of the same prompt become one example, with the answers of all the models that they asked: so runs that were shadowed by
another policy's give a recording of several models. A sampled run that was shadowed is an example of its own, complete and
with its sampling probability: the traffic's own prompts, in a known proportion.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cascade.journal.record import Record
from cascade.promise.sampling import is_sampled
from cascade.result import NOT_ASKED
from cascade.util.totals import plus


@dataclass(slots=True)
class _Group:
    """All runs of one prompt.

    ``quality`` is the last feedback on an answer, by the answer's text. ``escalated``: whether a run called further tiers
    because it was unsure. ``probability``: with which the prompt was drawn to be answered by further models.
    """

    prompt: Mapping[str, Any]
    task: str
    escalated: bool = False
    probability: float | None = None
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    quality: dict[str, tuple[float, float]] = field(default_factory=dict)


PROBABILITY_TAG = "sampling_probability"
"""The tag of a run that was made because its prompt was drawn at random, with this probability, to be asked again."""


def as_recording(
    records: Iterable[Record], *, complete: bool = False, task_tag: str | None = None
) -> Iterator[Mapping[str, Any]]:
    """The lines of a recording, in the order in which the prompts were first asked; records without text are left out.

    A sampled run whose shadow requests are all done, or that had none to make, becomes a line with all of its answers and
    ``sampling_probability``, and enters no other line; its ``id`` is the run's.

    Another line's ``id`` is the beginning of the prompt's hash. Feedback grades the answer that was returned, and every
    other answer to the same prompt with just the same text; of several answers of one model the graded one is kept, else the
    last. ``escalated`` marks lines whose further answers are there because a run was unsure: they are not a sample of the
    traffic where others were left out, whose number is then ``incomplete_left_out``. ``sampling_probability`` is there where
    a run's tag of that name states it. All of the records are held in memory at once.

    Args:
        records: The records.
        complete: Whether to leave out prompts that some model of the records did not answer.
        task_tag: The tag that names a line's ``task``; where a run has none, or by default, it is the policy.
    """
    shadowing: dict[str, bool] = {}
    groups: dict[str, _Group] = {}
    for record in records:
        if record.kind != "run":
            continue
        line = _sampled(record, task_tag)
        if record.shadow_tiers:
            shadowing[record.policy] = line is not None
        # A run that premium answered needs no shadow: without this, a pause of shadowing would leave such runs alone.
        if line is not None and shadowing.get(record.policy, True):
            yield line
            continue
        if record.prompt is None:
            continue
        group = groups.get(record.prompt_hash)
        if group is None:
            group = groups[record.prompt_hash] = _Group(record.prompt, _task(record, task_tag))
        group.escalated |= sum(a["reason"] not in NOT_ASKED for a in record.attempts) > 1
        probability = record.tags.get(PROBABILITY_TAG)
        if isinstance(probability, float | int) and 0 < probability <= 1:
            group.probability = float(probability)
        for attempt in record.attempts:
            if "answer" not in attempt:
                continue
            answer = _answer(attempt)
            graded = attempt["tier"] == record.tier and record.feedback
            if graded:
                last = record.feedback[-1]
                before = group.quality.get(answer["text"])
                if before is None or last["at"] >= before[1]:
                    group.quality[answer["text"]] = (last["quality"], last["at"])
            previous = group.answers.get(attempt["model"])
            if previous is None or graded or previous["text"] not in group.quality:
                group.answers[attempt["model"]] = answer
    models = {model for group in groups.values() for model in group.answers}
    left_out = sum(0 < len(group.answers) < len(models) for group in groups.values()) if complete else 0
    for hash, group in groups.items():
        if not group.answers or (complete and group.answers.keys() < models):
            continue
        answers = {
            model: {**answer, "quality": group.quality.get(answer["text"], (None,))[0]}
            for model, answer in group.answers.items()
        }
        line = {"id": hash[:24], "task": group.task, "prompt": group.prompt["messages"], "answers": answers}
        if group.escalated:
            line["escalated"] = True
            if left_out:
                line["incomplete_left_out"] = left_out
        if group.probability is not None:
            line["sampling_probability"] = group.probability
        for name in ("schema", "tools"):
            if group.prompt.get(name):
                line[name] = group.prompt[name]
        yield line


def _task(record: Record, tag: str | None) -> str:
    """The tag's value, else the policy; ``policy/tier`` counts as the policy."""
    if tag is not None and tag in record.tags:
        return str(record.tags[tag])
    policy, slash, tier = record.policy.rpartition("/")
    single_tier = slash and policy and all(attempt["tier"] == tier for attempt in record.attempts)
    return policy if single_tier else record.policy


def _sampled(record: Record, task_tag: str | None) -> Mapping[str, Any] | None:
    """The line of a sampled run that has all of its answers, with text; None for any other run."""
    probability = record.sampling_probability
    if probability is None or not is_sampled(record.run_id, probability):
        return None
    prompt = record.prompt
    done = {shadow["tier"] for shadow in record.shadows if shadow["state"] == "done" and "answer" in shadow}
    if prompt is None or not done.issuperset(record.shadow_tiers):
        return None
    answers = {attempt["model"]: _answer(attempt) for attempt in record.attempts if "answer" in attempt}
    if record.feedback:
        for attempt in record.attempts:
            if attempt["tier"] == record.tier and "answer" in attempt:
                answers[attempt["model"]]["quality"] = record.feedback[-1]["quality"]
    for shadow in record.shadows:
        answers[shadow["answer"].get("model") or shadow["model"]] = _shadow_answer(shadow)
    line = {"id": record.run_id, "task": _task(record, task_tag), "prompt": prompt["messages"], "answers": answers}
    for name in ("schema", "tools"):
        if prompt.get(name):
            line[name] = prompt[name]
    return {**line, "sampling_probability": probability}


def _shadow_answer(shadow: Mapping[str, Any]) -> dict[str, Any]:
    """A shadow's answer as a recording states it."""
    row: dict[str, Any] = {"quality": None, "cost_usd": shadow.get("cost_usd"), **shadow["answer"]}
    row.pop("model", None)
    if "logprob" in row:
        row["logprob"] = min(0.0, row["logprob"])
    return row


def _answer(attempt: Mapping[str, Any]) -> dict[str, Any]:
    """An attempt's answer in a recording's form. Its cost excludes its judges', which are recorded with their verdicts."""
    text, calls = attempt["answer"], [c for c in attempt["call_log"] if "fault" not in c]
    own = [c for c in calls if c["purpose"] == "answer"]
    row: dict[str, Any] = {"text": text["text"], "quality": None}
    if own:
        row["cost_usd"], row["latency_s"] = own[-1]["cost_usd"], own[-1]["latency_s"]
        if own[-1]["usage"] is not None:
            row["usage"] = own[-1]["usage"]
    for name in ("reasoning", "tool_calls", "logprob"):
        if name in text:
            row[name] = text[name]
    if "logprob" in row:
        row["logprob"] = min(0.0, row["logprob"])
    if "finish_reason" in attempt:
        row["finish_reason"] = attempt["finish_reason"]
    # Scores hold for the answer that was returned: a judge that put another in its place scored just that one.
    scores = {v["judge"]: v["score"] for v in attempt["verdicts"] if v["score"] is not None}
    if scores:
        row["verdicts"] = scores
    costs: dict[str, float | None] = {}
    for call in calls:
        if call["purpose"] in scores:
            costs[call["purpose"]] = plus(costs.get(call["purpose"], 0.0), call["cost_usd"])
    if known_costs := {judge: usd for judge, usd in costs.items() if usd is not None}:
        row["verdict_cost_usd"] = known_costs
    return row
