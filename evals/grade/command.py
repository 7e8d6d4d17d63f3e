"""Grades a recording: answers and samples get a quality in [0, 1] and their grader; ``python -m evals.grade --help``."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from cascade import CascadeError
from cascade.util.broken_pipe import quietly
from cascade.util.messages import error_line
from evals.common.progress import Progress
from evals.engines import Engine, open_engine
from evals.recording import Example, RecordingError, read, where_stands, write

from . import Grader, GraderError, GradingCase, grader, names
from .arguments import parser
from .code import RISK, CodeGrader
from .grade_report import GradeReport, report
from .job import CHUNK, Job, graded
from .model import Memory, ModelGrader


def grade(reference: Any, text: str, kind: str = "text") -> float:
    """The grade of one answer by the grader ``kind``, a specification; 0 if it cannot decide. Raises GraderError."""
    quality = grader(kind).grade(GradingCase(text=text, reference=reference))
    if isinstance(quality, Awaitable):
        raise GraderError(f"{kind} takes its time: grade a recording with it")
    return quality or 0.0


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


def _survey(path: str, job: Job, engine: Engine | None) -> int:
    """Counts the examples of a recording; this first pass finds its errors before anything is paid.

    Raises GraderError for a task or model that the recording does not contain, and for an unusable reference.
    """
    counts = None
    if engine is not None:
        from .on_engine import survey_blocks

        counts = survey_blocks(path, job, engine)
    n, tasks, models = _read_all(path, job) if counts is None else counts
    against = [one.against for one in job.graders() if isinstance(one, ModelGrader) and one.against]
    for kind, requested, recorded in (("task", job.by_task, tasks), ("model", [*job.models, *against], models)):
        if unknown := sorted(set(requested) - recorded):
            raise GraderError(f"the recording has no {kind} {unknown[0]!r}; it has: {', '.join(sorted(recorded))}")
    return n


def _read_all(path: str, job: Job) -> tuple[int, set[str], set[str]]:
    """The number of examples, the tasks and the models of a recording. Raises GraderError, RecordingError."""
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
    return n, tasks, models


def _write(path: str, out: str, job: Job, engine: Engine | None, tally: GradeReport, progress: Progress) -> None:
    """Writes the graded recording. Raises GraderError, RecordingError, EngineError, OSError."""
    if engine is not None:
        from .on_engine import asks_models, grade_blocks, with_workers

        if not asks_models(job):
            grade_blocks(path, out, job, engine, tally, progress.step)
            return
        job = with_workers(job, engine)
    write(out, stream(read(path), job, tally, progress.step))


def main(
    argv: Sequence[str] | None = None,
    paid: Callable[[float], None] | None = None,
    *,
    prog: str = "python -m evals.grade",
    engine: Engine | None = None,
) -> int:
    """The command; returns the exit code: 0, 1 where another run is needed to grade the rest, 2 where the input is wrong.

    ``paid`` is called with each cost in USD of a judge model, as soon as it is known. ``engine`` is one that is open
    already; by default ``--engine`` says which.
    """
    args = parser(prog).parse_args(argv)
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
            print(f"warning: --unsafe: without isolation, {RISK}", file=sys.stderr)
        if paid is not None:
            job.memory.paid = paid
        with open_engine(args.engine) if engine is None else nullcontext(engine) as engine:
            progress = Progress(_survey(args.recording, job, engine), "grading")
            _write(args.recording, args.out or args.recording, job, engine, tally, progress)
            progress.end()
    except (GraderError, RecordingError, CascadeError, OSError, ValueError) as error:
        print(f"error: {error_line(error)}; nothing was written", file=sys.stderr)
        return 2
    print("\n".join([report(tally), *job.memory.report_lines()]))
    return 1 if tally.unfinished else 0


if __name__ == "__main__":
    raise SystemExit(quietly(main))
