"""Grades sampled runs in the service as soon as their shadow requests have ended: what ``shadow.grade`` of a policy names.

A run gets the label that ``cascade grade-shadows`` would give it, and at most one of the two grades it: both make a row of
``cascade_labels`` first. The cost of a judge model is recorded with the shadow requests, under the policy's daily budget.
"""

import logging
import time

from cascade.journal.labels import LabelBook
from cascade.journal.record import Record
from cascade.journal.shadows import ShadowBook, ShadowOutcome, ShadowRow
from cascade.journal.store import SqlStore
from cascade.journal.writer_connection import Book
from cascade.models.protocol import ModelError
from cascade.shadow.grading import GradingSetup, Progress, RunGrader
from evals.common.cost_budget import OutOfMoneyError
from evals.grade import Grader, GraderError
from evals.grade.model import Memory, ModelGrader

from .sampled_runs import SampledRun, SampledRunReader, Survey
from .shadow_grading import ShadowGrading, is_of_this_run, make_grader, read_references

log = logging.getLogger("cascade.shadow")

MOST_ATTEMPTS = 5
"""Of a run whose judge model fails; then its label is ``undecided``."""
ROW = "(grader)"
"""The tier's name under which the cost of a judge model is recorded; no tier has it."""
_ENDED = ("done", "failed", "skipped")


def open_grader(setup: GradingSetup) -> RunGrader:
    """The grader of a policy. Raises GraderError, PolicyError, OSError or ValueError where it cannot be used."""
    return _ServiceGrader(setup)


class _Runs(Book):
    """Reads runs, and the policies with which they were made."""

    def find(self, run_id: str) -> Record | None:
        """The record; None: it is not stored yet."""
        return self._session.run(lambda store: store.find(run_id))

    def policy(self, policy_hash: str) -> str:
        """The JSON of a policy by its hash."""
        return self._session.run(lambda store: _policy(store, policy_hash))


def _policy(store: SqlStore, policy_hash: str) -> str:
    ((text,),) = store.execute("SELECT policy FROM cascade_policies WHERE hash = ?", (policy_hash,))
    return str(text)


class _ServiceGrader:
    def __init__(self, setup: GradingSetup) -> None:
        grade = setup.spec.grade
        assert grade is not None
        self._setup, self._spec = setup, grade.grader
        self._references = read_references(grade.references)
        self._parents: list[object] = []
        self._begin()
        one = self._grading.grader
        if isinstance(one, ModelGrader) and not one.handle.priced:
            raise GraderError(
                f"the price of the model {one.handle.model.name} is not known, so that no budget could be enforced"
            )

    @property
    def on_feedback(self) -> bool:
        return self._grading.grader is None

    def restart(self) -> None:
        self._parents += [self._runs, self._labels, self._shadows]  # their connections are the parent's: never closed here
        self._begin()

    def close(self) -> None:
        for book in (self._runs, self._labels, self._shadows):
            book.close()

    def _begin(self) -> None:
        setup = self._setup
        self._memory = Memory()
        one: Grader | None = None
        if self._spec != "feedback":
            one = make_grader(self._spec, memory=self._memory, models=setup.model)
        self._grading = ShadowGrading(grader=one, references=self._references)
        self._runs, self._labels = _Runs(setup.connect), LabelBook(setup.connect)
        self._shadows = ShadowBook(setup.connect)
        self._reader = SampledRunReader(self._runs.policy, Survey({}))
        self._attempts: tuple[str, int] = ("", 0)

    async def grade(self, run_id: str) -> Progress:
        """See ``RunGrader.grade``."""
        record = self._runs.find(run_id)
        if record is None:
            return Progress.LATER
        if record.policy != self._setup.policy:
            return Progress.DONE
        states = {shadow["tier"]: shadow["state"] for shadow in record.shadows}
        if any(states.get(tier) not in _ENDED for tier in record.shadow_tiers):
            return Progress.LATER
        run = self._reader.read(record)
        if run is None or not self._grading.can(run):
            return Progress.DONE
        return await self._label(run)

    async def _label(self, run: SampledRun) -> Progress:
        record, one = run.record, self._grading.grader
        if not self._labels.claim(record.run_id, record.policy, record.policy_hash, run.probability):
            return Progress.DONE  # it has a label, or another process is at it
        if not isinstance(one, ModelGrader) or run.premium is None:
            self._finish(run, await self._loss(run))
            return Progress.DONE
        attempt = self._attempts[1] + 1 if self._attempts[0] == record.run_id else 1
        self._attempts = (record.run_id, attempt)
        if not one.handle.guard.is_idle():
            self._attempts = (record.run_id, attempt - 1)
            self._labels.release(record.run_id)
            return Progress.LATER
        row = ShadowRow(
            run_id=record.run_id,
            tier=ROW if attempt == 1 else f"{ROW} {attempt}",
            model=one.handle.model.name,
            policy=record.policy,
            probability=run.probability,
            queued=time.time(),
        )
        estimate = self._grading.estimate(run)
        if estimate is None:
            raise GraderError(f"the price of the model {row.model} is not known")
        self._shadows.queue([row])
        spec = self._setup.spec
        claim = self._shadows.claim(row, estimate, budget_usd=spec.budget_usd_per_day, per_minute=spec.max_per_minute)
        if claim != "granted":
            self._labels.release(record.run_id)
            self._attempts = (record.run_id, attempt if claim == "gone" else attempt - 1)
            return Progress.PAUSED if claim == "budget" else Progress.LATER
        return await self._paid_label(run, row, estimate, is_last=attempt >= MOST_ATTEMPTS)

    async def _paid_label(self, run: SampledRun, row: ShadowRow, estimate: float, *, is_last: bool) -> Progress:
        memory, began = self._memory, time.monotonic()
        memory.usd, memory.budget.limit = 0.0, memory.budget.spent + estimate
        try:
            loss = await self._loss(run)
        except (ModelError, OutOfMoneyError) as error:
            # What failed may have been billed: the estimate counts.
            text = str(error)[:200] or type(error).__name__
            self._shadows.finish(row, ShadowOutcome(state="failed", cost_usd=None, error=text))
            memory.ended.clear()
            if not is_last:
                self._labels.release(row.run_id)
                log.warning("policy %s: run %s is graded later: %s", row.policy, row.run_id, type(error).__name__)
                return Progress.PAUSED
            loss = None
        else:
            self._shadows.finish(row, ShadowOutcome(state="done", cost_usd=memory.usd, latency_s=time.monotonic() - began))
        memory.grades.clear()
        self._finish(run, loss)
        return Progress.DONE

    async def _loss(self, run: SampledRun) -> float | None:
        """The loss; None where the grader cannot tell, or the run's reference or texts cannot be used."""
        try:
            return await self._grading.loss(run)
        except (GraderError, ModelError) as error:
            if not is_of_this_run(error):
                raise
            return None

    def _finish(self, run: SampledRun, loss: float | None) -> None:
        self._labels.finish(run.record.run_id, loss, self._grading.name if run.premium is not None else "same")
