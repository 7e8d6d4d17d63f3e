"""Cascade: one policy file with its models, their connections and their state."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, Unpack, overload

from cascade.costs.budget import MONTH, Ledger, MemoryLedger
from cascade.engine.attempt import TierAttempt
from cascade.engine.calls import DEFAULT_REQUEST
from cascade.engine.plan import CompiledPolicy, new_run_budget, tag_budgets
from cascade.engine.routing import routed
from cascade.engine.run import gate as gate_answer
from cascade.engine.run import run as run_tiers
from cascade.engine.run_context import RunContext
from cascade.engine.runtime import Runtime, check_priced, tier_of, unpriced
from cascade.engine.tasks import variant
from cascade.models.protocol import Model, Request
from cascade.policy.journal_config import JournalSpec
from cascade.policy.schema import ModelSpec, Policy, PolicyFile, TelemetrySpec
from cascade.resilience.guard import ModelHealth
from judges import Answer, Prompt
from judges.reading import read_answer

from .errors import JournalError, PolicyError
from .options import (
    GateOptions,
    OnEvent,
    PathLike,
    PromptLike,
    RunOptions,
    Schema,
    SchemaT,
    SharedBudgets,
    StreamMode,
    StreamOptions,
    Tags,
)
from .policy import load as policy_files
from .result import Attempt, Result
from .sync import background_loop, wait_for

if TYPE_CHECKING:
    from cascade.engine.streaming import Event, EventStream
    from cascade.journal.journal import Journal
    from cascade.journal.record import Kind

    from .shadow.shadower import Shadower
    from .telemetry import RunObserver, Telemetry

_log = logging.getLogger("cascade.run")

PolicySource: TypeAlias = Policy | PolicyFile | PathLike | None


class Cascade:
    """One policy file with its models, their connections and their state; a service keeps one instance.

    Safe for many runs at once, from any number of event loops and threads: each event loop gets its own connections. Close
    it with ``with``, ``async with``, ``close()`` or ``aclose()``.

    Args:
        source: The path of a policy file, a PolicyFile, one Policy (which is then called "default"), or None for the
            usual search: CASCADE_POLICIES, ./policies.yaml, the packaged default.
        models: Models by name; they take precedence over those of the file.
        journal: A URL, a JournalSpec, or a Journal (which stays open when this instance is closed). Takes precedence
            over the file's.
        telemetry: Takes precedence over the file's.
        ledger: Keeps what the daily budgets have spent. Default: the journal's ledger, else one in memory.

    Raises:
        PolicyError: The policy file is missing or wrong.
        JournalError: The journal cannot be opened.

    Example:
        ```python
        with Cascade("policies.yaml") as service:
            result = service.run("What is 17 * 3?")
        ```
    """

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
            journal = file.journal if journal is None else journal
            telemetry = file.telemetry if telemetry is None else telemetry
        self._own_journal = isinstance(journal, JournalSpec | str)
        self._journal = _journal(journal)
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

    @overload
    async def arun(self, prompt: PromptLike, *, schema: type[SchemaT], **options: Unpack[RunOptions]) -> Result[SchemaT]: ...
    @overload
    async def arun(self, prompt: PromptLike, *, schema: Schema | None = None, **options: Unpack[RunOptions]) -> Result: ...
    async def arun(
        self,
        prompt: PromptLike,
        *,
        policy: str = "default",
        system: str | None = None,
        schema: Schema | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
        budget_usd: float | None = None,
        deadline_s: float | None = None,
        tags: Tags | None = None,
        on_event: OnEvent | None = None,
        stream: StreamMode | None = None,
        request: Request = DEFAULT_REQUEST,
        daily: SharedBudgets = (),
    ) -> Result:
        """Asks the cheapest tier first and escalates until an answer is accepted.

        Args:
            prompt: Text, chat messages in OpenAI's shape, or a Prompt.
            policy: A policy's name, or ``policy/tier`` for that tier alone.
            system: A system message, placed before the prompt's messages.
            schema: The shape of the answer: a pydantic model class (then ``result.parsed`` is one) or a JSON Schema.
            tools: Tools that the model may call, in OpenAI's function shape.
            budget_usd: The most that this run may spend, in place of the policy's ``budget_usd``.
            deadline_s: The most seconds that this run may take, in place of the policy's ``deadline_s``.
            tags: The caller's own labels (texts, numbers, booleans by name), kept in the journal.
            on_event: Called with each event of the run as it happens; see ``astream``.
            stream: When text becomes an event, in place of the policy's ``stream``.
            request: How the tiers' models are asked: maximum tokens, temperature, further provider options.
            daily: Budgets in addition to the policy's own: (scope, USD per UTC day).

        Returns:
            The judged answer. Check ``accepted`` before you use ``text``.

        Raises:
            PolicyError: There is no such policy, or its budget cannot be enforced.
            RunError: No answer may be returned; ProviderError, BudgetError, DeadlineError and UnsureError say why.
            JournalError: The journal's durability is ``full`` and the record could not be written.
            ValueError: ``budget_usd`` is negative or ``deadline_s`` is not positive.
            TypeError: A keyword or a tag has a wrong type.

        Example:
            ```python
            result = await service.arun("What is 17 * 3?", policy="careful", deadline_s=5)
            ```
        """
        if budget_usd is not None and not budget_usd >= 0:
            raise ValueError(f"budget_usd must be 0 or more, got {budget_usd!r}")
        if deadline_s is not None and not deadline_s > 0:
            raise ValueError(f"deadline_s must be more than 0, got {deadline_s!r}")
        question = Prompt.of(prompt, system=system, schema=schema, tools=tools)
        compiled = self._runtime.compile(policy)
        if compiled.tasks is not None:
            compiled = variant(compiled, question, tags)
        if compiled.routes is not None:
            compiled = routed(compiled, compiled.routes, question, tags)
        if self._tag_budgets:
            daily += tag_budgets(self._tag_budgets, tags)
        if budget_usd is not None or daily:
            check_priced(compiled)
        events = None if on_event is None else _events(compiled, on_event, stream)
        work = partial(
            run_tiers,
            compiled,
            question,
            budget_usd=budget_usd,
            deadline_s=deadline_s,
            events=events,
            request=request,
            daily=daily,
        )
        result = await self._observe("run", policy, compiled, question, work, tags, request=request)
        return result if events is None else events.run_finished(result)

    @overload
    def run(self, prompt: PromptLike, *, schema: type[SchemaT], **options: Unpack[RunOptions]) -> Result[SchemaT]: ...
    @overload
    def run(self, prompt: PromptLike, *, schema: Schema | None = None, **options: Unpack[RunOptions]) -> Result: ...
    def run(
        self,
        prompt: PromptLike,
        *,
        policy: str = "default",
        system: str | None = None,
        schema: Schema | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
        budget_usd: float | None = None,
        deadline_s: float | None = None,
        tags: Tags | None = None,
        on_event: OnEvent | None = None,
        stream: StreamMode | None = None,
        request: Request = DEFAULT_REQUEST,
        daily: SharedBudgets = (),
    ) -> Result:
        """``arun`` for code that is not async: same arguments, same result, same errors.

        Works in any thread, and inside a running event loop (which it blocks).

        Example:
            ```python
            result = service.run("Name a city.", schema=City)
            if result.accepted:
                print(result.parsed)
            ```
        """
        return wait_for(
            self.arun(
                prompt,
                policy=policy,
                system=system,
                schema=schema,
                tools=tools,
                budget_usd=budget_usd,
                deadline_s=deadline_s,
                tags=tags,
                on_event=on_event,
                stream=stream,
                request=request,
                daily=daily,
            )
        )

    def astream(
        self,
        prompt: PromptLike,
        *,
        policy: str = "default",
        system: str | None = None,
        schema: Schema | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
        budget_usd: float | None = None,
        deadline_s: float | None = None,
        tags: Tags | None = None,
        stream: StreamMode | None = None,
        request: Request = DEFAULT_REQUEST,
        daily: SharedBudgets = (),
    ) -> "AsyncGenerator[Event]":
        """``arun`` as events while it runs: same arguments, except that there is no ``on_event``.

        Closing the generator, or leaving its loop, cancels the run and its requests.

        Returns:
            The events in order. The last one is Finished, which holds the result. Whether text waits until its answer
            is accepted, or is sent at once and retracted if it is not, is the policy's ``stream``.

        Raises:
            CascadeError: What ``arun`` raises, after the events so far.

        Example:
            ```python
            async for event in service.astream("What is 17 * 3?"):
                if isinstance(event, cascade.Token):
                    print(event.text, end="")
            ```
        """
        from cascade.engine.streaming import events_of

        run = self._run_with_events(
            prompt,
            policy=policy,
            system=system,
            schema=schema,
            tools=tools,
            budget_usd=budget_usd,
            deadline_s=deadline_s,
            tags=tags,
            stream=stream,
            request=request,
            daily=daily,
        )
        return events_of(run)

    def stream(
        self,
        prompt: PromptLike,
        *,
        policy: str = "default",
        system: str | None = None,
        schema: Schema | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
        budget_usd: float | None = None,
        deadline_s: float | None = None,
        tags: Tags | None = None,
        stream: StreamMode | None = None,
        request: Request = DEFAULT_REQUEST,
        daily: SharedBudgets = (),
    ) -> "Generator[Event]":
        """``astream`` for code that is not async: same arguments, events and errors.

        The run starts when the first event is requested.

        Example:
            ```python
            for event in service.stream("What is 17 * 3?"):
                if isinstance(event, cascade.Finished):
                    print(event.result.text)
            ```
        """
        from cascade.engine.streaming import events_in_thread

        run = self._run_with_events(
            prompt,
            policy=policy,
            system=system,
            schema=schema,
            tools=tools,
            budget_usd=budget_usd,
            deadline_s=deadline_s,
            tags=tags,
            stream=stream,
            request=request,
            daily=daily,
        )
        return events_in_thread(run, background_loop)

    def _run_with_events(
        self, prompt: PromptLike, *, schema: Schema | None, **options: Unpack[StreamOptions]
    ) -> Callable[[OnEvent], Awaitable[Result]]:
        return lambda on_event: self.arun(prompt, on_event=on_event, schema=schema, **options)

    @overload
    async def agate(
        self, prompt: PromptLike, answer: str | Answer, *, schema: type[SchemaT], **options: Unpack[GateOptions]
    ) -> Result[SchemaT]: ...
    @overload
    async def agate(
        self,
        prompt: PromptLike,
        answer: str | Answer,
        *,
        schema: Schema | None = None,
        **options: Unpack[GateOptions],
    ) -> Result: ...
    async def agate(
        self,
        prompt: PromptLike,
        answer: str | Answer,
        *,
        policy: str = "default",
        tier: str | None = None,
        system: str | None = None,
        schema: Schema | None = None,
        tags: Tags | None = None,
        daily: SharedBudgets = (),
    ) -> Result:
        """Scores an answer that came from elsewhere by the judges and the threshold of one tier.

        No model answers the prompt. A judge may still call one (self_consistency, verifier); such calls are counted.

        Args:
            prompt: What was asked: text, chat messages in OpenAI's shape, or a Prompt.
            answer: The answer to score.
            policy: The policy's name.
            tier: The tier whose judges and threshold apply. Default: the first that the run's task asks.
            system: A system message, placed before the prompt's messages.
            schema: The shape of the answer: a pydantic model class or a JSON Schema.
            tags: The caller's own labels, kept in the journal. One may name the task, whose thresholds then apply.
            daily: Budgets in addition to the policy's own: (scope, USD per UTC day).

        Returns:
            The answer as it was given, with its confidence and whether it is accepted.

        Raises:
            PolicyError: There is no such policy or tier, or the task does not ask that tier.
            JournalError: The journal's durability is ``full`` and the record could not be written.
            TypeError: A keyword or a tag has a wrong type.

        Example:
            ```python
            result = await service.agate("What is 17 * 3?", "51")
            ```
        """
        question = Prompt.of(prompt, system=system, schema=schema)
        compiled = self._runtime.compile(policy)
        if compiled.tasks is not None:
            compiled = variant(compiled, question, tags)
        external_answer = read_answer(answer if isinstance(answer, Answer) else Answer(answer))
        judging_tier = tier_of(compiled, tier)
        if self._tag_budgets:
            daily += tag_budgets(self._tag_budgets, tags)
        if daily:
            check_priced(compiled)
        work = partial(gate_answer, compiled, judging_tier, question, external_answer, daily=daily)
        return await self._observe("gate", policy, compiled, question, work, tags)

    @overload
    def gate(
        self, prompt: PromptLike, answer: str | Answer, *, schema: type[SchemaT], **options: Unpack[GateOptions]
    ) -> Result[SchemaT]: ...
    @overload
    def gate(
        self,
        prompt: PromptLike,
        answer: str | Answer,
        *,
        schema: Schema | None = None,
        **options: Unpack[GateOptions],
    ) -> Result: ...
    def gate(
        self,
        prompt: PromptLike,
        answer: str | Answer,
        *,
        policy: str = "default",
        tier: str | None = None,
        system: str | None = None,
        schema: Schema | None = None,
        tags: Tags | None = None,
        daily: SharedBudgets = (),
    ) -> Result:
        """``agate`` for code that is not async: same arguments, same result, same errors.

        Example:
            ```python
            result = service.gate("What is 17 * 3?", "51", tier="small")
            ```
        """
        return wait_for(
            self.agate(prompt, answer, policy=policy, tier=tier, system=system, schema=schema, tags=tags, daily=daily)
        )

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
    ) -> Awaitable[Result]:
        """``work``, within its telemetry, its journal record and its line in the log; each adds a coroutine only if on."""
        if self._telemetry is None:
            run = self._record(kind, policy, compiled, question, work, tags, request=request)
        else:
            observer = self._telemetry.run(kind, policy, compiled, question)
            run = _observed(observer, lambda: self._record(kind, policy, compiled, question, work, tags, request=request))
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
    ) -> Awaitable[Result]:
        if self._journal is None:
            if tags:
                from cascade.journal.record import checked_tags

                checked_tags(tags)  # the same error as with a journal, so that switching one on breaks no caller
            return work()
        pending = self._journal.begin(kind, policy, compiled, question, tags)
        running = work(run_id=pending.run_id, attempts=pending.attempts)
        if compiled.shadow is None or self._shadower is None or kind != "run":
            return self._journal.record(pending, running)
        return self._shadower.record(self._journal, pending, running, compiled.shadow, request)

    def _new_shadower(self) -> "Shadower | None":
        """The shadower of the policies that are shadowed. Raises PolicyError where there is no journal for its records."""
        shadowing = [name for name, policy in self.policies.items() if policy.shadow is not None]
        if not shadowing:
            return None
        if self._journal is None:
            raise PolicyError(f"policies.{shadowing[0]}.shadow: needs a journal, which keeps its records; give journal=")
        from .shadow.promise_monitor import PromiseMonitor
        from .shadow.shadower import Shadower

        report = None if self._telemetry is None else self._telemetry.promise
        monitor = PromiseMonitor(self.policies, self._journal.promise_book(), self._runtime.replace_policy, report)
        on_outcome = None if self._telemetry is None else self._telemetry.shadow
        return Shadower(self._runtime.compile, self._journal.shadow_book(), shadowing, monitor, on_outcome)

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

    def feedback(self, run_id: str, *, quality: float, note: str | None = None) -> None:
        """``afeedback`` for code that is not async: same arguments, same errors."""
        self._needed_journal().feedback(run_id, quality, note)

    def _needed_journal(self) -> "Journal":
        if self._journal is None:
            raise JournalError("there is no journal; name one in the policy file: journal: {url: sqlite:///cascade.db}")
        return self._journal

    async def attempt(self, tier: str, prompt: PromptLike, *, policy: str = "default") -> Attempt:
        """Asks one tier and runs all its judges, without comparing anything with a threshold.

        Evaluation uses it: the scores of every judge are needed, whatever a threshold would have decided.

        Args:
            tier: The tier's name.
            prompt: Text, chat messages in OpenAI's shape, or a Prompt.
            policy: The policy's name.

        Returns:
            The attempt, with one entry in ``stages`` for each judge.

        Raises:
            PolicyError: There is no such policy or tier.
        """
        compiled = self._runtime.compile(policy)
        context = RunContext(compiled, Prompt.of(prompt), new_run_budget(compiled))
        attempt = TierAttempt(context, tier_of(compiled, tier), decides=False)
        await (attempt.run_with_others() if attempt.tier.other_models else attempt.run())
        return attempt.record()

    def follow(self, before: "Cascade") -> None:
        """Takes over what another Cascade knows of the models whose settings are the same; call it before any run.

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
        if self._own_journal and self._journal is not None:
            await asyncio.to_thread(self._journal.close)

    def close(self) -> None:
        """``aclose`` for code that is not async."""
        wait_for(self.aclose())

    def __enter__(self) -> "Cascade":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> "Cascade":
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


def _events(compiled: CompiledPolicy, on_event: OnEvent, stream: StreamMode | None) -> "EventStream":
    from cascade.engine.streaming import EventStream

    return EventStream(compiled.policy, on_event, stream)
