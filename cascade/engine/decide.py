"""The only place where a confidence meets a threshold. Pure: the same arguments always give the same decision."""

from cascade.policy.thresholds import Thresholds
from cascade.result import Action


def decide(
    thresholds: Thresholds, stage: int, confidence: float, *, vetoed: bool = False, last_tier: bool = False
) -> Action:
    """Accept, judge on, escalate or stop, after judge number ``stage`` (0-based; -1: before the first).

    A vetoed answer is never accepted. Where the answer is given up, ``last_tier`` makes the difference between escalating
    and stopping. For fixed thresholds the decision is monotone in ``confidence``: give up, then judge on, then accept.
    """
    give_up = Action.STOP if last_tier else Action.ESCALATE
    if vetoed:
        return give_up
    if stage + 1 >= len(thresholds.accept_at):
        return Action.ACCEPT if confidence >= thresholds.final else give_up
    accept_at = thresholds.accept_at[stage]
    if accept_at is not None and confidence >= accept_at:
        return Action.ACCEPT
    reject_below = thresholds.reject_below[stage]
    if reject_below is not None and confidence < reject_below:
        return give_up
    return Action.JUDGE


def decide_before(thresholds: Thresholds, probability: float | None) -> Action:
    """Ask the tier, or skip it, by the probability that it is right; None, where that cannot be told, passes 0 alone."""
    skip_below = thresholds.skip_below
    if skip_below is None:
        return Action.ASK
    # The other thresholds were tuned for prompts that this one lets pass: one that it cannot tell goes on to the next tier.
    return Action.SKIP if (skip_below > 0.0 if probability is None else probability < skip_below) else Action.ASK


def decide_in_time(p95_s: float | None, left_s: float, *, needed: bool = False) -> Action:
    """Ask the tier, or skip it because it is too slow for a call with ``max_latency_s``.

    Args:
        p95_s: The 95th percentile of the tier's latency in seconds; None: unknown, and then it is asked.
        left_s: The seconds that are left.
        needed: Whether there is no answer so far, and no tier that is left is faster: a late answer is better than none.
    """
    return Action.SKIP if p95_s is not None and p95_s > left_s and not needed else Action.ASK


def decide_early(speculate_below: float | None, probability: float | None) -> bool:
    """Whether the next tier is asked at the same time as this one.

    Args:
        speculate_below: The tier's setting; 1: always, None: never.
        probability: That the tier is right, by the prompt; None: unknown.
    """
    if speculate_below is None:
        return False
    return speculate_below >= 1.0 or (probability is not None and probability < speculate_below)
