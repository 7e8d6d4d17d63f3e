"""Sampled runs -> labels: the quality of the premium tier's answer less that of the answer returned, each run once."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cascade.engine.model_handle import ModelHandle
from cascade.journal.labels import LabelBook
from cascade.models.protocol import ModelError
from cascade.util.totals import total
from evals.common.cost_budget import OutOfMoneyError
from evals.grade import Grader, GraderError, grader
from evals.grade.model import Memory, ModelGrader

from .sampled_runs import PREMIUM, SampledRun

_AT_ONCE = 8


@dataclass(slots=True)
class Report:
    """What a command did."""

    graded: int = 0
    free: int = 0
    undecided: int = 0
    earlier: int = 0
    interrupted: int = 0
    losses: list[float] = field(default_factory=list)
    stopped: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowGrading:
    """How sampled runs are graded.

    Attributes:
        grader: Grades each answer, or compares the two; None: the journal's feedback.
        references: References by run id and by prompt hash.
    """

    grader: Grader | None
    references: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What a label says of its origin."""
        return "feedback" if self.grader is None else f"{self.grader.name}@{self.grader.version}"

    def can(self, run: SampledRun) -> bool:
        """Whether the run has what the grader needs: a reference, or feedback."""
        if self.grader is None:
            return bool(run.record.feedback)
        return not self.grader.needs_reference or self._reference(run) is not None

    async def loss(self, run: SampledRun) -> float | None:
        """Premium's quality less that of the answer returned, in [-1, 1]; None where the grader cannot tell."""
        one = self.grader
        if run.premium is None:
            return 0.0
        if one is None:
            return 1.0 - float(run.record.feedback[-1]["quality"])
        if isinstance(one, ModelGrader) and one.mode == "pairwise":
            better = await self._quality(one, run, run.returned)
            return None if better is None else 1.0 - 2.0 * better
        premium, returned = await self._quality(one, run, run.premium), await self._quality(one, run, run.returned)
        return None if premium is None or returned is None else premium - returned

    def estimate(self, run: SampledRun) -> float | None:
        """An upper estimate in USD of what grading the run costs; None where the price is unknown."""
        one = self.grader
        if not isinstance(one, ModelGrader) or run.premium is None:
            return 0.0
        answers = [run.returned] if one.mode == "pairwise" else [run.premium, run.returned]
        return total(one.estimate(run.case(answer, self._reference(run))) for answer in answers)

    async def _quality(self, one: Grader, run: SampledRun, answer: Mapping[str, Any]) -> float | None:
        case = run.case(answer, self._reference(run))
        result = await asyncio.to_thread(one.grade, case) if one.waits else one.grade(case)
        return await result if isinstance(result, Awaitable) else result

    def _reference(self, run: SampledRun) -> Any:
        by_run = self.references.get(run.record.run_id)
        return by_run if by_run is not None else self.references.get(run.record.prompt_hash)


def make_grader(
    spec: str,
    *,
    memory: Memory,
    policy_file: str | None = None,
    models: Callable[[str], ModelHandle] | None = None,
) -> Grader:
    """The grader of a specification; a comparison is against premium's answer. Raises GraderError, PolicyError.

    Args:
        spec: ``name:option=value:...``.
        memory: Keeps what a judge model said.
        policy_file: Where the judge model is looked up. Default: the usual search.
        models: Gives the judge model, in place of the policy file.
    """
    name, _, rest = spec.partition(":")
    if name == "model" and "mode=pairwise" in rest.split(":") and "against=" not in rest:
        spec = f"{spec}:against={PREMIUM}"
    return grader(spec, policy_file=policy_file, memory=memory, models=models)


async def grade_runs(runs: Sequence[SampledRun], grading: ShadowGrading, book: LabelBook) -> Report:
    """Labels runs in order, each once. Stops where a judge model fails, so that no kind of run is labelled alone.

    Args:
        runs: The runs in order.
        grading: How they are graded.
        book: Keeps the labels.
    """
    report, states = Report(), book.states()
    todo: list[SampledRun] = []
    for run in runs:
        state = states.get(run.record.run_id)
        if state is not None:
            report.earlier += state != "asked"
            report.interrupted += state == "asked"
        elif grading.can(run):
            todo.append(run)
        else:  # also where both answers say the same: whether a run counts depends on its data, not on the outcome
            report.undecided += 1
    for first in range(0, len(todo), _AT_ONCE):
        batch: list[SampledRun] = []
        for run in todo[first : first + _AT_ONCE]:
            record = run.record
            if book.claim(record.run_id, record.policy, record.policy_hash, run.probability):
                batch.append(run)
            else:
                report.earlier += 1
        outcomes = await asyncio.gather(*(grading.loss(run) for run in batch), return_exceptions=True)
        _enter(batch, outcomes, grading, book, report)
        if report.stopped is not None:
            break
    return report


def _enter(
    batch: Sequence[SampledRun],
    outcomes: Sequence[float | BaseException | None],
    grading: ShadowGrading,
    book: LabelBook,
    report: Report,
) -> None:
    """Enters labels in order, up to the first that failed; the claims of those after it are released."""
    for run, outcome in zip(batch, outcomes, strict=True):
        run_id = run.record.run_id
        if report.stopped is None and isinstance(outcome, BaseException) and not is_of_this_run(outcome):
            if not isinstance(outcome, ModelError | OutOfMoneyError):
                for other in batch:
                    book.release(other.record.run_id)
                raise outcome
            spent = isinstance(outcome, OutOfMoneyError)
            report.stopped = "--max-usd would be passed" if spent else f"run {run_id}: {outcome}"
        if report.stopped is not None:
            book.release(run_id)
            continue
        loss = None if isinstance(outcome, BaseException) else outcome
        book.finish(run_id, loss, grading.name if run.premium is not None else "same")
        if loss is None:
            report.undecided += 1
        else:
            report.losses.append(loss)
            report.free += run.premium is None
            report.graded += run.premium is not None


def is_of_this_run(error: BaseException) -> bool:
    """Whether an error says something about one run alone: its reference cannot be used, or its texts are refused."""
    return isinstance(error, GraderError) or (isinstance(error, ModelError) and error.status in (400, 413, 422))


def read_references(path: str | None) -> dict[str, Any]:
    """References by run id and prompt hash. Raises ValueError that names file and line."""
    references: dict[str, Any] = {}
    if path is None:
        return references
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
                key = row.get("run_id") or row["prompt_hash"]
                references[key] = row["reference"]
            except (ValueError, LookupError, TypeError, AttributeError):
                raise ValueError(f"{path}:{number}: needs 'reference', and 'run_id' or 'prompt_hash'") from None
    return references
