"""What a turn of a conversation costs at two tiers, and whether it should begin at the cheaper one."""

from dataclasses import dataclass

from cascade.engine.plan import CompiledTier
from judges import Prompt, Usage
from judges.types import content_text

_CHARACTERS = 4  # of a token, about


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnCosts:
    """What a turn costs at a tier and at the cheaper one before it, in USD.

    Attributes:
        stay: At the tier, whose prompt cache is warm.
        cold: At the cheaper tier, which has to read the whole conversation.
        warm: At the cheaper tier once it has.
        reads: What of ``stay`` the tier takes for reading what is new.
    """

    stay: float
    cold: float
    warm: float
    reads: float = 0.0


def turn_costs(prompt: Prompt, tier: CompiledTier, cheaper: CompiledTier, *, is_warm: bool) -> TurnCosts | None:
    """What the next turn costs at two tiers, by the lengths of the conversation; None where a price is unknown."""
    lengths = [len(content_text(message.get("content"))) // _CHARACTERS for message in prompt.messages]
    read, new = sum(lengths) + 1, lengths[-1] + 1 if lengths else 1
    answers = [n for n, m in zip(lengths, prompt.messages, strict=True) if m.get("role") == "assistant"]
    written = answers[-1] if answers else new
    repeated, cached = read - new, (read - new) if is_warm else 0
    price, cheap = tier.handle.pricer.cost, cheaper.handle.pricer.cost
    stay = price(Usage(read, written, cached_tokens=cached, cache_write_tokens=read - cached))
    cold = cheap(Usage(read, written, cache_write_tokens=read))
    warm = cheap(Usage(read, written, cached_tokens=repeated, cache_write_tokens=new))
    reads = price(Usage(read - cached, 0, cache_write_tokens=read - cached))
    if stay is None or cold is None or warm is None or reads is None:
        return None
    return TurnCosts(stay=stay, cold=cold, warm=warm, reads=reads)


def trial_gain(costs: TurnCosts, *, is_read: bool, success: float, again: float, turns: int) -> float:
    """The USD that a turn is expected to save by beginning at the cheaper tier.

    A trial costs what the cheaper tier takes for the turn. Where its answer is accepted, it saves the turn at the dearer
    tier; the conversation's next turns then begin at the cheaper tier, too, for as long as they are accepted there.

    Args:
        costs: What the turn costs; the next ones are taken to cost as much.
        is_read: Whether the cheaper tier has read the conversation.
        success: The probability that the cheaper tier's answer is accepted.
        again: The probability that it is accepted in a turn after one in which it was.
        turns: For how many turns a success is counted, at least 1.
    """
    # What the dearer tier has not read, it reads later, unless the conversation ends before it is needed again.
    saved = costs.stay - (1.0 - again ** (turns - 1)) * costs.reads
    later, chance = 0.0, 1.0
    for _ in range(turns - 1):
        later += chance * (again * saved - costs.warm)
        chance *= again
    return success * (saved + max(0.0, later)) - (costs.warm if is_read else costs.cold)
