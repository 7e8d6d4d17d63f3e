"""Grades a recording: answers and samples get a quality in [0, 1] and their grader; ``python -m evals.grade --help``."""

import argparse
import asyncio
import sys
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from cascade import CascadeError
from cascade.models.model import ModelError
from cascade.quiet import quietly
from evals.graders import Case, Grader, GraderError, grader, names
from evals.graders.model import ModelGrader
from evals.metrics import wilson
from evals.progress import Progress
from evals.recording import Example, RecordingError, read, write

CHUNK = 512
_FIXED = ("name", "version", "needs_reference", "waits")
EXAMPLES = """examples:
  python -m evals.grade recording.jsonl --grader number
  python -m evals.grade recording.jsonl --grader text --grader orders=json:credit=fields --grader sums=number:tolerance=0.01
  python -m evals.grade recording.jsonl.gz --grader python:my_project.grading:grade --out graded.jsonl.gz
  python -m evals.grade recording.jsonl --grader model:use=gpt-premium --policy-file policies.yaml
  python -m evals.grade recording.jsonl --grader model:use=gpt-premium:mode=pairwise:against=gpt-4o
"""


def grade(reference: Any, text: str, kind: str = "text") -> float:
    """The grade of one answer by the grader ``kind``, a specification; 0 where it cannot tell. Raises GraderError."""
    given = grader(kind).grade(Case(text=text, reference=reference))
    if isinstance(given, Awaitable):
        raise GraderError(f"{kind} takes its time: grade a recording with it")
    return given or 0.0


def label(one: Grader) -> str:
    """What a graded answer keeps: the grader's name, the options that are not its defaults, and its version."""
    known: tuple[Field[Any], ...] = fields(one) if is_dataclass(one) else ()
    own = [f for f in known if f.name not in _FIXED and f.default is not MISSING and getattr(one, f.name) != f.default]
    return f"{one.name}{''.join(f':{f.name}={getattr(one, f.name)}' for f in own)}@{one.version}"


@dataclass(slots=True)
class Tally:
    """What was graded: qualities by (model, task); what was not, by reason, with the first ids; how many were left alone."""

    qualities: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    ungraded: Counter[str] = field(default_factory=Counter)
    where: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    kept: int = 0

    def miss(self, reason: str, id: str) -> None:
        """Counts an answer that got no grade."""
        self.ungraded[reason] += 1
        if len(self.where[reason]) < 5 and id not in self.where[reason]:
            self.where[reason].append(id)


@dataclass(frozen=True, slots=True)
class Job:
    """Which grader grades which task (``by_task``, else ``default``), which ``models`` (all where empty), what is redone."""

    default: Grader | None
    by_task: Mapping[str, Grader] = field(default_factory=dict)
    models: frozenset[str] = frozenset()
    regrade: bool = False
    concurrency: int = 16

    def of(self, task: str) -> Grader | None:
        """The grader of a task's answers, if any."""
        return self.by_task.get(task, self.default)


async def graded(examples: Sequence[Example], job: Job, tally: Tally) -> list[Example]:
    """The examples with their answers graded. Raises GraderError where a reference cannot be used, naming the example."""
    gate = asyncio.Semaphore(job.concurrency)
    return list(await asyncio.gather(*(_example(e, job, tally, gate) for e in examples)))


async def _example(example: Example, job: Job, tally: Tally, gate: asyncio.Semaphore) -> Example:
    one = job.of(example.task)
    answers = dict(example.answers)
    texts = {model: str(a["text"]) for model, a in answers.items()}
    for model, answer in example.answers.items():
        if one is None or (job.models and model not in job.models):
            continue
        known = answer.get("quality")
        if known is not None and answer.get("grader") == label(one) and not job.regrade:
            tally.kept += 1
            tally.qualities[model, example.task].append(known)
            continue
        if example.reference is None and one.needs_reference:
            tally.miss("no reference", example.id)
            continue
        others = {m: t for m, t in texts.items() if m != model}
        made = dict(answer)
        made["quality"] = await _quality(one, example, texts[model], others, tally, gate)
        made["grader"] = label(one)
        if samples := answer.get("samples"):
            qualities = [await _quality(one, example, str(s["text"]), others, tally, gate) for s in samples]
            made["samples"] = [{**s, "quality": q} for s, q in zip(samples, qualities, strict=True)]
        if made["quality"] is not None:
            tally.qualities[model, example.task].append(made["quality"])
        answers[model] = made
    return replace(example, answers=answers)


async def _quality(
    one: Grader, example: Example, text: str, others: Mapping[str, str], tally: Tally, gate: asyncio.Semaphore
) -> float | None:
    case = Case(text=text, reference=example.reference, prompt=example.to_prompt(), others=others)
    try:
        async with gate:
            given = await asyncio.to_thread(one.grade, case) if one.waits else one.grade(case)
            quality = await given if isinstance(given, Awaitable) else given
    except GraderError as error:
        raise GraderError(f"example {example.id!r}: {error}") from None
    except ModelError as error:
        tally.miss(f"the judge model failed ({error})", example.id)
        return None
    if quality is None:
        tally.miss("the grader cannot tell", example.id)
    return quality


def stream(examples: Iterator[Example], job: Job, tally: Tally, step: Callable[[], None]) -> Iterator[Example]:
    """The graded examples, a chunk at a time, so that a recording of any length takes the same memory."""
    with asyncio.Runner() as runner:
        try:
            while chunk := list(islice(examples, CHUNK)):
                for example in runner.run(graded(chunk, job, tally)):
                    step()
                    yield example
        finally:
            for one in filter(None, (job.default, *job.by_task.values())):
                if isinstance(one, ModelGrader):
                    runner.run(one.close())


def report(tally: Tally) -> str:
    """Mean quality by model and task with 95 % intervals (Wilson), and what was not graded."""
    lines = []
    models = list(dict.fromkeys(model for model, _ in tally.qualities))
    width = max((len(m) for m in models), default=0)
    for model in models:
        tasks = [task for m, task in tally.qualities if m == model]
        rows = [("all", [q for t in tasks for q in tally.qualities[model, t]])] if len(tasks) > 1 else []
        for task, found in [*((t or "all", tally.qualities[model, t]) for t in tasks), *rows]:
            mean = sum(found) / len(found)
            low, high = wilson(mean, len(found))
            lines.append(f"{model:<{width}}  {task:<20} {mean:.3f}  [{low:.3f}, {high:.3f}]  n = {len(found):,}")
    if tally.kept:
        lines.append(f"{tally.kept:,} answers had this grade already and were left as they were (--regrade does them again)")
    for reason, count in tally.ungraded.items():
        lines.append(f"not graded: {count:,}, {reason}: {', '.join(tally.where[reason])}{' ...' if count > 5 else ''}")
    return "\n".join(lines) or "nothing was graded"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evals.grade",
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
    add("--policy-file", help="where a model grader's model is described (default: the usual search)")
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
) -> Job:
    """The job of a command's ``--grader [TASK=]NAME[:OPTION=VALUE]``; model grades are kept beside ``recording``.

    Raises GraderError.
    """
    memory = Path(recording).resolve().parent / ".cascade" / "grades.jsonl"
    default: Grader | None = None
    by_task: dict[str, Grader] = {}
    for given in specs:
        task, sign, spec = given.partition("=")
        # An option's sign comes after a colon, a task's before any.
        task, spec = (task, spec) if sign and ":" not in task else ("", given)
        if task in by_task or (not task and default is not None):
            raise GraderError(f"--grader {given}: a second grader for {f'the task {task}' if task else 'all tasks'}")
        made = grader(spec, policy_file=policy_file, memory=memory)
        if task:
            by_task[task] = made
        else:
            default = made
    if concurrency < 1:
        raise GraderError(f"--concurrency must be 1 or more, got {concurrency}")
    return Job(default, by_task, frozenset(models), regrade, concurrency)


def _count(path: str) -> tuple[int, set[str], set[str]]:
    """Examples, tasks and models of a recording; reading it once first finds its errors before anything is paid."""
    n = 0
    tasks: set[str] = set()
    models: set[str] = set()
    for example in read(path):
        n += 1
        tasks.add(example.task)
        models.update(example.answers)
    return n, tasks, models


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code: 0, or 2 where the input is wrong."""
    args = _parser().parse_args(argv)
    tally = Tally()
    try:
        job = job_of(
            args.grader,
            args.recording,
            policy_file=args.policy_file,
            models=[m for m in (args.models or "").split(",") if m],
            regrade=args.regrade,
            concurrency=args.concurrency,
        )
        n, tasks, models = _count(args.recording)
        for kind, asked, known in (("task", job.by_task, tasks), ("model", job.models, models)):
            if unknown := sorted(set(asked) - known):
                raise GraderError(f"the recording has no {kind} {unknown[0]!r}; it has: {', '.join(sorted(known))}")
        progress = Progress(n, "grading")
        write(args.out or args.recording, stream(read(args.recording), job, tally, progress.step))
        progress.end()
    except (GraderError, RecordingError, CascadeError, OSError, ValueError) as error:
        print(f"error: {' '.join(str(error).split())}; nothing was written", file=sys.stderr)
        return 2
    print(report(tally))
    return 0


if __name__ == "__main__":
    raise SystemExit(quietly(main))
