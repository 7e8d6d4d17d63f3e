"""What a run would have cost without the cascade: the last tier asked at once."""

from collections.abc import Callable, Sequence

from cascade.result import Attempt, Result
from judges import Prompt, Usage


def premium_usd(
    prompt: Prompt,
    attempts: Sequence[Attempt],
    result: Result | None,
    *,
    tier: str,
    price: Callable[[Usage | None], float | None],
    recorded_cost: Callable[[Prompt], float | None] | None = None,
) -> float | None:
    """Estimates in USD what the last tier alone would have cost.

    The estimate is the cost of the last tier's answer where it was asked, else what a recording states, else its price on
    the usage of the answer that the run returned.

    Args:
        prompt: What the run asked.
        attempts: The run's attempts, in order.
        result: The run's result; None where it has none.
        tier: The name of the last tier.
        price: USD of a usage at the price of the last tier's model.
        recorded_cost: What the last tier's model states for a prompt, where it replays a recording.

    Returns:
        USD; None where unknown.
    """
    for attempt in attempts:
        if attempt.tier == tier and attempt.answer is not None:
            costs = [c.cost_usd for c in attempt.call_log if c.purpose == "answer" and c.fault is None]
            return costs[-1] if costs else None
    if recorded_cost is not None:
        return recorded_cost(prompt)
    if result is None:
        return None
    answer = result.answer or next((a.answer for a in attempts if a.tier == result.tier), None)
    return price(answer.usage if answer is not None else None)
