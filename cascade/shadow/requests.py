"""The requests of a sampled run: each tier that was not asked is asked once, when its model is idle and the budget has room.

They are made one at a time for each model, and only while the model is healthy and half of its limits are free; without
retries, and without a say in circuit breakers. Runs do not notice them.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from cascade.costs.budget import RunBudget
from cascade.costs.estimate import MAX_OUTPUT
from cascade.engine.calls import call_model
from cascade.engine.model_handle import ModelHandle
from cascade.engine.plan import CompiledPolicy
from cascade.engine.run_context import RunContext
from cascade.errors import CascadeError
from cascade.journal.record import answer_json, usage_json
from cascade.journal.shadows import ShadowBook, ShadowOutcome, ShadowRow
from cascade.models.protocol import ModelError, Request
from cascade.resilience.guard import Guard, Retry
from cascade.util.totals import total
from judges import Answer

from .job import ShadowJob

T = TypeVar("T")
OnOutcome = Callable[[str, str, float | None], None]
log = logging.getLogger("cascade.shadow")

TIMEOUT_S = 300.0
"""The longest shadow request."""
_PAUSE_S = 0.25  # between looks at a busy model or a full minute
_RETRY_S = 5.0  # between attempts to reach the database


class ShadowRequests:
    """Asks the missing tiers of sampled runs, and records the outcomes in the journal.

    Args:
        compile: Returns a policy, ready to run in the running event loop.
        book: The journal's records of shadow requests.
        is_stopping: Whether the thread is ending; then an unavailable database is an error at once.
        on_outcome: Called with each request that ended: its policy, its state, and its cost in USD.
    """

    def __init__(
        self,
        compile: Callable[[str], CompiledPolicy],
        book: ShadowBook,
        *,
        is_stopping: Callable[[], bool],
        on_outcome: OnOutcome | None,
    ) -> None:
        self._compile, self._book, self._is_stopping, self._on_outcome = compile, book, is_stopping, on_outcome
        self._busy: set[int] = set()  # models with a shadow request in progress

    async def make(self, job: ShadowJob) -> None:
        """Asks the missing tiers of one run in turn."""
        try:
            compiled = self._compile(job.policy)
            others = () if compiled.canary is None else compiled.canary.candidate.tiers
            handles = {tier.name: tier.handle for tier in (*compiled.tiers, *others)}
            rows = [(job.row(name, handles[name].model.name), handles[name]) for name in job.tiers if name in handles]
            if not job.is_stored:
                await self._reach(lambda: self._book.queue([row for row, _ in rows]))
            for row, handle in rows:
                if job.is_skipped:
                    outcome = ShadowOutcome(state="skipped", cost_usd=0.0, error="too many sampled runs wait")
                    await self._enter(row, outcome)
                else:
                    await self._ask(job, row, handle, compiled)
        except CascadeError as error:
            log.warning("run %s was not shadowed: %s", job.run_id, error)
        except Exception as error:
            log.error("run %s was not shadowed (%s)", job.run_id, type(error).__name__)

    async def _ask(self, job: ShadowJob, row: ShadowRow, handle: ModelHandle, compiled: CompiledPolicy) -> None:
        """Asks one tier: waits until the model is idle, reserves the cost, sends the request, records the outcome."""
        if compiled.shadow is None:
            return  # the promise is broken, and premium alone is asked
        spec = compiled.shadow.spec
        request = job.request
        estimate = handle.estimate(job.prompt, _bounded(request, handle))
        if estimate is None:
            error = f"the price of the model {row.model} is not known, so that no budget could be enforced"
            await self._enter(row, ShadowOutcome(state="skipped", cost_usd=0.0, error=error))
            return
        while True:
            while not handle.guard.is_idle() or id(handle) in self._busy:
                await asyncio.sleep(_PAUSE_S)
            self._busy.add(id(handle))
            try:
                claim = await self._reach(
                    lambda: self._book.claim(
                        row, estimate, budget_usd=spec.budget_usd_per_day, per_minute=spec.max_per_minute
                    )
                )
                if claim == "granted":
                    await self._enter(row, await self._send(job, handle, compiled, _bounded(request, handle)))
                    return
            finally:
                self._busy.discard(id(handle))
            if claim == "gone":
                return
            if claim == "budget":
                error = f"the budget of ${spec.budget_usd_per_day:g} a day has no room"
                await self._enter(row, ShadowOutcome(state="skipped", cost_usd=0.0, error=error))
                return
            await asyncio.sleep(_PAUSE_S)

    async def _send(self, job: ShadowJob, handle: ModelHandle, compiled: CompiledPolicy, request: Request) -> ShadowOutcome:
        """Sends one request, once."""
        budget = RunBudget(max_calls=1)
        quiet = replace(handle, guard=Guard(retry=Retry(attempts=1)), observer=None)
        context = RunContext(compiled, job.prompt, budget)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                answer = (await call_model(context, quiet, job.prompt, request, purpose="shadow"))[0]
        except (ModelError, TimeoutError) as error:
            return ShadowOutcome(state="failed", cost_usd=_cost(budget), error=str(error)[:200] or "timed out")
        call = budget.log[-1]
        return ShadowOutcome(
            state="done",
            cost_usd=_cost(budget),
            latency_s=call.latency_s,
            agrees=job.agrees(answer),
            answer=_stored(answer, call.latency_s) if job.keeps_text else None,
        )

    async def _enter(self, row: ShadowRow, outcome: ShadowOutcome) -> None:
        await self._reach(lambda: self._book.finish(row, outcome))
        if self._on_outcome is not None:
            self._on_outcome(row.policy, outcome.state, outcome.cost_usd)

    async def _reach(self, work: Callable[[], T]) -> T:
        """Runs ``work`` on the journal's tables, and retries while the database is unavailable."""
        while True:
            try:
                return work()
            except CascadeError as error:
                if self._is_stopping():
                    raise
                log.warning("shadow requests cannot be recorded in the journal, so they wait (%s)", type(error).__name__)
            await asyncio.sleep(_RETRY_S)


def _bounded(request: Request, handle: ModelHandle) -> Request:
    """The request with a limit of its output, so that the estimate holds."""
    if request.max_tokens or handle.bounds.output is not None:
        return request
    return replace(request, max_tokens=MAX_OUTPUT)


def _cost(budget: RunBudget) -> float | None:
    """The amount spent; 0 where nothing was sent, None where a cost is unknown."""
    return total(call.cost_usd for call in budget.log)


def _stored(answer: Answer, latency_s: float) -> dict[str, object]:
    """The answer with its usage, as a recording states them."""
    entry: dict[str, object] = {**answer_json(answer), "latency_s": latency_s}
    if answer.model:
        entry["model"] = answer.model
    if answer.usage is not None:
        entry["usage"] = usage_json(answer.usage)
    if answer.finish_reason is not None:
        entry["finish_reason"] = answer.finish_reason
    return entry
