"""The state that all attempts and calls of one run share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cascade.costs.budget import RunBudget
from cascade.models.protocol import Request
from cascade.result import Attempt
from judges import Prompt
from judges.prompt import PromptFeatures

from .plan import CompiledPolicy
from .reserve import DEFAULT_REQUEST

if TYPE_CHECKING:
    from .streaming import EventStream


@dataclass(slots=True)
class RunContext:
    """The state that the attempts and calls of one run share. It is constant, but not frozen, since that would slow runs.

    Attributes:
        compiled: The policy.
        prompt: What is asked.
        budget: The run's budget.
        deadline: The end of the run by the event loop's clock; None: none.
        attempts: The run's attempts so far.
        events: Receives the run's events, and calls the tiers' models as streams.
        request: How the tiers' models are called.
        features: The prompt's features, once a tier's predictor has read them.
        asks_ahead: Whether a tier may be asked while the one before it is still judged.
    """

    compiled: CompiledPolicy
    prompt: Prompt
    budget: RunBudget
    deadline: float | None = None
    attempts: Sequence[Attempt] = ()
    events: "EventStream | None" = None
    request: Request = DEFAULT_REQUEST
    features: PromptFeatures | None = None
    asks_ahead: bool = False
