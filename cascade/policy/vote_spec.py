"""How a policy with ``final: vote`` weighs the answers of its tiers."""

from pydantic import Field

from .strict_model import StrictModel


class VoteSpec(StrictModel):
    """How far answers that say the same support each other; replay fits both numbers."""

    alternatives: float = Field(10.0, ge=2, le=1_000_000, description="How many answers to a prompt are plausible.")
    exponent: float = Field(
        0.5,
        ge=0,
        le=1,
        description="What each further answer that says the same counts: 1 as if models erred independently, 0 nothing.",
    )
