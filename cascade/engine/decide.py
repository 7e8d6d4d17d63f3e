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
    """Ask the tier, or skip it, by the probability that it will be right; None where that cannot be told: then ask."""
    skip_below = thresholds.skip_below
    return Action.SKIP if skip_below is not None and probability is not None and probability < skip_below else Action.ASK
