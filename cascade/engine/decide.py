"""The only place where a confidence meets a threshold. Pure: the same arguments always give the same decision."""

from collections.abc import Sequence
from math import exp, log

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
    """Ask the tier, or skip it, by the probability that it is right; None (unknown) passes a threshold of 0 only."""
    skip_below = thresholds.skip_below
    if skip_below is None:
        return Action.ASK
    # The other thresholds were tuned on prompts that pass this one: with an unknown probability the next tier is asked.
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


def decide_last(accept_at: float, confidence: float, *, vetoed: bool) -> Action:
    """Accept or stop, for the answer that was chosen among those of all tiers once the last one was asked."""
    return Action.ACCEPT if not vetoed and confidence >= accept_at else Action.STOP


# One answer's certainty must not outweigh any number of others.
_LEAST, _MOST = 0.001, 0.999


def decide_vote(
    confidences: Sequence[float], clusters: Sequence[int | None], *, alternatives: float, exponent: float
) -> tuple[int, float] | None:
    """The answer with the highest posterior probability of being right.

    An answer that is right with probability p, where K answers are plausible, multiplies the odds of what it says by
    p (K - 1) / (1 - p) (Nitzan & Paroush 1982). Models make the same mistakes, so the logarithm counts in full only for
    the most confident answer of each cluster, and times ``exponent`` for the others; agreement never counts against an
    answer. The most confident answer of the cluster represents it, then the one of the highest tier: answers that say the
    same may differ in form.

    Args:
        confidences: P(right) of each answer, in [0, 1], in the order of the tiers.
        clusters: The cluster of each answer, equal for answers that say the same; None for one that has no vote.
        alternatives: K, at least 2.
        exponent: In [0, 1]; with 0 the most confident answer wins.

    Returns:
        The place of the answer and its posterior; None where no answer has a vote.
    """
    order = [i for i in range(len(clusters) - 1, -1, -1) if clusters[i] is not None]
    order.sort(key=confidences.__getitem__, reverse=True)  # of equals the highest tier stays first
    if len(order) < 2:
        return (order[0], confidences[order[0]]) if order else None
    support: dict[int, float] = {}
    leaders: dict[int, int] = {}
    for i in order:
        p, cluster = min(_MOST, max(_LEAST, confidences[i])), clusters[i]
        assert cluster is not None
        log_odds = log(p * (alternatives - 1.0) / (1.0 - p))
        if cluster in leaders:
            support[cluster] += exponent * max(0.0, log_odds)
        else:
            leaders[cluster], support[cluster] = i, log_odds
    winner = max(support, key=support.__getitem__)  # of equals the first: the one with the most confident answer
    highest = support[winner]
    unseen = max(0.0, alternatives - len(support)) * exp(-highest)
    return leaders[winner], 1.0 / (unseen + sum(exp(z - highest) for z in support.values()))
