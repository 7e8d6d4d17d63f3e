"""Cascade: one policy file with its models, their connections and their state."""

from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack, overload

from cascade.engine.attempt import TierAttempt
from cascade.engine.calls import DEFAULT_REQUEST
from cascade.engine.canary import assigned, with_arm
from cascade.engine.plan import CompiledPolicy, new_run_budget, tag_budgets
from cascade.engine.prompts.embedding import read_embedding
from cascade.engine.routing import routed, tier_with_min_confidence, with_min_confidence
from cascade.engine.run import gate as gate_answer
from cascade.engine.run import run as run_tiers
from cascade.engine.run_context import RunContext
from cascade.engine.runtime import check_priced, tier_of
from cascade.engine.tasks import variant
from cascade.models.protocol import Request
from cascade.util.keywords import check_keywords, keywords_of
from judges import Answer, Prompt
from judges.reading import read_answer

from .options import (
    GateOptions,
    OnEvent,
    PromptLike,
    RunOptions,
    Schema,
    SchemaT,
    SharedBudgets,
    StreamMode,
    StreamOptions,
    Tags,
)
from .result import Attempt, Result
from .service import Service
from .sync import background_loop, wait_for

if TYPE_CHECKING:
    from cascade.engine.streaming import Event, EventStream


class Cascade(Service):
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
        min_confidence: float | None = None,
        max_latency_s: float | None = None,
        session: str | None = None,
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
            min_confidence: In [0, 1]: nothing below it is accepted, whatever the policy's thresholds say.
            max_latency_s: The seconds that this run should take. Tiers that are too slow for it are not asked, and the next
                tier is asked early where waiting for a verdict would miss it. ``deadline_s`` is what cuts a run short.
            session: The name of the conversation that the prompt continues, for a policy with ``sticky``.
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
            ValueError: ``budget_usd`` is negative, ``deadline_s`` or ``max_latency_s`` is not positive, or
                ``min_confidence`` is not in [0, 1].
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
        if max_latency_s is not None and not max_latency_s > 0:
            raise ValueError(f"max_latency_s must be more than 0, got {max_latency_s!r}")
        question = Prompt.of(prompt, system=system, schema=schema, tools=tools)
        compiled, assignment = self._runtime.compile(policy), None
        if compiled.canary is not None:
            compiled, assignment = assigned(compiled, compiled.canary, tags)
        if compiled.tasks is not None:
            compiled = variant(compiled, question, tags)
        if compiled.routes is not None:
            compiled = routed(compiled, compiled.routes, question, tags)
        turn = None
        if session is not None and compiled.sessions is not None:
            compiled, turn = compiled.sessions.begin(compiled, session, question)
        if min_confidence is not None:
            compiled = with_min_confidence(compiled, _probability(min_confidence))
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
            max_latency_s=max_latency_s,
        )
        if assignment is not None:
            work = partial(with_arm, work, assignment.arm)
        result = await self._observe("run", policy, compiled, question, work, tags, request=request, assignment=assignment)
        if turn is not None:
            turn.end(result)
        return result if events is None else events.run_finished(result)

    @overload
    def run(self, prompt: PromptLike, *, schema: type[SchemaT], **options: Unpack[RunOptions]) -> Result[SchemaT]: ...
    @overload
    def run(self, prompt: PromptLike, *, schema: Schema | None = None, **options: Unpack[RunOptions]) -> Result: ...
    @keywords_of(arun)
    def run(self, prompt: PromptLike, *, schema: Schema | None = None, **options: Unpack[RunOptions]) -> Result:
        """``arun`` for code that is not async: same arguments, same result, same errors.

        Works in any thread, and inside a running event loop (which it blocks).

        Args:
            prompt: Text, chat messages in OpenAI's shape, or a Prompt.
            schema: The shape of the answer: a pydantic model class (then ``result.parsed`` is one) or a JSON Schema.
                ``arun`` explains the other keywords.

        Returns:
            The judged answer. Check ``accepted`` before you use ``text``.

        Raises:
            CascadeError: As ``arun``: PolicyError, RunError and JournalError.
            ValueError: A limit is out of its range.
            TypeError: A keyword or a tag has a wrong type.

        Example:
            ```python
            result = service.run("Name a city.", schema=City)
            if result.accepted:
                print(result.parsed)
            ```
        """
        return wait_for(self.arun(prompt, schema=schema, **options))

    @keywords_of(arun, without=("on_event",))
    def astream(
        self, prompt: PromptLike, *, schema: Schema | None = None, **options: Unpack[StreamOptions]
    ) -> "AsyncGenerator[Event]":
        """``arun`` as events while it runs: same arguments, except that there is no ``on_event``.

        Closing the generator, or leaving its loop, cancels the run and its requests.

        Args:
            prompt: Text, chat messages in OpenAI's shape, or a Prompt.
            schema: The shape of the answer: a pydantic model class or a JSON Schema. ``arun`` explains the other keywords.

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

        check_keywords("astream", options, StreamOptions.__optional_keys__)
        return events_of(lambda on_event: self.arun(prompt, on_event=on_event, schema=schema, **options))

    @keywords_of(arun, without=("on_event",))
    def stream(
        self, prompt: PromptLike, *, schema: Schema | None = None, **options: Unpack[StreamOptions]
    ) -> "Generator[Event]":
        """``astream`` for code that is not async: same arguments, events and errors.

        The run starts when the first event is requested.

        Args:
            prompt: Text, chat messages in OpenAI's shape, or a Prompt.
            schema: The shape of the answer: a pydantic model class or a JSON Schema. ``arun`` explains the other keywords.

        Returns:
            The events in order, Finished last.

        Raises:
            CascadeError: What ``arun`` raises, after the events so far.

        Example:
            ```python
            for event in service.stream("What is 17 * 3?"):
                if isinstance(event, cascade.Finished):
                    print(event.result.text)
            ```
        """
        from cascade.engine.streaming import events_in_thread

        check_keywords("stream", options, StreamOptions.__optional_keys__)
        return events_in_thread(
            lambda on_event: self.arun(prompt, on_event=on_event, schema=schema, **options), background_loop
        )

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
        min_confidence: float | None = None,
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
            min_confidence: In [0, 1]: the answer is not accepted below it, whatever the tier's thresholds say.
            tags: The caller's own labels, kept in the journal. One may name the task, whose thresholds then apply.
            daily: Budgets in addition to the policy's own: (scope, USD per UTC day).

        Returns:
            The answer as it was given, with its confidence and whether it is accepted.

        Raises:
            PolicyError: There is no such policy or tier, or the task does not ask that tier.
            JournalError: The journal's durability is ``full`` and the record could not be written.
            ValueError: ``min_confidence`` is not in [0, 1].
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
        if min_confidence is not None:
            judging_tier = tier_with_min_confidence(judging_tier, _probability(min_confidence))
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
        self, prompt: PromptLike, answer: str | Answer, *, schema: Schema | None = None, **options: Unpack[GateOptions]
    ) -> Result: ...
    @keywords_of(agate)
    def gate(
        self, prompt: PromptLike, answer: str | Answer, *, schema: Schema | None = None, **options: Unpack[GateOptions]
    ) -> Result:
        """``agate`` for code that is not async: same arguments, same result, same errors.

        Args:
            prompt: What was asked: text, chat messages in OpenAI's shape, or a Prompt.
            answer: The answer to score.
            schema: The shape of the answer: a pydantic model class or a JSON Schema. ``agate`` explains the other keywords.

        Returns:
            The answer as it was given, with its confidence and whether it is accepted.

        Raises:
            CascadeError: As ``agate``: PolicyError and JournalError.
            ValueError: ``min_confidence`` is not in [0, 1].
            TypeError: A keyword or a tag has a wrong type.

        Example:
            ```python
            result = service.gate("What is 17 * 3?", "51", tier="small")
            ```
        """
        return wait_for(self.agate(prompt, answer, schema=schema, **options))

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
        compiled_tier = tier_of(compiled, tier)
        embedding_calls = None if compiled.embedder is None else await read_embedding(context, of_tiers=(compiled_tier,))
        attempt = TierAttempt(context, compiled_tier, decides=False)
        await (attempt.run_with_others() if attempt.tier.asks_others else attempt.run())
        record = attempt.record()
        return record if embedding_calls is None else embedding_calls.counted_in(record)


def _probability(min_confidence: float) -> float:
    if not 0.0 <= min_confidence <= 1.0:
        raise ValueError(f"min_confidence must be from 0 to 1, got {min_confidence!r}")
    return min_confidence


def _events(compiled: CompiledPolicy, on_event: OnEvent, stream: StreamMode | None) -> "EventStream":
    from cascade.engine.streaming import EventStream

    return EventStream(compiled.policy, on_event, stream)
