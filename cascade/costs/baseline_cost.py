"""The cost of a run without the cascade: with the last tier alone."""

from collections.abc import Callable, Collection, Sequence

from cascade.result import Attempt, Result
from cascade.util.totals import total
from judges import Prompt, Usage


def premium_usd(
    prompt: Prompt,
    attempts: Sequence[Attempt],
    result: Result | None,
    *,
    tier: str,
    price: Callable[[Usage | None], float | None],
    recorded_cost: Callable[[Prompt], float | None] | None = None,
    candidates: Collection[str] = (),
) -> float | None:
    """Estimates in USD what the last tier alone would have cost.

    The estimate is the cost of the last tier's answer where it was asked, else what a recording states, else its price on
    the usage of the answer that the run returned, with the same share of cached input.

    Args:
        prompt: What the run asked.
        attempts: The run's attempts, in order.
        result: The run's result; None where it has none.
        tier: The name of the last tier.
        price: USD of a usage at the price of the last tier's model.
        candidates: The models whose answers the last tier reads: it alone would have asked all of them.
        recorded_cost: What the last tier's model states for a prompt, where it replays a recording.

    Returns:
        USD; None where unknown.
    """
    for attempt in attempts:
        if attempt.tier == tier and attempt.answer is not None:
            costs = [c.cost_usd for c in attempt.call_log if c.purpose == "answer" and c.fault is None]
            if candidates and costs:
                return total([costs[-1], *_candidate_costs(attempts, attempt, candidates)])
            return costs[-1] if costs else None
    if candidates:
        return None  # what its candidates would have cost is unknown
    if recorded_cost is not None:
        return recorded_cost(prompt)
    return None if result is None else price(_usage_of_answer(attempts, result))


def _candidate_costs(attempts: Sequence[Attempt], last: Attempt, candidates: Collection[str]) -> list[float | None]:
    """What the candidates of the last tier cost, also those that were earlier tiers' answers."""
    return [
        call.cost_usd
        for attempt in attempts
        for call in attempt.call_log
        if call.fault is None
        and (call.purpose == "candidate" if attempt is last else call.purpose == "answer" and call.model in candidates)
    ]


def _usage_of_answer(attempts: Sequence[Attempt], result: Result) -> Usage | None:
    """The usage of one answer of the tier that gave the result, caching included; None where unknown.

    By the tier's own request: the sample that a judge preferred may have come in one response with others, whose tokens are
    counted with the first of them.
    """
    for attempt in reversed(attempts):
        if attempt.tier == result.tier and attempt.answer is not None:
            usages = [call.usage for call in attempt.call_log if call.purpose == "answer" and call.fault is None]
            return usages[-1] if usages else attempt.answer.usage
    return result.answer.usage if result.answer is not None else None
