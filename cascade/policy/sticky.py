"""How a policy treats conversations."""

from pydantic import Field

from .strict_model import Seconds, StrictModel


class StickySpec(StrictModel):
    """A conversation that had to escalate begins its next turns at that tier, and tries a cheaper one now and then."""

    probe_every: int = Field(5, ge=1, description="Turns after which a cheaper tier is tried again, if that may pay.")
    warm_s: Seconds = Field(300.0, description="How long the provider's prompt cache keeps a conversation.")
    max_sessions: int = Field(10_000, ge=1, le=1_000_000, description="Conversations that each process remembers.")
