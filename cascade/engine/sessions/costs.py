"""What a turn of a conversation costs at two tiers, and whether it should begin at the cheaper one."""

from dataclasses import dataclass

from cascade.engine.plan import CompiledTier
from judges import Prompt, Usage
from judges.types import content_text

_CHARACTERS = 4  # of a token, about


@dataclass(frozen=True, slots=True, kw_only=True)
class TierCost:
    """What a turn costs at a tier, in USD.

    Attributes:
        usd: All of it.
        reads: What of it the tier takes for reading what its prompt cache does not hold.
    """

    usd: float
    reads: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnCosts:
    """What a turn of a conversation costs at a tier and at the cheaper one before it.

    Attributes:
        stay: At the tier as it is.
        stay_warm: At the tier where its prompt cache holds all but the turn's new message.
        cold: At the cheaper tier, which has to read the whole conversation.
        warm: At the cheaper tier once it has.
    """

    stay: TierCost
    stay_warm: TierCost
    cold: TierCost
    warm: TierCost


def turn_costs(
    prompt: Prompt, tier: CompiledTier, cheaper: CompiledTier, *, is_warm: bool, answer_tokens: float
) -> TurnCosts | None:
    """What the next turn costs at two tiers, by the lengths of the conversation.

    Args:
        prompt: The conversation.
        tier: The dearer tier.
        cheaper: The one before it.
        is_warm: Whether the dearer tier's prompt cache holds the conversation.
        answer_tokens: How long an answer is, where the conversation has none yet.

    Returns:
        The costs; None where a price is unknown.
    """
    lengths = [len(content_text(message.get("content"))) // _CHARACTERS for message in prompt.messages]
    answers = [n for n, m in zip(lengths, prompt.messages, strict=True) if m.get("role") == "assistant"]
    read, new, written = sum(lengths) + 1, lengths[-1] + 1, answers[-1] if answers else round(answer_tokens)
    stay_warm, stay_cold = (_cost(tier, read, cached, written) for cached in (read - new, 0))
    warm, cold = (_cost(cheaper, read, cached, written) for cached in (read - new, 0))
    if stay_warm is None or stay_cold is None or warm is None or cold is None:
        return None
    return TurnCosts(stay=stay_warm if is_warm else stay_cold, stay_warm=stay_warm, cold=cold, warm=warm)


def _cost(tier: CompiledTier, read: int, cached: int, written: int) -> TierCost | None:
    price, fresh = tier.handle.pricer.cost, read - cached
    usd = price(Usage(read, written, cached_tokens=cached, cache_write_tokens=fresh))
    reads = price(Usage(fresh, 0, cache_write_tokens=fresh))
    return None if usd is None or reads is None else TierCost(usd=usd, reads=reads)


def trial_gain(costs: TurnCosts, *, is_read: bool, success: float, again: float, turns: int) -> float:
    """The USD that a turn is expected to save by beginning at the cheaper tier.

    A trial costs what the cheaper tier takes for the turn. Where its answer is accepted, it saves the turn at the dearer
    tier, and the next turns begin at the cheaper tier, too, for as long as they are accepted there. What the dearer tier
    has not read, it reads later, unless none of those turns needs it.

    Args:
        costs: What the turn costs; the next ones are taken to cost what it does with warm caches.
        is_read: Whether the cheaper tier has read the conversation.
        success: The probability that the cheaper tier's answer is accepted.
        again: The probability that it is accepted in a turn after one in which it was.
        turns: For how many turns a success is counted, at least 1.
    """
    deferred = 1.0 - again ** (turns - 1)
    saved, saved_later = (cost.usd - deferred * cost.reads for cost in (costs.stay, costs.stay_warm))
    later, chance = 0.0, 1.0
    for _ in range(turns - 1):
        later += chance * (again * saved_later - costs.warm.usd)
        chance *= again
    return success * (saved + max(0.0, later)) - (costs.warm if is_read else costs.cold).usd
