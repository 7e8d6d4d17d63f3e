"""What a run would have cost without the cascade: the last tier asked at once."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cascade.result import Attempt, Result
from judges import Prompt

if TYPE_CHECKING:
    from cascade.engine.plan import CompiledPolicy


def premium_usd(
    ladder: "CompiledPolicy", prompt: Prompt, attempts: Sequence[Attempt], result: Result | None
) -> float | None:
    """An estimate in USD of what the last tier alone would have cost; None where unknown.

    Its answer's cost where it was asked, else what a recording states, else its price on the usage of the answer returned.
    """
    premium = ladder.tiers[-1]
    for attempt in attempts:
        if attempt.tier == premium.name and attempt.answer is not None:
            paid = [c.cost_usd for c in attempt.call_log if c.purpose == "answer" and c.fault is None]
            return paid[-1] if paid else None
    from cascade.models.recorded import RecordedModel

    if isinstance(premium.seat.model, RecordedModel):
        return premium.seat.model.recorded_cost(prompt)
    if result is None:
        return None
    answer = result.answer or next((a.answer for a in attempts if a.tier == result.tier), None)
    return premium.seat.pricer.cost(answer.usage if answer is not None else None)
