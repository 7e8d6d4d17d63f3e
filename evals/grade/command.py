"""Grades a recording: answers and samples get a quality in [0, 1] and their grader; ``python -m evals.grade --help``."""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from cascade import CascadeError
from cascade.models.protocol import ModelError
from cascade.util.argument_parser import CommandParser
from cascade.util.broken_pipe import quietly
from evals.common.cost_budget import OutOfMoneyError
from evals.common.progress import Progress
from evals.recording import Example, RecordingError, read, where_stands, write
from judges.reading import split_reasoning
from judges.schema.judge import find_valid_json
from judges.schema.keywords import PatternTimeout, ValidationTimeout

from . import Grader, GraderError, GradingCase, grader, names
from .code import RISK, CodeGrader
from .grade_report import GradeReport, report
from .model import Memory, ModelGrader

CHUNK = 512
_FIXED = ("name", "version", "needs_reference", "waits")
EXAMPLES = """examples:
  python -m evals.grade recording.jsonl --grader number
  python -m evals.grade recording.jsonl --grader text --grader orders=json:credit=fields --grader sums=number:tolerance=0.01
  python -m evals.grade recording.jsonl.gz --grader python:my_project.grading:grade --out graded.jsonl.gz
  python -m evals.grade recording.jsonl --grader model:use=gpt-premium --policy-file policies.yaml --max-usd 2
  python -m evals.grade recording.jsonl --grader model:use=gpt-premium:mode=pairwise:against=gpt-4o
"""


def grade(reference: Any, text: str, kind: str = "text") -> float:
    """The grade of one answer by the grader ``kind``, a specification; 0 if it cannot decide. Raises GraderError."""
    quality = grader(kind).grade(GradingCase(text=text, reference=reference))
    if isinstance(quality, Awaitable):
        raise GraderError(f"{kind} takes its time: grade a recording with it")
    return quality or 0.0


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


def stream(examples: Iterator[Example], job: Job, tally: GradeReport, step: Callable[[], None]) -> Iterator[Example]:
    """The graded examples, a chunk at a time, so that a recording of any length takes the same memory."""
    with asyncio.Runner() as runner:
        try:
            while chunk := list(islice(examples, CHUNK)):
                for example in runner.run(graded(chunk, job, tally)):
                    step()
                    yield example
        finally:
            for one in job.graders():
                if isinstance(one, ModelGrader):
                    runner.run(one.close())


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = CommandParser(
        prog=prog,
        description="Grade the answers and samples of a recording. Graders: " + ", ".join(names()) + ".",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("recording", help="JSON Lines, .gz allowed; replaced as a whole unless --out is given")
    add("--grader", action="append", required=True, metavar="[TASK=]NAME[:OPTION=VALUE]",
        help="for all tasks, or for one; may be given several times")  # fmt: skip
    add("--models", help="only these models' answers, separated by commas")
    add("--regrade", action="store_true", help="also answers that have a grade of the same grader and version")
    add("--out", metavar="FILE", help="write here instead")
    add("--unsafe", action="store_true", help=f"run code also where the kernel gives no walls; {RISK}")
    add("--policy-file", help="where a model grader's model is described (default: the usual search)")
    add("--max-usd", type=float, metavar="X", help="of model graders: stop before they have cost more in this run")
    add("--concurrency", type=int, default=16, help="grades made at once by processes and models (default 16)")
    return parser


def job_of(
    specs: Sequence[str],
    recording: str,
    *,
    policy_file: str | None = None,
    models: Sequence[str] = (),
    regrade: bool = False,
    concurrency: int = 16,
    max_usd: float | None = None,
    unsafe: bool = False,
) -> Job:
    """The job of a command's ``--grader [TASK=]NAME[:OPTION=VALUE]``; model grades are stored next to ``recording``.

    ``unsafe`` lets code graders run answers where there are no walls.

    Raises GraderError.
    """
    if max_usd is not None and not 0.0 <= max_usd < float("inf"):
        raise GraderError(f"--max-usd must be 0 or more, got {max_usd}")
    memory = Memory.open(Path(recording).resolve().parent / ".cascade" / "grades.jsonl", max_usd)
    default: Grader | None = None
    by_task: dict[str, Grader] = {}
    for text in specs:
        task, spec = _task_of(text)
        if task in by_task or (not task and default is not None):
            raise GraderError(f"--grader {text}: a second grader for {f'the task {task}' if task else 'all tasks'}")
        task_grader = grader(spec, policy_file=policy_file, memory=memory)
        if unsafe and isinstance(task_grader, CodeGrader):
            task_grader = replace(task_grader, unsafe=True)
        if task:
            by_task[task] = task_grader
        else:
            default = task_grader
    if concurrency < 1:
        raise GraderError(f"--concurrency must be 1 or more, got {concurrency}")
    return Job(default, by_task, frozenset(models), regrade, concurrency, memory)


def _task_of(text: str) -> tuple[str, str]:
    """``TASK=SPEC`` or ``SPEC``: the task is the part before the first ``=`` that a grader's name follows."""
    if text.partition(":")[0] in names():
        return "", text
    parts = text.split("=")
    for i in range(1, len(parts)):
        spec = "=".join(parts[i:])
        if spec.partition(":")[0] in names():
            return "=".join(parts[:i]), spec
    task, sign, spec = text.partition("=")
    return (task, spec) if sign and ":" not in task else ("", text)


def _survey(path: str, job: Job) -> int:
    """Counts the examples of a recording; this first pass finds its errors before anything is paid.

    Raises GraderError for a task or model that the recording does not contain, and for an unusable reference.
    """
    n = 0
    tasks: set[str] = set()
    models: set[str] = set()
    for example in read(path):
        n += 1
        tasks.add(example.task)
        models.update(example.answers)
        try:
            job.check(example)
        except GraderError as error:
            raise GraderError(f"{where_stands(path, example.id) or path}: {error}") from None
    against = [one.against for one in job.graders() if isinstance(one, ModelGrader) and one.against]
    for kind, requested, recorded in (("task", job.by_task, tasks), ("model", [*job.models, *against], models)):
        if unknown := sorted(set(requested) - recorded):
            raise GraderError(f"the recording has no {kind} {unknown[0]!r}; it has: {', '.join(sorted(recorded))}")
    return n


def main(
    argv: Sequence[str] | None = None, paid: Callable[[float], None] | None = None, *, prog: str = "python -m evals.grade"
) -> int:
    """The command; returns the exit code: 0, 1 where another run is needed to grade the rest, 2 where the input is wrong.

    ``paid`` is called with each cost in USD of a judge model, as soon as it is known.
    """
    args = _parser(prog).parse_args(argv)
    tally = GradeReport()
    try:
        job = job_of(
            args.grader,
            args.recording,
            policy_file=args.policy_file,
            models=[m for m in (args.models or "").split(",") if m],
            regrade=args.regrade,
            concurrency=args.concurrency,
            max_usd=args.max_usd,
            unsafe=args.unsafe,
        )
        if args.unsafe:
            print(f"warning: --unsafe: without walls, {RISK}", file=sys.stderr)
        if paid is not None:
            job.memory.paid = paid
        n = _survey(args.recording, job)
        progress = Progress(n, "grading")
        write(args.out or args.recording, stream(read(args.recording), job, tally, progress.step))
        progress.end()
    except (GraderError, RecordingError, CascadeError, OSError, ValueError) as error:
        print(f"error: {' '.join(str(error).split())}; nothing was written", file=sys.stderr)
        return 2
    print("\n".join([report(tally), *job.memory.report_lines()]))
    return 1 if tally.unfinished else 0


if __name__ == "__main__":
    raise SystemExit(quietly(main))
