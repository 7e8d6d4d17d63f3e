"""A model as the engine calls it: with its price, its guard, and what bounds its requests."""

from dataclasses import dataclass, field

from cascade.costs.estimate import Bounds, usage_cost
from cascade.costs.overruns import Overruns
from cascade.costs.prices import Pricer
from cascade.models.protocol import Model, Request
from cascade.resilience.guard import Guard
from judges import Answer, Prompt, Usage

from .observer import Observer


@dataclass(frozen=True, slots=True)
class ModelHandle:
    """A model with its price, the observer of its calls, and what all its calls share: the guard, its overruns."""

    model: Model
    pricer: Pricer
    observer: Observer | None = None
    guard: Guard = field(default_factory=Guard)
    overruns: Overruns = field(default_factory=Overruns)
    bounds: Bounds = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bounds", Bounds.of(self.pricer.spec))

    def price(self, answer: Answer) -> float | None:
        """USD of the answer: what it states itself, else its usage at the model's price, else None."""
        return answer.cost_usd if answer.cost_usd is not None else self.pricer.cost(answer.usage)

    def estimate(self, prompt: Prompt, request: Request) -> float | None:
        """An upper estimate in USD of the request; None where the price is unknown."""
        return self.estimate_of(self.most_usage(prompt, request), request)

    def most_usage(self, prompt: Prompt, request: Request) -> Usage | None:
        """The most tokens of the request; None for a model that states its own costs."""
        if getattr(self.model, "max_cost_usd", None) is not None:
            return None
        return self.bounds.usage(prompt, n=request.n, max_tokens=request.max_tokens, options=request.options)

    def estimate_of(self, most: Usage | None, request: Request) -> float | None:
        """An upper estimate in USD of a request with at most these tokens; None where the price is unknown."""
        if most is None:
            max_cost_usd = getattr(self.model, "max_cost_usd", None)
            return None if max_cost_usd is None else float(max_cost_usd * request.n)
        usd = usage_cost(self.pricer, self.overruns.raised(most))
        if usd is None:
            return None
        usd *= self.overruns.usd_ratio
        if not self.overruns.too_low:
            return usd
        # Requests in flight were reserved before the estimates were raised: what they lack is reserved with this one.
        return usd + self.overruns.too_low * max(0.0, usd - (usage_cost(self.pricer, most) or 0.0))

    @property
    def max_tokens(self) -> int | None:
        """The most tokens of an answer that the policy allows; None: it sets no limit."""
        return self.pricer.spec.max_tokens if self.pricer.spec is not None else None

    @property
    def priced(self) -> bool:
        """Whether the most that a request costs is known before it is sent."""
        return getattr(self.model, "max_cost_usd", None) is not None or self.pricer.cost(Usage(1, 1)) is not None
