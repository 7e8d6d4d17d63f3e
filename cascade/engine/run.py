"""One run: ask the tier, judge, decide, again. And the gate: judge and decide, of an answer that is there."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from cascade.costs.budget import RunBudget
from cascade.errors import BudgetError, DeadlineError, ProviderError, RunError, UnsureError
from cascade.models.protocol import Request
from cascade.policy.schema import Policy
from cascade.resilience.retry import run_until
from cascade.result import Attempt, Reason, Result, new_run_id
from judges import Answer, Prompt

from .attempt import TierAttempt
from .calls import DEFAULT_REQUEST
from .plan import CompiledPolicy, CompiledTier, DailyBudgets, spend_of

if TYPE_CHECKING:
    from .streaming import EventStream


async def run(
    ladder: CompiledPolicy,
    prompt: Prompt,
    *,
    budget_usd: float | None = None,
    deadline_s: float | None = None,
    run_id: str | None = None,
    attempts: list[Attempt] | None = None,
    feed: "EventStream | None" = None,
    request: Request = DEFAULT_REQUEST,
    daily: DailyBudgets = (),
) -> Result:
    """Climbs the ladder until an answer is accepted or a limit is reached. Raises RunError where there is no answer.

    ``run_id`` is made where it is not given. ``attempts`` is filled as the run goes, so that whoever gave it has them even
    where the run is cancelled. ``feed`` is told what happens, and asks the tiers' models in the engine's place. ``request``
    is how the tiers' models are asked; ``daily`` are budgets beside the ladder's own that the run shares with others.
    """
    run_id = run_id or new_run_id()
    policy = ladder.policy
    seconds = policy.deadline_s if deadline_s is None else deadline_s
    spend = spend_of(ladder, budget_usd, daily)
    attempts = [] if attempts is None else attempts
    if seconds is None:
        reason = await _run_tiers(ladder, prompt, request, spend, attempts, [], None, feed)
    else:
        trials: list[TierAttempt] = []
        ends = asyncio.get_running_loop().time() + seconds
        ended = await run_until(ends, _run_tiers(ladder, prompt, request, spend, attempts, trials, ends, feed))
        reason = ended or "deadline"
        if len(attempts) < len(trials):  # the last one does not let itself be cancelled; it may do nothing more
            attempts.append(trials[-1].record())
            spend.closed = True
    return finish(policy, attempts, reason, spend.usd, run_id)


async def _run_tiers(
    ladder: CompiledPolicy,
    prompt: Prompt,
    request: Request,
    spend: RunBudget,
    attempts: list[Attempt],
    trials: list[TierAttempt],
    ends: float | None,
    feed: "EventStream | None",
) -> Reason:
    last = len(ladder.tiers) - 1
    reason: Reason = "unsure"
    for i, tier in enumerate(ladder.tiers):
        attempt = TierAttempt(
            ladder, tier, prompt, spend, later=last - i, ends=ends, earlier=attempts, feed=feed, request=request
        )
        trials.append(attempt)
        try:
            await attempt.run()
        finally:
            # A cancelled attempt keeps its answer: it may be the best that the deadline allowed.
            if not spend.closed:
                attempts.append(attempt.record())
        reason = attempt.reason
        stops = i == last or reason in ("accepted", "budget", "max_calls", "max_samples")
        if feed is not None:
            feed.ended(attempts[-1], None if stops else ladder.tiers[i + 1].name)
        if stops:
            break
    return reason


async def gate(
    ladder: CompiledPolicy,
    tier: CompiledTier,
    prompt: Prompt,
    answer: Answer,
    *,
    run_id: str | None = None,
    attempts: list[Attempt] | None = None,
    daily: DailyBudgets = (),
) -> Result:
    """Judges an answer from elsewhere as the tier's own; it is returned in any case. Arguments as those of ``run``."""
    attempts = [] if attempts is None else attempts
    seconds, spend = ladder.policy.deadline_s, spend_of(ladder, daily=daily)
    ends = None if seconds is None else asyncio.get_running_loop().time() + seconds
    trial = TierAttempt(ladder, tier, prompt, spend, given=True, ends=ends)
    try:
        await (trial.judge(answer) if ends is None else run_until(ends, trial.judge(answer)))
    finally:
        spend.closed = True
        attempts.append(trial.record())
    forgiving = ladder.policy.model_copy(update={"when_unsure": "best"})
    return finish(forgiving, attempts, trial.reason, attempts[-1].cost_usd, run_id)


def finish(
    policy: Policy, attempts: Sequence[Attempt], reason: Reason, usd: float | None, run_id: str | None = None
) -> Result:
    """The result of a run that made ``attempts`` and ended for ``reason``. Raises RunError where nothing was answered."""
    done = tuple(attempts)
    run_id = run_id or new_run_id()
    latency = sum(a.latency_s for a in done)
    chosen = done[-1] if reason == "accepted" else best(done)
    if chosen is None:
        raise _nothing(reason, done, run_id)
    last = policy.tiers[-1]
    if policy.final == "best" and done[-1].tier == last.name and reason in ("accepted", "unsure", "vetoed"):
        # The last tier was asked and judged: its answer is only one of those that may be the best.
        chosen = best(done) or chosen
        if not chosen.vetoed and chosen.confidence >= last.accept_at:
            reason = "accepted"
    answer = chosen.answer
    assert answer is not None
    result: Result = Result(
        text=answer.text,
        parsed=answer.parsed,
        confidence=chosen.confidence,
        accepted=reason == "accepted",
        tier=chosen.tier,
        model=chosen.model,
        cost_usd=usd,
        latency_s=latency,
        attempts=done,
        reason=reason,
        run_id=run_id,
        answer=answer,
        calibrated=chosen.calibrated,
    )
    if result.accepted or policy.when_unsure == "best":
        return result
    if policy.when_unsure == "raise":
        raise UnsureError(f"no answer was accepted ({reason}); best confidence {chosen.confidence:.2f}", result)
    return replace(result, text="", parsed=None, answer=None)


def best(attempts: Sequence[Attempt]) -> Attempt | None:
    """The best answer so far: one without a veto before one with, then the most confident, then the highest tier."""
    answered = [(not a.vetoed, a.confidence, i) for i, a in enumerate(attempts) if a.answer is not None]
    return attempts[max(answered)[2]] if answered else None


def _nothing(reason: Reason, attempts: tuple[Attempt, ...], run_id: str) -> RunError:
    tried = "; ".join(f"{a.tier} ({a.model}): {a.error or a.reason}" for a in attempts) or "nothing was tried"
    if reason == "deadline":
        return DeadlineError(f"the deadline passed before any answer: {tried}", attempts, run_id)
    if reason in ("budget", "max_calls", "max_samples"):
        return BudgetError(f"the run's {reason} limit allowed no answer: {tried}", attempts, run_id)
    return ProviderError(f"no tier answered: {tried}", attempts, run_id)
