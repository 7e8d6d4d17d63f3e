"""A tier's answer that is asked for before its turn: while the tier before it is still answering or being judged."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from cascade.resilience.deadline import cancel_and_wait
from cascade.result import CallRecord
from judges import Answer, Prompt, Usage

from .calls import call_model
from .model_handle import ModelHandle
from .plan import CompiledTier
from .run_context import RunContext


@dataclass(slots=True, eq=False)
class EarlyAnswer:
    """The answer of a tier that may turn out not to be needed.

    Args:
        context: The run.
        tier: The tier that is asked.
        alternatives: How many models can be called if its model fails.
        run_s: The seconds that the run has taken when its tier before began, recorded latencies included.
        now: Reads the event loop's clock.

    Attributes:
        log: Its requests.
        started_s: ``run_s`` when it was asked for; None: it was not yet.
    """

    context: RunContext
    tier: CompiledTier
    alternatives: int
    run_s: float
    now: Callable[[], float]
    log: list[CallRecord] = field(default_factory=list)
    started_s: float | None = None
    _began: float = field(init=False)
    _task: "asyncio.Task[Sequence[Answer]] | None" = None
    _timer: asyncio.TimerHandle | None = None
    _usage: Usage | None = None

    def __post_init__(self) -> None:
        self._began = self.now()

    def start(self, delay_s: float = 0.0) -> None:
        """Asks for the answer now, ``delay_s`` after the tier before began."""
        if self._task is None:
            self.started_s = self.run_s + delay_s
            self._task = asyncio.get_running_loop().create_task(self._call())

    def start_at(self, when: float) -> None:
        """Asks for the answer once the event loop's clock shows ``when``."""
        if when <= self.now():
            self.start()
        else:
            self._timer = asyncio.get_running_loop().call_at(when, self.start, when - self._began)

    async def _call(self) -> Sequence[Answer]:
        context, handle = self.context, self.tier.handle
        return await call_model(context, handle, context.prompt, context.request, alternatives=self.alternatives, early=self)

    async def answers(self) -> Sequence[Answer]:
        """The answer, waiting for it; raises what ``call_model`` raises."""
        self.start(self.now() - self._began)
        if self._timer is not None:
            self._timer.cancel()
        assert self._task is not None
        return await self._task

    async def cancel(self, answer: Answer | None = None) -> None:
        """Gives the answer up; its request is cancelled. ``answer``: what the run returns in its place, for an estimate."""
        self._usage = None if answer is None else answer.usage
        if self._timer is not None:
            self._timer.cancel()
        if self._task is None:
            return
        if self._task.done():
            with suppress(Exception, asyncio.CancelledError):
                self._task.result()
            return
        await cancel_and_wait((self._task,))

    @property
    def answered(self) -> bool:
        """Whether the answer has arrived."""
        task = self._task
        return task is not None and task.done() and not task.cancelled() and task.exception() is None

    def estimate(self, handle: ModelHandle, prompt: Prompt) -> float | None:
        """See ``EarlyCalls``: what a recording states, or the price of the tokens of the answer that is returned."""
        recorded_cost = getattr(handle.model, "recorded_cost", None)
        if recorded_cost is not None:
            usd: float | None = recorded_cost(prompt)
            return usd
        return handle.pricer.cost(self._usage)
