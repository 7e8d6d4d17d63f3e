"""run, stream, gate, feedback and their async forms, on one Cascade for each policy file that the process uses."""

import atexit
import os
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Unpack, overload

from cascade.util.keywords import keywords_of
from judges import Answer

from .client import Cascade
from .options import (
    GateOptions,
    PathLike,
    PromptLike,
    RunOptions,
    Schema,
    SchemaT,
    StreamOptions,
)
from .policy import load as policy_files
from .result import Result

if TYPE_CHECKING:
    from cascade.engine.streaming import Event

_lock = threading.Lock()
_shared: dict[Path, Cascade] = {}
_process = os.getpid()


def _close_connections() -> None:
    """When the process exits: closes what nobody else can close, and what would be reported as not closed."""
    if os.getpid() != _process:
        return  # the connections are those of the parent process
    for service in _shared.values():
        with suppress(Exception):
            service._close_connections(_EXIT_S)


_EXIT_S = 1.0
atexit.register(_close_connections)


def _default(file: PathLike | None) -> Cascade:
    """The process's Cascade of that policy file."""
    path = policy_files.find(file).resolve()
    with _lock:
        service = _shared.get(path)
    if service is None:
        service = Cascade(path)
        with _lock:
            service = _shared.setdefault(path, service)
    return service


@overload
def run(
    prompt: PromptLike,
    *,
    schema: type[SchemaT],
    policy_file: PathLike | None = None,
    **options: Unpack[RunOptions],
) -> Result[SchemaT]: ...
@overload
def run(
    prompt: PromptLike,
    *,
    schema: Schema | None = None,
    policy_file: PathLike | None = None,
    **options: Unpack[RunOptions],
) -> Result: ...
@keywords_of(Cascade.run)
def run(
    prompt: PromptLike,
    *,
    schema: Schema | None = None,
    policy_file: PathLike | None = None,
    **options: Unpack[RunOptions],
) -> Result:
    """Asks the cheapest tier first and escalates until an answer is accepted.

    Runs on a Cascade that the process shares: a policy file is read once. Works in any thread, and inside a running event
    loop (which it blocks).

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
        on_event: Called with each event of the run as it happens; see ``stream``.
        stream: When text becomes an event, in place of the policy's ``stream``.
        request: How the tiers' models are asked: maximum tokens, temperature, further provider options.
        daily: Budgets in addition to the policy's own: (scope, USD per UTC day).
        policy_file: The policy file. Default: CASCADE_POLICIES, else ./policies.yaml, else the packaged default.

    Returns:
        The judged answer. Check ``accepted`` before you use ``text``.

    Raises:
        PolicyError: The policy file is missing or wrong, there is no such policy, or its budget cannot be enforced.
        RunError: No answer may be returned; ProviderError, BudgetError, DeadlineError and UnsureError say why.
        JournalError: The journal cannot be opened, or its durability is ``full`` and the record could not be written.
        ValueError: ``budget_usd`` is negative, ``deadline_s`` or ``max_latency_s`` is not positive, or ``min_confidence`` is
            not in [0, 1].
        TypeError: A keyword or a tag has a wrong type.

    Example:
        ```python
        result = cascade.run("What is 17 * 3?", deadline_s=5)
        if result.accepted:
            print(result.text)
        ```
    """
    return _default(policy_file).run(prompt, schema=schema, **options)


@overload
async def arun(
    prompt: PromptLike,
    *,
    schema: type[SchemaT],
    policy_file: PathLike | None = None,
    **options: Unpack[RunOptions],
) -> Result[SchemaT]: ...
@overload
async def arun(
    prompt: PromptLike,
    *,
    schema: Schema | None = None,
    policy_file: PathLike | None = None,
    **options: Unpack[RunOptions],
) -> Result: ...
@keywords_of(Cascade.arun)
async def arun(
    prompt: PromptLike,
    *,
    schema: Schema | None = None,
    policy_file: PathLike | None = None,
    **options: Unpack[RunOptions],
) -> Result:
    """``run`` for async code: same arguments, same result, same errors.

    Args:
        prompt: Text, chat messages in OpenAI's shape, or a Prompt.
        schema: The shape of the answer: a pydantic model class (then ``result.parsed`` is one) or a JSON Schema.
        policy_file: The policy file. Default: as for ``run``, which explains the other keywords, too.

    Returns:
        The judged answer. Check ``accepted`` before you use ``text``.

    Raises:
        CascadeError: As ``run``: PolicyError, RunError and JournalError.
        ValueError: A limit is out of its range.
        TypeError: A keyword or a tag has a wrong type.

    Example:
        ```python
        result = await cascade.arun("Name a city.", schema=City)
        ```
    """
    return await _default(policy_file).arun(prompt, schema=schema, **options)


@keywords_of(Cascade.stream)
def stream(
    prompt: PromptLike,
    *,
    schema: Schema | None = None,
    policy_file: PathLike | None = None,
    **options: Unpack[StreamOptions],
) -> "Generator[Event]":
    """``run`` as events while it runs: same arguments, except that there is no ``on_event``.

    The run starts when the first event is requested. Closing the generator cancels it.

    Args:
        prompt: Text, chat messages in OpenAI's shape, or a Prompt.
        schema: The shape of the answer: a pydantic model class or a JSON Schema.
        policy_file: The policy file. Default: as for ``run``, which explains the other keywords, too.

    Returns:
        The events in order. The last one is Finished, which holds the result. Whether text waits until its answer is
        accepted, or is sent at once and retracted if it is not, is the policy's ``stream``.

    Raises:
        CascadeError: What ``run`` raises, after the events so far.

    Example:
        ```python
        for event in cascade.stream("What is 17 * 3?"):
            if isinstance(event, cascade.Token):
                print(event.text, end="")
        ```
    """
    return _default(policy_file).stream(prompt, schema=schema, **options)


@keywords_of(Cascade.astream)
def astream(
    prompt: PromptLike,
    *,
    schema: Schema | None = None,
    policy_file: PathLike | None = None,
    **options: Unpack[StreamOptions],
) -> "AsyncGenerator[Event]":
    """``stream`` for async code: same arguments, events and errors.

    Args:
        prompt: Text, chat messages in OpenAI's shape, or a Prompt.
        schema: The shape of the answer: a pydantic model class or a JSON Schema.
        policy_file: The policy file. Default: as for ``run``, which explains the other keywords, too.

    Returns:
        The events in order, Finished last. Close it with ``contextlib.aclosing`` where you may leave its loop early.

    Raises:
        CascadeError: What ``run`` raises, after the events so far.

    Example:
        ```python
        async for event in cascade.astream("What is 17 * 3?"):
            if isinstance(event, cascade.Finished):
                print(event.result.text)
        ```
    """
    return _default(policy_file).astream(prompt, schema=schema, **options)


@overload
def gate(
    prompt: PromptLike,
    answer: str | Answer,
    *,
    schema: type[SchemaT],
    policy_file: PathLike | None = None,
    **options: Unpack[GateOptions],
) -> Result[SchemaT]: ...
@overload
def gate(
    prompt: PromptLike,
    answer: str | Answer,
    *,
    schema: Schema | None = None,
    policy_file: PathLike | None = None,
    **options: Unpack[GateOptions],
) -> Result: ...
@keywords_of(Cascade.gate)
def gate(
    prompt: PromptLike,
    answer: str | Answer,
    *,
    schema: Schema | None = None,
    policy_file: PathLike | None = None,
    **options: Unpack[GateOptions],
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
        policy_file: The policy file. Default: CASCADE_POLICIES, else ./policies.yaml, else the packaged default.

    Returns:
        The answer as it was given, with its confidence and whether it is accepted.

    Raises:
        PolicyError: The policy file is missing or wrong, or there is no such policy or tier, or the task does not ask it.
        JournalError: The journal cannot be opened, or its durability is ``full`` and the record could not be written.
        ValueError: ``min_confidence`` is not in [0, 1].
        TypeError: A keyword or a tag has a wrong type.

    Example:
        ```python
        result = cascade.gate("What is 17 * 3?", "51")
        ```
    """
    return _default(policy_file).gate(prompt, answer, schema=schema, **options)


@overload
async def agate(
    prompt: PromptLike,
    answer: str | Answer,
    *,
    schema: type[SchemaT],
    policy_file: PathLike | None = None,
    **options: Unpack[GateOptions],
) -> Result[SchemaT]: ...
@overload
async def agate(
    prompt: PromptLike,
    answer: str | Answer,
    *,
    schema: Schema | None = None,
    policy_file: PathLike | None = None,
    **options: Unpack[GateOptions],
) -> Result: ...
@keywords_of(Cascade.agate)
async def agate(
    prompt: PromptLike,
    answer: str | Answer,
    *,
    schema: Schema | None = None,
    policy_file: PathLike | None = None,
    **options: Unpack[GateOptions],
) -> Result:
    """``gate`` for async code: same arguments, same result, same errors.

    Args:
        prompt: What was asked: text, chat messages in OpenAI's shape, or a Prompt.
        answer: The answer to score.
        schema: The shape of the answer: a pydantic model class or a JSON Schema.
        policy_file: The policy file. Default: as for ``gate``, which explains the other keywords, too.

    Returns:
        The answer as it was given, with its confidence and whether it is accepted.

    Raises:
        CascadeError: As ``gate``: PolicyError and JournalError.
        ValueError: ``min_confidence`` is not in [0, 1].
        TypeError: A keyword or a tag has a wrong type.

    Example:
        ```python
        result = await cascade.agate("What is 17 * 3?", "51")
        ```
    """
    return await _default(policy_file).agate(prompt, answer, schema=schema, **options)


def feedback(run_id: str, *, quality: float, note: str | None = None, policy_file: PathLike | None = None) -> None:
    """Attaches to a run's record how good its answer proved; every call is kept, the last one counts.

    Args:
        run_id: The ``run_id`` of a result.
        quality: In [0, 1]: 0 is wrong, 1 is right.
        note: A remark.
        policy_file: The policy file whose journal holds the run. Default: as for ``run``.

    Raises:
        ValueError: ``quality`` is not in [0, 1].
        JournalError: There is no journal, or no such run in it.

    Example:
        ```python
        cascade.feedback(result.run_id, quality=1.0)
        ```
    """
    _default(policy_file).feedback(run_id, quality=quality, note=note)


async def afeedback(run_id: str, *, quality: float, note: str | None = None, policy_file: PathLike | None = None) -> None:
    """``feedback`` for async code: same arguments, same errors.

    Args:
        run_id: The ``run_id`` of a result.
        quality: In [0, 1]: 0 is wrong, 1 is right.
        note: A remark.
        policy_file: The policy file whose journal holds the run. Default: as for ``run``.

    Raises:
        ValueError: ``quality`` is not in [0, 1].
        JournalError: There is no journal, or no such run in it.

    Example:
        ```python
        await cascade.afeedback(result.run_id, quality=1.0)
        ```
    """
    await _default(policy_file).afeedback(run_id, quality=quality, note=note)
