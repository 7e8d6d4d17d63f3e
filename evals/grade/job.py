"""Which grader grades which answers of an example, and the grades."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, replace
from typing import Any

from cascade.models.protocol import ModelError
from evals.common.cost_budget import OutOfMoneyError
from evals.recording import Example
from judges.reading import split_reasoning
from judges.schema import find_valid_json
from judges.schema.keywords import PatternTimeout, ValidationTimeout

from .grade_report import GradeReport
from .model import Memory
from .protocol import Grader, GraderError, GradingCase

CHUNK = 512
"""Examples that are graded at once."""
_FIXED = ("name", "version", "needs_reference", "waits")


def label(one: Grader) -> str:
    """The grader label stored with an answer: name, non-default options and version."""
    declared: tuple[Field[Any], ...] = fields(one) if is_dataclass(one) else ()
    own = [f for f in declared if f.name not in _FIXED and f.default is not MISSING and getattr(one, f.name) != f.default]
    return f"{one.name}{''.join(f':{f.name}={getattr(one, f.name)}' for f in own)}@{one.version}"


@dataclass(frozen=True, slots=True)
class Job:
    """Which grader grades which task (``by_task``, else ``default``), which ``models`` (all where empty), what is redone.

    ``memory`` caches the grades of judge models and counts their cost.
    """

    default: Grader | None
    by_task: Mapping[str, Grader] = field(default_factory=dict)
    models: frozenset[str] = frozenset()
    regrade: bool = False
    concurrency: int = 16
    memory: Memory = field(default_factory=Memory)

    def of(self, task: str) -> Grader | None:
        """The grader of a task's answers, if any."""
        return self.by_task.get(task, self.default)

    def check(self, example: Example) -> None:
        """Raises GraderError if the example's reference cannot be used, before anything is run or paid for."""
        one = self.of(example.task)
        if one is not None and example.reference is not None:
            one.check(example.reference)

    def graders(self) -> list[Grader]:
        """Every grader of the job."""
        return [one for one in (self.default, *self.by_task.values()) if one is not None]


async def graded(examples: Sequence[Example], job: Job, tally: GradeReport) -> list[Example]:
    """The examples with their answers graded. Raises GraderError, naming the example, if a reference cannot be used."""
    gate = asyncio.Semaphore(job.concurrency)
    return list(await asyncio.gather(*(_example(e, job, tally, gate) for e in examples)))


class _Unfinished(Exception):
    """An answer cannot be graded now; it stays unchanged."""


async def _example(example: Example, job: Job, tally: GradeReport, gate: asyncio.Semaphore) -> Example:
    one = job.of(example.task)
    answers = dict(example.answers)
    texts = {model: returned_text(str(a["text"]), example.schema) for model, a in answers.items()}
    for model, answer in example.answers.items():
        if job.models and model not in job.models:
            continue
        if one is None:
            tally.miss(f"no grader for the task {example.task!r}", example.id)
            continue
        if _has(answer, label(one)) and not job.regrade:
            tally.unchanged += 1
            tally.qualities[model, example.task].append(answer["quality"])
            continue
        if example.reference is None and one.needs_reference:
            tally.miss("no reference", example.id)
            continue
        parts = [answer, *(answer.get("samples") or ())]
        try:
            qualities = [await _quality(one, example, part, texts, tally, gate) for part in parts]
        except _Unfinished:
            continue
        graded = {**answer, "quality": qualities[0], "grader": label(one)}
        if len(parts) > 1:
            graded["samples"] = [{**s, "quality": q} for s, q in zip(parts[1:], qualities[1:], strict=True)]
        if qualities[0] is not None:
            tally.qualities[model, example.task].append(qualities[0])
        answers[model] = graded
    return replace(example, answers=answers)


def returned_text(text: str, schema: Any) -> str:
    """What a cascade returns of a recorded answer: no reasoning and, with a schema, the valid JSON in it alone."""
    answer = split_reasoning(text).answer
    if schema is None:
        return answer
    try:
        match, _, errors = find_valid_json(answer, schema)
    except (ValueError, RecursionError, OverflowError, PatternTimeout, ValidationTimeout):
        return answer
    return answer if errors else match.text


def _has(answer: Mapping[str, Any], grader: str) -> bool:
    """Whether the answer and all its samples (some may be newer) have this grader's grade."""
    parts = (answer, *(answer.get("samples") or ()))
    return answer.get("grader") == grader and all(part.get("quality") is not None for part in parts)


async def _quality(
    one: Grader,
    example: Example,
    part: Mapping[str, Any],
    others: Mapping[str, str],
    tally: GradeReport,
    gate: asyncio.Semaphore,
) -> float | None:
    case = GradingCase(
        text=returned_text(str(part["text"]), example.schema),
        reference=example.reference,
        prompt=example.to_prompt(),
        others=others,
        tool_calls=tuple(part.get("tool_calls") or ()),
    )
    try:
        async with gate:
            result = await asyncio.to_thread(one.grade, case) if one.waits else one.grade(case)
            quality = await result if isinstance(result, Awaitable) else result
    except GraderError as error:
        raise GraderError(f"example {example.id!r}: {error}") from None
    except (ModelError, OutOfMoneyError) as error:
        spent = isinstance(error, OutOfMoneyError)
        tally.miss("--max-usd would be passed" if spent else f"the judge model failed ({error})", example.id)
        tally.unfinished += 1
        raise _Unfinished from None
    if quality is None:
        tally.miss("the grader cannot tell", example.id)
    return quality
