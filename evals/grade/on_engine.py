"""Grades a recording on an engine: blocks of the file on its workers, or only the requests of judge models.

A block's grades cost nothing, so that a block whose worker dies is graded again. What a judge model is asked is paid for:
such a job runs in this process, which has the stored grades and the budget, and the workers send its requests.
"""

import asyncio
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import islice

import numpy as np

from cascade.policy.schema import ModelSpec
from evals.engines import Engine
from evals.recording import RecordingError, write_encoded
from evals.recording.blocks import Block, read_blocks
from evals.recording.format import encoded

from .grade_report import GradeReport
from .job import CHUNK, Job, graded
from .model import Memory, ModelGrader
from .protocol import Grader, GraderError


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSurvey:
    """What one block holds.

    Attributes:
        ids: The hash of each example's id; the same in every process.
        tasks: The tasks.
        models: The models that answered.
    """

    ids: "array[int]"
    tasks: frozenset[str]
    models: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class GradedBlock:
    """A block with its answers graded, as lines of a recording, and the report of it alone."""

    lines: bytes
    rows: int
    tally: GradeReport


def asks_models(job: Job) -> bool:
    """Whether any grader of the job is a model."""
    return any(isinstance(one, ModelGrader) for one in job.graders())


def with_workers(job: Job, engine: Engine) -> Job:
    """The job with judge models whose requests the engine's workers send."""

    def moved(one: Grader) -> Grader:
        if not isinstance(one, ModelGrader):
            return one
        spec = one.handle.pricer.spec
        if not isinstance(spec, ModelSpec):
            return one
        return replace(one, handle=replace(one.handle, model=engine.model(one.handle.model.name, spec)))

    return replace(
        job,
        default=None if job.default is None else moved(job.default),
        by_task={task: moved(one) for task, one in job.by_task.items()},
    )


def survey_blocks(path: str, job: Job, engine: Engine) -> tuple[int, set[str], set[str]] | None:
    """The number of examples, the tasks and the models of a recording.

    Returns:
        None where something is wrong with it: reading it row by row names the first error, whatever it is.
    """
    ids: array[int] = array("Q")
    tasks: set[str] = set()
    models: set[str] = set()
    try:
        for survey in engine.map(_survey, _portable(job), read_blocks(path)):
            ids.extend(survey.ids)
            tasks |= survey.tasks
            models |= survey.models
    except (RecordingError, GraderError):
        return None
    if not ids or len(np.unique(np.frombuffer(ids, np.uint64))) < len(ids):
        return None
    return len(ids), tasks, models


def _portable(job: Job) -> Job:
    """The job without what belongs to judge models; blocks ask none."""
    return replace(
        job,
        default=None if isinstance(job.default, ModelGrader) else job.default,
        by_task={task: one for task, one in job.by_task.items() if not isinstance(one, ModelGrader)},
        memory=Memory(),
    )


def _survey(job: Job, block: Block) -> BlockSurvey:
    ids: array[int] = array("Q")
    tasks: set[str] = set()
    models: set[str] = set()
    for _, example in block.examples():
        ids.append(_hash(example.id))
        tasks.add(example.task)
        models.update(example.answers)
        job.check(example)
    return BlockSurvey(ids=ids, tasks=frozenset(tasks), models=frozenset(models))


def _hash(id: str) -> int:
    return int.from_bytes(blake2b(id.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def grade_blocks(path: str, out: str, job: Job, engine: Engine, tally: GradeReport, step: Callable[[int], None]) -> None:
    """Writes the graded recording: the same bytes as without an engine.

    Args:
        path: The recording.
        out: Where the graded one goes; it may be the same file.
        job: The graders, none of which is a model.
        engine: The engine.
        tally: The report, filled block by block.
        step: Called with the number of examples of each finished block.

    Raises:
        GraderError: As grading raises it.
        RecordingError: As reading or writing raises it.
        EngineError: No worker finished a block.
    """
    # As many at once as are allowed, over all workers.
    shared = replace(_portable(job), concurrency=max(1, job.concurrency // engine.workers))

    def lines() -> Iterator[bytes]:
        for block in engine.map(_grade, shared, read_blocks(path)):
            tally.add(block.tally)
            step(block.rows)
            yield block.lines

    write_encoded(out, lines())


def _grade(job: Job, block: Block) -> GradedBlock:
    tally, lines = GradeReport(), []
    examples = (example for _, example in block.examples())
    with asyncio.Runner() as runner:
        while chunk := list(islice(examples, CHUNK)):
            lines += [encoded(example) + b"\n" for example in runner.run(graded(chunk, job, tally))]
    return GradedBlock(lines=b"".join(lines), rows=len(lines), tally=tally)
