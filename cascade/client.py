"""Cascade: a service's own instance, with its models, their connections and their state."""

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from cascade.costs.budget import Ledger, MemoryLedger
from cascade.engine.attempt import TierAttempt
from cascade.engine.calls import DEFAULT_REQUEST
from cascade.engine.plan import CompiledPolicy, DailyBudgets, spend_of
from cascade.engine.run import gate as gate_answer
from cascade.engine.run import run as run_ladder
from cascade.engine.runtime import Runtime, check_priced, tier_of, unpriced
from cascade.models.protocol import Model, Request
from cascade.policy.journal_config import JournalSpec
from cascade.policy.schema import ModelSpec, Policy, PolicyFile, Stream, TelemetrySpec
from cascade.resilience.guard import ModelHealth
from judges import Answer, Message, Prompt

from .errors import JournalError, PolicyError
from .policy import load as files
from .result import Attempt, Result
from .sync import background_loop, wait_for

if TYPE_CHECKING:
    from cascade.engine.streaming import Event, EventStream, OnEvent
    from cascade.journal.journal import Journal
    from cascade.journal.record import Kind, Tag

    from .telemetry import Telemetry

PromptLike = str | Sequence[Message] | Prompt
PolicySource = Policy | PolicyFile | str | os.PathLike[str] | None


class Cascade:
    """A service's own instance: one policy file, its models and their connections.

    ``source`` is a PolicyFile, one Policy (then known as "default"), a path, or None for the usual search (CASCADE_POLICIES,
    ./policies.yaml, the packaged default). ``models`` gives models by name and takes precedence over the file's. Safe for
    many runs at once, from any number of event loops and threads: each loop gets its own connections. ``journal`` (a URL, a
    JournalSpec or a Journal, which is left open) and ``telemetry`` take precedence over the file's. ``ledger`` keeps the
    day's budgets (default: the journal's, else one of this instance alone). Close it with ``with``, ``async with``,
    ``close()`` or ``aclose()``. Raises PolicyError, and JournalError for a journal that cannot be opened.
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
        given = dict(models or {})
        specs: Mapping[str, ModelSpec] = {}
        usd_per_day: float | None = None
        if isinstance(source, Policy):
            self.policies: Mapping[str, Policy] = {"default": source}
            missing = [m for t in source.tiers for m in (t.model, *t.fallbacks) if m not in given]
            if missing:
                raise PolicyError(f"a Policy alone needs its models: give models={{...}} for {', '.join(missing)}")
        else:
            file = source if isinstance(source, PolicyFile) else files.load(source)
            self.policies, specs, usd_per_day = file.policies, file.models, file.budget_usd_per_day
            journal = file.journal if journal is None else journal
            telemetry = file.telemetry if telemetry is None else telemetry
        self._own_journal = isinstance(journal, JournalSpec | str)
        self._journal = _journal(journal)
        own = MemoryLedger() if self._journal is None else self._journal.ledger
        self.ledger: Ledger = own if ledger is None else ledger
        """Keeps what the day's budgets have spent."""
        self._telemetry = _telemetry(telemetry)
        self._rooms = Runtime(self.policies, specs, given, self.ledger, self._telemetry, usd_per_day)

    async def arun(
        self,
        prompt: PromptLike,
        *,
        policy: str = "default",
        system: str | None = None,
        schema: Any = None,
        tools: Sequence[Mapping[str, Any]] = (),
        budget_usd: float | None = None,
        deadline_s: float | None = None,
        tags: "Mapping[str, Tag] | None" = None,
        on_event: "OnEvent | None" = None,
        stream: Stream | None = None,
        request: Request = DEFAULT_REQUEST,
        daily: DailyBudgets = (),
    ) -> Result:
        """Asks the cheapest tier first and climbs until an answer is accepted.

        ``prompt`` is text, chat messages in OpenAI's shape, or a Prompt; ``schema`` a JSON Schema or a pydantic model class;
        ``policy`` a policy's name, or ``policy/tier`` for that tier alone. ``budget_usd`` and ``deadline_s`` replace the
        policy's own limits for this run, ``stream`` its rule for streamed text; ``daily`` are budgets (scope, USD a UTC day)
        beside the policy's. ``request`` is how the tiers' models are asked, and further samples of their answers: most
        tokens, temperature, options in OpenAI's words. ``tags`` (texts, numbers and truth values by name) are the caller's
        own, for the journal. ``on_event`` is called with each event of the run as it happens (see ``astream``). Raises
        PolicyError for an unknown policy, RunError where no answer may be returned, and JournalError where the journal's
        durability is ``full`` and the record was not kept.
        """
        if budget_usd is not None and not budget_usd >= 0:
            raise ValueError(f"budget_usd must be 0 or more, got {budget_usd!r}")
        if deadline_s is not None and not deadline_s > 0:
            raise ValueError(f"deadline_s must be more than 0, got {deadline_s!r}")
        asked = Prompt.of(prompt, system=system, schema=schema, tools=tools)
        ladder = self._rooms.ladder(policy)
        if budget_usd is not None or daily:
            check_priced(ladder)
        feed = None if on_event is None else _feed(ladder, on_event, stream)
        work = partial(
            run_ladder, ladder, asked, budget_usd=budget_usd, deadline_s=deadline_s, feed=feed, request=request, daily=daily
        )
        if self._telemetry is None:
            result = await self._kept("run", policy, ladder, asked, work, tags)
        else:
            with self._telemetry.run("run", policy, ladder, asked) as told:
                result = told.result = await self._kept("run", policy, ladder, asked, work, tags)
        return result if feed is None else feed.finished(result)

    async def _kept(
        self,
        kind: "Kind",
        policy: str,
        ladder: CompiledPolicy,
        asked: Prompt,
        work: Callable[..., Awaitable[Result]],
        tags: "Mapping[str, Tag] | None",
    ) -> Result:
        if self._journal is None:
            if tags:
                from cascade.journal.record import checked_tags

                checked_tags(tags)  # the same error as with a journal, so that switching one on breaks no caller
            return await work()
        kept = self._journal.begin(kind, policy, ladder, asked, tags)
        return await self._journal.record(kept, work(run_id=kept.run_id, attempts=kept.attempts))

    def follow(self, before: "Cascade") -> None:
        """Takes the place of another Cascade, before any run: what is known of the models whose settings are the same stays
        known (circuit breakers, limits on concurrency and rate, latencies)."""
        self._rooms.follow(before._rooms)

    def run(self, prompt: PromptLike, **options: Any) -> Result:
        """``arun`` for code that is not async; works in threads and inside a running event loop (which it blocks)."""
        return wait_for(self.arun(prompt, **options))

    def astream(self, prompt: PromptLike, **options: Any) -> "AsyncGenerator[Event]":
        """``arun`` as events while it runs, the last of them Finished with the result; takes what ``arun`` takes.

        Text is held back until its answer is accepted, or retracted if it is not: the policy's ``stream`` says which.
        Closing the generator, or leaving its loop, cancels the run and its requests. Raises what ``arun`` raises, after the
        events.
        """
        from cascade.engine.streaming import as_they_come

        return as_they_come(lambda on_event: self.arun(prompt, on_event=on_event, **options))

    def stream(self, prompt: PromptLike, **options: Any) -> "Generator[Event]":
        """``astream`` for code that is not async; the run begins when the first event is asked for."""
        from cascade.engine.streaming import in_thread

        return in_thread(lambda on_event: self.arun(prompt, on_event=on_event, **options), background_loop)

    async def agate(
        self,
        prompt: PromptLike,
        answer: str | Answer,
        *,
        policy: str = "default",
        tier: str | None = None,
        system: str | None = None,
        schema: Any = None,
        tags: "Mapping[str, Tag] | None" = None,
        daily: DailyBudgets = (),
    ) -> Result:
        """Scores an answer that came from elsewhere by the judges and the threshold of ``tier`` (default: the first).

        No model answers the prompt; a judge may still ask one (self-consistency, verifier), which is counted, also against
        the budgets ``daily`` (scope, USD a UTC day).
        """
        asked = Prompt.of(prompt, system=system, schema=schema)
        ladder = self._rooms.ladder(policy)
        given = answer if isinstance(answer, Answer) else Answer(answer)
        judging = tier_of(ladder, tier)
        if daily:
            check_priced(ladder)
        work = partial(gate_answer, ladder, judging, asked, given, daily=daily)
        if self._telemetry is None:
            return await self._kept("gate", policy, ladder, asked, work, tags)
        with self._telemetry.run("gate", policy, ladder, asked) as told:
            result = told.result = await self._kept("gate", policy, ladder, asked, work, tags)
        return result

    def gate(self, prompt: PromptLike, answer: str | Answer, **options: Any) -> Result:
        """``agate`` for code that is not async."""
        return wait_for(self.agate(prompt, answer, **options))

    async def afeedback(self, run_id: str, *, quality: float, note: str | None = None) -> None:
        """Attaches what later proved true of a run's answer to its record; several are kept, the last one counts.

        ``quality`` is in [0, 1]. Raises ValueError for a wrong one, and JournalError where there is no journal or no such
        run in it.
        """
        await self._needed_journal().afeedback(run_id, quality, note)

    def feedback(self, run_id: str, *, quality: float, note: str | None = None) -> None:
        """``afeedback`` for code that is not async."""
        self._needed_journal().feedback(run_id, quality, note)

    def health(self) -> dict[str, ModelHealth]:
        """How each model that was asked so far does, by its name in the policy file."""
        return self._rooms.health()

    def _needed_journal(self) -> "Journal":
        if self._journal is None:
            raise JournalError("there is no journal; name one in the policy file: journal: {url: sqlite:///cascade.db}")
        return self._journal

    async def attempt(self, tier: str, prompt: PromptLike, *, policy: str = "default") -> Attempt:
        """Asks one tier and runs all its judges, comparing nothing with a threshold: what evaluation needs."""
        ladder = self._rooms.ladder(policy)
        trial = TierAttempt(
            ladder,
            tier_of(ladder, tier),
            Prompt.of(prompt),
            spend_of(ladder),
            decided=False,
        )
        await trial.run()
        return trial.record()

    def unpriced(self, policy: str) -> list[str]:
        """The models of a policy of which nobody can say what an answer costs at most: under a budget it cannot be asked.

        Raises PolicyError.
        """
        return unpriced(self._rooms.ladder(policy))

    async def prepare(self, policy: str) -> None:
        """Makes a policy's models and judges in this event loop, as its first run would. Raises PolicyError."""
        self._rooms.ladder(policy)

    def policy(self, name: str) -> Policy:
        """The policy of that name; ``policy/tier`` is the policy with that tier alone. Raises PolicyError."""
        return self._rooms.policy(name)

    async def aclose(self) -> None:
        """Closes every model's connections and writes the journal's last records; runs still under way fail."""
        await self._rooms.aclose()
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


def _journal(given: "Journal | JournalSpec | str | None") -> "Journal | None":
    if given is None or (isinstance(given, JournalSpec) and given.durability == "off"):
        return None
    from cascade.journal.journal import Journal

    return given if isinstance(given, Journal) else Journal(given)


def _telemetry(given: "Telemetry | TelemetrySpec | None") -> "Telemetry | None":
    if given is None or (isinstance(given, TelemetrySpec) and not (given.traces or given.metrics)):
        return None
    from .telemetry import Telemetry

    return given if isinstance(given, Telemetry) else Telemetry(**given.model_dump())


def _feed(ladder: CompiledPolicy, on_event: "OnEvent", stream: Stream | None) -> "EventStream":
    from cascade.engine.streaming import EventStream

    return EventStream(ladder.policy, on_event, stream)
