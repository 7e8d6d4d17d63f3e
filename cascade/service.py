"""What a Cascade keeps between its runs: policies, models and their connections, journal, telemetry, shadower."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from cascade.costs.budget import MONTH, Ledger, MemoryLedger
from cascade.engine.calls import DEFAULT_REQUEST
from cascade.engine.canary import Assignment
from cascade.engine.plan import CompiledPolicy
from cascade.engine.runtime import Runtime, unpriced
from cascade.models.protocol import Model, Request
from cascade.policy.journal_config import JournalSpec
from cascade.policy.schema import ModelSpec, Policy, PolicyFile, TelemetrySpec
from cascade.policy.state_spec import StateSpec
from cascade.resilience.guard import ModelHealth
from judges import Prompt

from .errors import JournalError, PolicyError
from .options import PathLike, PromptLike, SharedBudgets, Tags
from .policy import load as policy_files
from .result import Result
from .sync import wait_for

if TYPE_CHECKING:
    from cascade.journal.journal import Journal
    from cascade.journal.record import Kind
    from cascade.state.leased_ledger import LeasedLedger

    from .shadow.shadower import Shadower
    from .telemetry import RunObserver, Telemetry

_log = logging.getLogger("cascade.run")

PolicySource: TypeAlias = Policy | PolicyFile | PathLike | None


class Service:
    """The base of Cascade, which adds the calls: opens a policy file, observes and records runs, and closes everything."""

    def __init__(
        self,
        source: PolicySource = None,
        *,
        models: Mapping[str, Model] | None = None,
        journal: "Journal | JournalSpec | str | None" = None,
        telemetry: "Telemetry | TelemetrySpec | None" = None,
        ledger: Ledger | None = None,
    ) -> None:
        own_models = dict(models or {})
        specs: Mapping[str, ModelSpec] = {}
        usd_per_day: float | None = None
        usd_per_month: float | None = None
        state: StateSpec | None = None
        self._tag_budgets: Mapping[str, SharedBudgets] = {}
        if isinstance(source, Policy):
            self.policies: Mapping[str, Policy] = {"default": source}
            missing = [m for t in source.tiers for m in (t.model, *t.fallbacks) if m not in own_models]
            if missing:
                raise PolicyError(f"a Policy alone needs its models: give models={{...}} for {', '.join(missing)}")
        else:
            file = source if isinstance(source, PolicyFile) else policy_files.load(source)
            self.policies, specs, usd_per_day = file.policies, file.models, file.budget_usd_per_day
            usd_per_month, self._tag_budgets = file.budget_usd_per_month, _tag_rules(file)
            state = file.state
            journal = file.journal if journal is None else journal
            telemetry = file.telemetry if telemetry is None else telemetry
        self._own_journal = isinstance(journal, JournalSpec | str)
        self._journal = _journal(journal)
        self._own_ledger: LeasedLedger[Any] | None = None
        if ledger is None and state is not None:
            from cascade.journal.open_ledger import open_ledger

            shared = open_ledger(state, self._journal)
            self._own_ledger = shared if self._journal is None or shared is not self._journal.ledger else None
            ledger = shared
        default_ledger = MemoryLedger() if self._journal is None else self._journal.ledger
        self.ledger: Ledger = default_ledger if ledger is None else ledger
        """Keeps what the daily budgets have spent."""
        self._telemetry = _telemetry(telemetry)
        self._runtime = Runtime(
            self.policies,
            specs,
            own_models,
            self.ledger,
            observer=self._telemetry,
            usd_per_day=usd_per_day,
            usd_per_month=usd_per_month,
        )
        self._shadower = self._new_shadower()

    def __repr__(self) -> str:
        names = [*self.policies]
        more = f", and {len(names) - 5} more" if len(names) > 5 else ""
        return f"<{type(self).__name__}: {', '.join(names[:5])}{more}>"

    def _observe(
        self,
        kind: "Kind",
        policy: str,
        compiled: CompiledPolicy,
        question: Prompt,
        work: Callable[..., Awaitable[Result]],
        tags: Tags | None,
        *,
        request: Request = DEFAULT_REQUEST,
        assignment: Assignment | None = None,
    ) -> Awaitable[Result]:
        """``work``, within its telemetry, its journal record and its line in the log; each adds a coroutine only if on."""
        if self._telemetry is None:
            run = self._record(kind, policy, compiled, question, work, tags, request=request, assignment=assignment)
        else:
            observer = self._telemetry.run(kind, policy, compiled, question)
            options: dict[str, Any] = {"request": request, "assignment": assignment}
            run = _observed(observer, lambda: self._record(kind, policy, compiled, question, work, tags, **options))
        if not _log.isEnabledFor(logging.INFO):
            return run
        from .telemetry.run_log import log_run

        return log_run(kind, policy, run)

    def _record(
        self,
        kind: "Kind",
        policy: str,
        compiled: CompiledPolicy,
        question: Prompt,
        work: Callable[..., Awaitable[Result]],
        tags: Tags | None,
        *,
        request: Request,
        assignment: Assignment | None,
    ) -> Awaitable[Result]:
        if self._journal is None:
            if tags:
                from cascade.journal.record import checked_tags

                checked_tags(tags)  # the same error as with a journal, so that switching one on breaks no caller
            return work()
        pending = self._journal.begin(kind, policy, compiled, question, tags)
        if assignment is not None:
            pending.run_id, pending.canary = assignment
        running = work(run_id=pending.run_id, attempts=pending.attempts)
        if self._shadower is None or kind != "run":
            return self._journal.record(pending, running)
        if compiled.shadow is None:
            if compiled.policy.drift is not None:
                self._shadower.watch()
            return self._journal.record(pending, running)
        return self._shadower.record(self._journal, pending, running, compiled.shadow, request)

    def _new_shadower(self) -> "Shadower | None":
        if all(policy.shadow is None and policy.drift is None for policy in self.policies.values()):
            return None
        from .shadow.open_shadower import open_shadower

        return open_shadower(self.policies, self._runtime, self._journal, self._telemetry)

    async def afeedback(self, run_id: str, *, quality: float, note: str | None = None) -> None:
        """Attaches to a run's record how good its answer proved; every call is kept, the last one counts.

        Args:
            run_id: The ``run_id`` of a result.
            quality: In [0, 1]: 0 is wrong, 1 is right.
            note: A remark.

        Raises:
            ValueError: ``quality`` is not in [0, 1].
            JournalError: There is no journal, or no such run in it.

        Example:
            ```python
            await service.afeedback(result.run_id, quality=1.0)
            ```
        """
        await self._needed_journal().afeedback(run_id, quality, note)
        if self._shadower is not None:
            self._shadower.add_feedback(run_id)

    def feedback(self, run_id: str, *, quality: float, note: str | None = None) -> None:
        """``afeedback`` for code that is not async: same arguments, same errors."""
        self._needed_journal().feedback(run_id, quality, note)
        if self._shadower is not None:
            self._shadower.add_feedback(run_id)

    def _needed_journal(self) -> "Journal":
        if self._journal is None:
            raise JournalError("there is no journal; name one in the policy file: journal: {url: sqlite:///cascade.db}")
        return self._journal

    def follow(self, before: "Service") -> None:
        """Takes over the state of another Cascade for models whose settings are the same; call it before any run.

        That is the state of circuit breakers, the limits on concurrency and rate, and the latencies.

        Args:
            before: The instance that this one replaces.
        """
        self._runtime.follow(before._runtime)

    async def count_tokens(
        self, prompt: PromptLike, *, policy: str = "default", request: Request | None = None
    ) -> int | None:
        """How many tokens a prompt has for the first model of a policy whose provider counts them without an answer.

        Args:
            prompt: The prompt.
            policy: The policy, or ``policy/tier``.
            request: Options that may count, such as tools' settings.

        Returns:
            The count; None where no provider of the policy's models counts tokens (Anthropic does).

        Raises:
            PolicyError: There is no such policy.
            ModelError: The provider failed.
        """
        for tier in self._runtime.compile(policy).tiers:
            counts = getattr(tier.handle.model, "count_tokens", None)
            if counts is not None:
                count: int | None = await counts(Prompt.of(prompt), request or DEFAULT_REQUEST)
                return count
        return None

    def health(self) -> dict[str, ModelHealth]:
        """How each model that was called so far is doing.

        Returns:
            The state of each model by its name in the policy file.
        """
        return self._runtime.health()

    def unpriced(self, policy: str) -> list[str]:
        """The models of a policy whose maximum cost per call is unknown, so that they cannot be used under a budget.

        Raises:
            PolicyError: There is no such policy.
        """
        return unpriced(self._runtime.compile(policy))

    async def prepare(self, policy: str) -> None:
        """Makes a policy's models and judges in this event loop, as its first run would.

        Raises:
            PolicyError: There is no such policy, or one of its models or judges cannot be made.
        """
        self._runtime.compile(policy)

    def policy(self, name: str) -> Policy:
        """The policy of that name; ``policy/tier`` is the policy with that tier alone.

        Raises:
            PolicyError: There is no such policy or tier.
        """
        return self._runtime.policy(name)

    async def aclose(self) -> None:
        """Closes every model's connections and writes the journal's last records; runs still in progress fail."""
        if self._shadower is not None:
            await asyncio.to_thread(self._shadower.drain)
        await self._runtime.aclose()
        if self._shadower is not None:
            await asyncio.to_thread(self._shadower.stop)
        if self._own_ledger is not None:
            await asyncio.to_thread(self._own_ledger.close)
        if self._own_journal and self._journal is not None:
            await asyncio.to_thread(self._journal.close)

    def _close_connections(self, timeout_s: float) -> None:
        """When the process exits: closes the models' connections alone, without a thread."""
        asyncio.run(asyncio.wait_for(self._runtime.aclose(), timeout_s))

    def close(self) -> None:
        """``aclose`` for code that is not async."""
        wait_for(self.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _journal(source: "Journal | JournalSpec | str | None") -> "Journal | None":
    if source is None or (isinstance(source, JournalSpec) and source.durability == "off"):
        return None
    from cascade.journal.journal import Journal

    return source if isinstance(source, Journal) else Journal(source)


def _tag_rules(file: PolicyFile) -> Mapping[str, SharedBudgets]:
    """By a tag's name, the budgets of each of its values: how the scope begins, and USD."""
    return {
        name: tuple(
            (f"{prefix}tag {name}", usd)
            for prefix, usd in (("", budget.usd_per_day), (MONTH, budget.usd_per_month))
            if usd is not None
        )
        for name, budget in file.tag_budgets.items()
    }


def _telemetry(source: "Telemetry | TelemetrySpec | None") -> "Telemetry | None":
    if source is None or (isinstance(source, TelemetrySpec) and not (source.traces or source.metrics)):
        return None
    from .telemetry import Telemetry

    return source if isinstance(source, Telemetry) else Telemetry(**source.model_dump())


async def _observed(observer: "RunObserver", work: Callable[[], Awaitable[Result]]) -> Result:
    with observer:
        result = observer.result = await work()
    return result
