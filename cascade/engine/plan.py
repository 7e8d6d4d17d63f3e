"""A policy, ready to run: its tiers with their models, judges and thresholds, and what a run of them may spend."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from cascade.costs.baseline_cost import premium_usd
from cascade.costs.budget import Ledger, RunBudget, today
from cascade.policy.calibrators import Calibrator
from cascade.policy.schema import Policy
from cascade.policy.thresholds import Thresholds
from cascade.result import Attempt, Result
from judges import Judge, Prompt

from .calls import ModelHandle
from .observer import Observer

DailyBudgets = tuple[tuple[str, float], ...]
"""Budgets that runs share: USD a UTC day by scope."""


@dataclass(frozen=True, slots=True)
class CompiledTier:
    """A tier of a policy, ready to run. ``calibrators``: one for each judge prefix, the empty one first; or none at all."""

    name: str
    seat: ModelHandle
    thresholds: Thresholds
    prior: float
    judges: tuple[Judge, ...]
    calibrators: tuple[Calibrator, ...] = ()
    fallbacks: tuple[ModelHandle, ...] = ()  # asked in turn where the tier's own model fails
    compares: bool = False  # whether a calibrator reads agreement with the answers of earlier tiers


@dataclass(frozen=True, slots=True)
class CompiledPolicy:
    """A policy, ready to run: its tiers in order and every model that its judges may ask.

    ``daily`` are the budgets that its runs share with others, USD a UTC day by scope, kept by ``ledger``.
    """

    policy: Policy
    tiers: tuple[CompiledTier, ...]
    seats: dict[str, ModelHandle]
    ledger: Ledger | None = None
    daily: DailyBudgets = ()
    observer: Observer | None = None

    def premium_usd(self, prompt: Prompt, attempts: Sequence[Attempt], result: Result | None) -> float | None:
        """Estimates in USD what the last tier alone would have cost; None where unknown.

        Args:
            prompt: What the run asked.
            attempts: The run's attempts, in order.
            result: The run's result; None where it has none.
        """
        premium = self.tiers[-1]
        return premium_usd(
            prompt,
            attempts,
            result,
            tier=premium.name,
            price=premium.seat.pricer.cost,
            recorded_cost=getattr(premium.seat.model, "recorded_cost", None),
        )


def spend_of(ladder: CompiledPolicy, budget_usd: float | None = None, daily: DailyBudgets = ()) -> RunBudget:
    """What a run of the ladder may spend; ``budget_usd`` replaces the policy's, ``daily`` are budgets beside its own."""
    policy, shared = ladder.policy, ladder.daily + daily
    limits = _limits_of(today(), shared) if shared else {}
    budget = policy.budget_usd if budget_usd is None else budget_usd
    return RunBudget(policy.max_calls, budget, policy.max_samples, limits, ladder.ledger)


@lru_cache(maxsize=64)
def _limits_of(day: str, daily: DailyBudgets) -> Mapping[str, float]:
    return {f"{day} {scope}": usd for scope, usd in daily}
