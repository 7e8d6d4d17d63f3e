"""The only place where a confidence meets a threshold. Pure: the same arguments always give the same decision."""

from dataclasses import dataclass
from enum import Enum


class Action(Enum):
    """What to do with the answer at hand."""

    ACCEPT = "accept"
    JUDGE = "judge"
    ESCALATE = "escalate"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """A tier's thresholds: one pair for each stage, a stage being the judges up to and including one of them.

    At a stage the answer is accepted at once where confidence >= ``accept_at[stage]``, given up at once where confidence <
    ``reject_below[stage]``, and judged on in between; None means "not at this stage". After the last stage ``final``
    decides: confidence >= final accepts. A threshold of 0 accepts everything that no judge vetoed.
    """

    final: float
    accept_at: tuple[float | None, ...] = ()
    reject_below: tuple[float | None, ...] = ()


def decide(
    thresholds: Thresholds, stage: int, confidence: float, *, vetoed: bool = False, last_tier: bool = False
) -> Action:
    """Accept, judge on, escalate or stop, after judge number ``stage`` (0-based; -1: the tier has no judges).

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
