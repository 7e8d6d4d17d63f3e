"""Joins two records of one example: each adds the fields that the other lacks; contradictions are errors."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .check import RecordingError
from .format import Example

Note = Callable[[str, str], None]  # what was done, and to which example
Fields = Mapping[str, Any]
QUESTION_FIELDS = ("prompt", "system", "schema", "tools")  # what the models were asked: where it is equal, the question is
# Figures of one run belong together: a second run measures other ones.
_RUNS = (("cost_usd", "usage", "usage_estimated"), ("logprob", "token_logprobs", "tokens", "first_token_top"))
_OF_VERDICTS = ("verdict_cost_usd", "verdict_latency_s")
_NESTED = ("verdicts", *_OF_VERDICTS, "samples", "sample_cost_usd")


class _OtherwiseError(Exception):
    """Two answers that cannot be joined; the message names the contradiction and the remedy."""


def differing(one: Example, two: Example) -> str | None:
    """The name of the field in which two questions differ; None if they are the same question."""
    field_name = next((name for name in QUESTION_FIELDS if getattr(one, name) != getattr(two, name)), None)
    return "system message" if field_name == "system" else field_name


@dataclass(slots=True)
class ByPrompt:
    """Gives examples whose ``fields`` are equal the same id, that of the first, made unique where another has it.

    Memory grows by some 400 bytes an example.
    """

    fields: Sequence[str] = QUESTION_FIELDS
    ids: dict[bytes, str] = field(default_factory=dict)
    used_ids: set[str] = field(default_factory=set)

    def __call__(self, example: Example) -> Example:
        question = json.dumps([getattr(example, name) for name in self.fields], sort_keys=True)
        digest = hashlib.blake2b(question.encode(), digest_size=12)
        if (id := self.ids.get(digest.digest())) is None:
            id = example.id if example.id not in self.used_ids else f"{example.id}-{digest.hexdigest()[:8]}"
            self.ids[digest.digest()] = id
            self.used_ids.add(id)
        return replace(example, id=id)


def joined(one: Example, two: Example, files: tuple[str, str], note: Note) -> Example:
    """The example with the fields of both files.

    Answers of the same text are one: verdicts and samples are united. Of a value measured twice the first file's is used,
    which is reported to ``note``. Raises RecordingError if one id has different questions, where references or splits
    contradict, or one model's answers, qualities or verdicts do.
    """
    first, at = files[0], f"{files[1]}: id {one.id!r}"
    if word := differing(one, two):
        raise RecordingError(f"{at} has another {word} in {first}; give one of them another id")
    for name in ("reference", "split"):
        if None not in (mine := getattr(one, name), other := getattr(two, name)) and mine != other:
            raise RecordingError(f"{at} has another {name} in {first}; correct one of them")
    conflicts = _Conflicts(note, one.id)
    if one.task and two.task and one.task != two.task:
        conflicts.report("task")
    answers = dict(one.answers)
    for model, answer in two.answers.items():
        if model not in answers:
            answers[model] = answer
            continue
        try:
            answers[model] = _answer(answers[model], answer, _Conflicts(note, f"{one.id} of {model}"))
        except _OtherwiseError as error:
            raise RecordingError(f"{at}: the answer of {model!r} {str(error).replace('{first}', first)}") from None
    further = {k: v for k, v in two.raw.items() if k not in ("id", "answers", "reference", "split", "task")}
    return replace(
        one, answers=answers, reference=two.reference if one.reference is None else one.reference,
        split=one.split or two.split, task=one.task or two.task, raw=conflicts.united(one.raw, further),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Conflicts:
    """Joins fields, the first file's taking precedence, and reports those that differ in the second."""

    note: Note
    where: str

    def report(self, name: str) -> None:
        """Reports one field."""
        self.note(f"{name!r} is another in a second file; the first one's was kept", self.where)

    def united(self, one: Fields, two: Fields) -> dict[str, Any]:
        """The fields of both."""
        union = dict(one)
        for name, value in two.items():
            if union.get(name) is None:
                union[name] = value
            elif value is not None and union[name] != value:
                self.report(name)
        return union


def _answer(one: Fields, two: Fields, conflicts: _Conflicts) -> dict[str, Any]:
    if not _same_words(one, two):
        raise _OtherwiseError("is another one in {first}; rename the model in one of them, or take it out")
    if _contradict(one, two, "quality"):
        raise _OtherwiseError("has another quality in {first}; grade both files by one grader before")
    mine, other = dict(one), dict(two)
    # A grade goes with its grader, a figure with the others of its run.
    if two.get("quality") is None:
        other.pop("grader", None)
    elif one.get("quality") is None:
        mine.pop("grader", None)
    for run in _RUNS:
        if any(_contradict(one, two, name) for name in run):
            for name in run:
                if (value := other.pop(name, None)) is not None and value != one.get(name):
                    conflicts.report(name)
    nested = {**_verdicts(one, two, conflicts), **_samples(one, two, conflicts)}
    return conflicts.united({**mine, **nested}, {k: v for k, v in other.items() if k not in _NESTED})


def _same_words(one: Fields, two: Fields) -> bool:
    return all((one.get(name) or None) == (two.get(name) or None) for name in ("text", "tool_calls"))


def _contradict(one: Fields, two: Fields, name: str) -> bool:
    return None not in (one.get(name), two.get(name)) and one[name] != two[name]


def _verdicts(one: Fields, two: Fields, conflicts: _Conflicts) -> dict[str, Any]:
    """Each judge's score, with the cost and time of the file that it was taken from."""
    mine, others = one.get("verdicts") or {}, two.get("verdicts") or {}
    for judge in others:
        if _contradict(mine, others, judge):
            raise _OtherwiseError(f"has another verdict of {judge!r} in {{first}}; take it out of one of them")
    new = {j for j, score in others.items() if j not in mine or (mine[j] is None and score is not None)}
    fields = {"verdicts": conflicts.united(mine, others)}
    for name in _OF_VERDICTS:
        costs = {judge: value for judge, value in (two.get(name) or {}).items() if judge in new}
        fields[name] = {**(one.get(name) or {}), **costs}
    return {name: value for name, value in fields.items() if value}


def _samples(one: Fields, two: Fields, conflicts: _Conflicts) -> dict[str, Any]:
    """The samples of both, those of one run once; the mean of what one cost, where it is known of all."""
    mine, others = one.get("samples") or [], two.get("samples") or []
    if not mine or not others:
        return {name: (one if mine else two).get(name) for name in ("samples", "sample_cost_usd")} if mine or others else {}
    usd, usd_of_others = one.get("sample_cost_usd"), two.get("sample_cost_usd")
    if all(_same_words(s, t) and not _contradict(s, t, "latency_s") for s, t in zip(mine, others, strict=False)):
        # One run, which in one file went on for longer.
        both = [_answer(s, t, conflicts) for s, t in zip(mine, others, strict=False)]
        longer = usd if len(mine) >= len(others) else usd_of_others
        cost = usd_of_others if longer is None and len(mine) == len(others) else longer
        return {"samples": [*both, *mine[len(both) :], *others[len(both) :]], "sample_cost_usd": cost}
    if _timed(mine) & _timed(others):
        raise _OtherwiseError("has samples in {first} that are partly the same; take them out of one of them")
    n, m = len(mine), len(others)
    mean = None if usd is None or usd_of_others is None else (n * usd + m * usd_of_others) / (n + m)
    return {"samples": [*mine, *others], "sample_cost_usd": mean}


def _timed(samples: Sequence[Fields]) -> set[tuple[str, float]]:
    """The identity of a sample: no two take the same time to the microsecond."""
    return {(s["text"], s["latency_s"]) for s in samples if s.get("latency_s") is not None}
