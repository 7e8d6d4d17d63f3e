"""Runs tiers where time counts: those that are too slow are not asked, and the next one is asked before its turn."""

import asyncio
from collections.abc import Sequence

from cascade.resilience.deadline import cancel_and_wait
from cascade.result import ANSWERED, Attempt, Reason

from .ahead import EarlyAnswer
from .attempt import TierAttempt
from .plan import CompiledTier
from .run_context import RunContext

STOPS = ANSWERED | {"budget", "max_calls", "max_samples"}
"""The reasons of an attempt after which no further tier is called."""


def p95_s(tier: CompiledTier) -> float | None:
    """The 95th percentile of a tier's latency in seconds; None where unknown.

    That of its model's latest answers, once enough are timed; until then what the policy states.
    """
    measured = tier.handle.guard.p95_s()
    return tier.p95_s if measured is None else measured


def fastest(tiers: Sequence[CompiledTier]) -> CompiledTier:
    """The tier with the lowest 95th percentile, the first of equals; one whose latency is unknown counts as fast."""
    return min(tiers, key=lambda tier: p95_s(tier) or 0.0)


async def run_tiers_ahead(
    context: RunContext, attempts: list[Attempt], tier_attempts: list[TierAttempt], max_latency_s: float | None
) -> Reason:
    """``run_tiers``, for a call with ``max_latency_s`` and for a policy that speculates.

    Args:
        context: The run.
        attempts: Receives the attempts that have ended.
        tier_attempts: Receives every attempt as it begins.
        max_latency_s: The seconds that the run should take; None: any.

    Returns:
        Why the run ended.
    """
    tiers, events, loop = context.compiled.tiers, context.events, asyncio.get_running_loop()
    context.asks_ahead = True
    ends = None if max_latency_s is None else loop.time() + max_latency_s
    last = len(tiers) - 1
    reason: Reason = "unsure"
    early: EarlyAnswer | None = None
    previous: Attempt | None = None
    run_s = 0.0
    try:
        for i, tier in enumerate(tiers):
            attempt = TierAttempt(context, tier, last - i)
            tier_attempts.append(attempt)
            is_early = early is not None and early.tier is tier
            if tier.thresholds.skip_below is not None and attempt.is_skipped():
                attempts.append(attempt.record())
                continue
            if ends is not None and not is_early:
                left_s, percentile = ends - loop.time(), p95_s(tier)
                if attempt.is_too_slow(left_s, percentile, needed=_needed(tiers[i:], attempts, left_s)):
                    attempts.append(attempt.record())
                    continue
            if events is not None and previous is not None:
                events.tier_ended(previous, tier.name)
            attempt.early, early = early if is_early else None, None
            early = _next_answer(context, attempt, i, run_s, ends)
            if early is not None:
                await asyncio.sleep(0)  # so that its request is sent now, even where this tier's model answers at once
            try:
                await _attempted(attempt, early, ends)
            finally:
                stops = i == last or attempt.reason in STOPS
                if early is not None and stops:
                    await early.cancel(attempt.answer)
                    attempt.add_calls(early.log)
                if attempt.early is not None and attempt.early.started_s is not None:
                    attempt.overlapped(run_s - attempt.early.started_s)
                # A cancelled attempt keeps its answer: it may be the best that the deadline allowed.
                if not context.budget.closed:
                    attempts.append(attempt.record())
            reason, previous = attempt.reason, attempts[-1]
            run_s += previous.latency_s
            if stops:
                break
    finally:
        if early is not None:
            await early.cancel()
    if events is not None and previous is not None:
        events.tier_ended(previous, None)
    return reason


def _needed(tiers: Sequence[CompiledTier], attempts: Sequence[Attempt], left_s: float) -> bool:
    """Whether the first of these tiers has to answer, however late: nothing has, and none of them is faster."""
    if any(attempt.answer is not None for attempt in attempts):
        return False
    fits = any((percentile := p95_s(tier)) is None or percentile <= left_s for tier in tiers)
    return not fits and fastest(tiers) is tiers[0]


def _next_answer(context: RunContext, attempt: TierAttempt, i: int, run_s: float, ends: float | None) -> EarlyAnswer | None:
    """The answer of a later tier, to be asked for before its turn; None where it waits for its turn."""
    tiers, loop = context.compiled.tiers, asyncio.get_running_loop()
    if i == len(tiers) - 1:
        return None
    following = tiers[i + 1]
    speculates = attempt.asks_next()
    if ends is None:
        if not speculates or following.fusion is not None or _is_skipped(context, following):
            return None
        early = EarlyAnswer(context, following, len(tiers) - i - 2, run_s, loop.time)
        early.start()
        return early
    for j in range(i + 1, len(tiers)):
        if tiers[j].fusion is not None:
            return None  # it reads the answers of tiers before it
        percentile = p95_s(tiers[j])
        if (percentile is not None and percentile > ends - loop.time()) or _is_skipped(context, tiers[j]):
            continue
        early = EarlyAnswer(context, tiers[j], len(tiers) - j - 1, run_s, loop.time)
        if speculates and j == i + 1:
            early.start()
        elif percentile is not None:
            early.start_at(ends - percentile)
        else:
            return None
        return early
    return None


def _is_skipped(context: RunContext, tier: CompiledTier) -> bool:
    return tier.thresholds.skip_below is not None and TierAttempt(context, tier).is_skipped()


async def _attempted(attempt: TierAttempt, early: EarlyAnswer | None, ends: float | None) -> None:
    """Runs an attempt; at ``ends`` it is cut short where another tier, which was asked early, goes on."""
    work = attempt.run_with_others() if attempt.tier.asks_others else attempt.run()
    if early is None or ends is None:
        await work
        return
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    try:
        await asyncio.wait((task,), timeout=max(0.0, ends - loop.time()))
        if task.done() or early.started_s is None:
            await task
        else:
            attempt.reason = "deadline"
            await cancel_and_wait((task,))
    finally:
        if not task.done():
            await cancel_and_wait((task,))
