"""Runs a policy: calls the tiers in turn until an answer is accepted. And the gate: scores an answer that exists already."""

import asyncio
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from cascade.errors import BudgetError, DeadlineError, ProviderError, RunError, UnsureError
from cascade.models.protocol import Request
from cascade.policy.schema import Policy
from cascade.policy.vote_spec import VoteSpec
from cascade.resilience.deadline import run_until
from cascade.result import ANSWERED, NOT_ASKED, Action, Attempt, Reason, Result, VoteCount, new_run_id
from judges import Answer, Prompt
from judges.votes import EMPTY, cluster_key

from .attempt import TierAttempt
from .calls import DEFAULT_REQUEST
from .decide import decide_last, decide_vote
from .plan import CompiledPolicy, CompiledTier, DailyBudgets, new_run_budget
from .prompts.embedding import read_embedding
from .run_ahead import STOPS, run_tiers_ahead
from .run_context import RunContext

if TYPE_CHECKING:
    from .streaming import EventStream


async def run(
    compiled: CompiledPolicy,
    prompt: Prompt,
    *,
    budget_usd: float | None = None,
    deadline_s: float | None = None,
    run_id: str | None = None,
    attempts: list[Attempt] | None = None,
    events: "EventStream | None" = None,
    request: Request = DEFAULT_REQUEST,
    daily: DailyBudgets = (),
    max_latency_s: float | None = None,
) -> Result:
    """Calls the tiers in order until an answer is accepted or a limit is reached.

    Args:
        compiled: The policy.
        prompt: What is asked.
        budget_usd: The most that the run may spend, in place of the policy's.
        deadline_s: The most seconds that the run may take, in place of the policy's.
        run_id: The run's id; None: a new one.
        attempts: A list that is filled while the run proceeds, so that the caller has the attempts even of a run that was
            cancelled.
        events: Receives the run's events, and calls the tiers' models as streams.
        request: How the tiers' models are called.
        daily: Daily budgets in addition to the policy's own, which the run shares with other runs.
        max_latency_s: The seconds that the run should take; tiers that are too slow for it are not asked.

    Returns:
        The judged answer, as the policy's ``when_unsure`` says where it is not accepted.

    Raises:
        RunError: No answer may be returned.
    """
    run_id = run_id or new_run_id()
    policy = compiled.policy
    seconds = policy.deadline_s if deadline_s is None else deadline_s
    budget = new_run_budget(compiled, budget_usd, daily)
    attempts = [] if attempts is None else attempts
    tier_attempts: list[TierAttempt] = []
    deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds
    context = RunContext(compiled, prompt, budget, deadline, attempts=attempts, events=events, request=request)
    if compiled.is_plain and max_latency_s is None:
        work = _run_tiers(context, attempts, tier_attempts)
    elif compiled.embedder is None:
        work = run_tiers_ahead(context, attempts, tier_attempts, max_latency_s)
    else:
        work = _run_with_embedding(context, attempts, tier_attempts, max_latency_s)
    if deadline is None:
        reason = await work
    else:
        reason = await run_until(deadline, work) or "deadline"
        if len(attempts) < len(tier_attempts):  # the last one ignores its cancellation; it may spend nothing more
            attempts.append(tier_attempts[-1].record())
            budget.closed = True
    if policy.final == "vote":
        attempts[:] = clustered(attempts)
    return finish(policy, attempts, reason, budget.usd, run_id)


async def _run_tiers(context: RunContext, attempts: list[Attempt], tier_attempts: list[TierAttempt]) -> Reason:
    """Runs the tiers, adds to ``attempts`` and ``tier_attempts``, and returns why the run ended."""
    tiers, budget, events = context.compiled.tiers, context.budget, context.events
    last = len(tiers) - 1
    reason: Reason = "unsure"
    for i, tier in enumerate(tiers):
        attempt = TierAttempt(context, tier, last - i)
        tier_attempts.append(attempt)
        if tier.thresholds.skip_below is not None and attempt.is_skipped():
            attempts.append(attempt.record())
            continue
        try:
            await (attempt.run_with_others() if tier.asks_others else attempt.run())
        finally:
            # A cancelled attempt keeps its answer: it may be the best that the deadline allowed.
            if not budget.closed:
                attempts.append(attempt.record())
        reason = attempt.reason
        stops = i == last or reason in STOPS
        if events is not None:
            events.tier_ended(attempts[-1], None if stops else tiers[i + 1].name)
        if stops:
            break
    return reason


async def _run_with_embedding(
    context: RunContext, attempts: list[Attempt], tier_attempts: list[TierAttempt], max_latency_s: float | None
) -> Reason:
    """Asks for the prompt's embedding, then runs the tiers; the first attempt's cost and latency include the embedding."""
    embedding_calls = await read_embedding(context, max_latency_s)
    try:
        if max_latency_s is not None or context.compiled.speculates:
            left_s = None if max_latency_s is None else max(0.001, max_latency_s - embedding_calls.elapsed_s)
            return await run_tiers_ahead(context, attempts, tier_attempts, left_s)
        return await _run_tiers(context, attempts, tier_attempts)
    finally:
        if attempts:
            attempts[0] = embedding_calls.counted_in(attempts[0])


async def gate(
    compiled: CompiledPolicy,
    tier: CompiledTier,
    prompt: Prompt,
    answer: Answer,
    *,
    run_id: str | None = None,
    attempts: list[Attempt] | None = None,
    daily: DailyBudgets = (),
) -> Result:
    """Scores an answer from elsewhere by the tier's judges and thresholds.

    Args:
        compiled: The policy.
        tier: The tier of the policy whose judges score the answer.
        prompt: What was asked.
        answer: The answer to score.
        run_id: As for ``run``.
        attempts: As for ``run``.
        daily: As for ``run``.

    Returns:
        The answer, whether it is accepted or not.
    """
    attempts = [] if attempts is None else attempts
    seconds, budget = compiled.policy.deadline_s, new_run_budget(compiled, daily=daily)
    deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds
    context = RunContext(compiled, prompt, budget, deadline)
    embedding_calls = None if compiled.embedder is None else await read_embedding(context, of_tiers=(tier,))
    attempt = TierAttempt(context, tier, external_answer=True)
    try:
        await (attempt.judge(answer) if deadline is None else run_until(deadline, attempt.judge(answer)))
    finally:
        budget.closed = True
        record = attempt.record()
        attempts.append(record if embedding_calls is None else embedding_calls.counted_in(record))
    policy = compiled.policy.model_copy(update={"when_unsure": "best"})
    return finish(policy, attempts, attempt.reason, attempts[-1].cost_usd, run_id)


_VOTE = VoteSpec.model_validate({})
_DECIDED = ANSWERED | {"unsure", "vetoed"}
"""The reasons of an attempt whose answer was judged to the end."""


def finish(
    policy: Policy, attempts: Sequence[Attempt], reason: Reason, usd: float | None, run_id: str | None = None
) -> Result:
    """The result of a run that made ``attempts`` and ended for ``reason``. Raises RunError where nothing was answered."""
    done = tuple(attempts)
    run_id = run_id or new_run_id()
    latency = sum(a.latency_s for a in done)
    chosen = done[-1] if reason in ANSWERED else best(done)
    if chosen is None:
        raise _nothing(reason, done, run_id)
    confidence, is_calibrated, counted = chosen.confidence, chosen.calibrated, None
    if policy.final != "last":
        last = policy.tiers[-1]
        at_last = done[-1].tier == last.name and reason in _DECIDED and done[-1].reason not in NOT_ASKED
        if at_last:  # it was asked and judged: its answer is only one of those that may be the best
            chosen = best(done) or chosen
            confidence, is_calibrated = chosen.confidence, chosen.calibrated
        if policy.final == "vote" and (at_last or reason not in ANSWERED):
            chosen, confidence, is_calibrated, counted = _voted(policy, done, chosen)
        if at_last:
            accept_at = max(last.accept_at, done[-1].min_confidence or 0.0)
            if decide_last(accept_at, confidence, vetoed=chosen.vetoed) is Action.ACCEPT:
                reason = "accepted" if chosen.judged else "last_tier"
            elif reason in ANSWERED:  # the last tier was sure enough, but the others contradict it
                reason = "unsure"
    answer = chosen.answer
    assert answer is not None
    result: Result = Result(
        text=answer.text,
        parsed=answer.parsed,
        confidence=confidence,
        accepted=reason == "accepted",
        tier=chosen.tier,
        model=chosen.model,
        cost_usd=usd,
        latency_s=latency,
        attempts=done,
        reason=reason,
        run_id=run_id,
        answer=answer,
        calibrated=is_calibrated,
        judged=reason == "accepted" or chosen.judged,
        vote=counted,
    )
    if reason in ANSWERED or policy.when_unsure == "best":
        return result
    if policy.when_unsure == "raise":
        raise UnsureError(f"no answer was accepted ({reason}); best confidence {confidence:.2f}", result)
    return replace(result, text="", parsed=None, answer=None)


def clustered(attempts: Sequence[Attempt]) -> list[Attempt]:
    """The attempts with numbers that are equal where their answers say the same; an empty answer has none."""
    numbers: dict[Hashable, int] = {}
    result = []
    for attempt in attempts:
        key = EMPTY if attempt.answer is None else cluster_key(attempt.answer)
        number = None if key == EMPTY else numbers.setdefault(key, len(numbers))
        result.append(attempt if number is None else replace(attempt, cluster=number))
    return result


def _voted(policy: Policy, attempts: Sequence[Attempt], otherwise: Attempt) -> tuple[Attempt, float, bool, VoteCount | None]:
    """The attempt whose answer wins the vote, its posterior, whether all votes are calibrated, and the count.

    Args:
        policy: The policy.
        attempts: The run's attempts; those with a veto have no vote.
        otherwise: The attempt that is chosen where none has a vote.
    """
    spec = policy.vote or _VOTE
    clusters = [None if a.vetoed or a.answer is None else a.cluster for a in attempts]
    confidences = [a.confidence for a in attempts]
    winner = decide_vote(confidences, clusters, alternatives=spec.alternatives, exponent=spec.exponent)
    if winner is None:
        return otherwise, otherwise.confidence, otherwise.calibrated, None
    place, posterior = winner
    voters = [(a, cluster) for a, cluster in zip(attempts, clusters, strict=True) if cluster is not None]
    count = VoteCount(
        agree=sum(cluster == clusters[place] for _, cluster in voters),
        answers=len(voters),
        clusters=len({cluster for _, cluster in voters}),
    )
    return attempts[place], posterior, all(a.calibrated for a, _ in voters), count


def best(attempts: Sequence[Attempt]) -> Attempt | None:
    """The best answer so far: one without a veto before one with, then the most confident, then the highest tier."""
    answered = [(not a.vetoed, a.confidence, i) for i, a in enumerate(attempts) if a.answer is not None]
    return attempts[max(answered)[2]] if answered else None


def _nothing(reason: Reason, attempts: tuple[Attempt, ...], run_id: str) -> RunError:
    tried = "; ".join(f"{a.tier} ({a.model}): {_failures(a)}" for a in attempts) or "nothing was tried"
    if reason == "deadline":
        return DeadlineError(f"the deadline passed before any answer: {tried}", attempts, run_id)
    # A provider that failed is the cause, not the limit that then allowed no other model to be called.
    failed = any(call.fault is not None and call.purpose == "answer" for a in attempts for call in a.call_log)
    if reason in ("budget", "max_calls", "max_samples") and not failed:
        return BudgetError(f"the run's {reason} limit allowed no answer: {tried}", attempts, run_id)
    return ProviderError(f"no tier answered: {tried}", attempts, run_id)


def _failures(attempt: Attempt) -> str:
    """Why a tier gave no answer: every fault of its requests, retries counted, then what else ended it."""
    faults = Counter(call.fault for call in attempt.call_log if call.fault is not None and call.purpose == "answer")
    other = attempt.error or attempt.reason
    for fault in faults:
        other = other.replace(fault, "")
    counted = [fault if count == 1 else f"{fault} ({count} requests)" for fault, count in faults.items()]
    return "; ".join([*counted, *([other.strip("; ")] if other.strip("; ") else [])])
