"""A policy, ready to run: its tiers with their models, judges and thresholds, and what a run of them may spend."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from cascade.costs.budget import Ledger, Spend, today
from cascade.policy.calibrators import Calibrator
from cascade.policy.schema import Policy
from judges import Judge

from .calls import Seat
from .decide import Thresholds

if TYPE_CHECKING:
    from cascade.telemetry import Telemetry


Daily = tuple[tuple[str, float], ...]
"""Budgets that runs share: USD a UTC day by scope."""


@dataclass(frozen=True, slots=True)
class Tier:
    """A tier of a policy, ready to run. ``calibrators``: one for each judge prefix, the empty one first; or none at all."""

    name: str
    seat: Seat
    thresholds: Thresholds
    prior: float
    judges: tuple[Judge, ...]
    calibrators: tuple[Calibrator, ...] = ()
    fallbacks: tuple[Seat, ...] = ()  # asked in turn where the tier's own model fails
    compares: bool = False  # whether a calibrator reads agreement with the answers of earlier tiers


@dataclass(frozen=True, slots=True)
class Ladder:
    """A policy, ready to run: its tiers in order and every model that its judges may ask.

    ``daily`` are the budgets that its runs share with others, USD a UTC day by scope, kept by ``ledger``.
    """

    policy: Policy
    tiers: tuple[Tier, ...]
    seats: dict[str, Seat]
    ledger: Ledger | None = None
    daily: Daily = ()
    telemetry: "Telemetry | None" = None


def spend_of(ladder: Ladder, budget_usd: float | None = None, daily: Daily = ()) -> Spend:
    """What a run of the ladder may spend; ``budget_usd`` replaces the policy's, ``daily`` are budgets beside its own."""
    policy, shared = ladder.policy, ladder.daily + daily
    limits = _limits_of(today(), shared) if shared else {}
    budget = policy.budget_usd if budget_usd is None else budget_usd
    return Spend(policy.max_calls, budget, policy.max_samples, limits, ladder.ledger)


@lru_cache(maxsize=64)
def _limits_of(day: str, daily: Daily) -> Mapping[str, float]:
    return {f"{day} {scope}": usd for scope, usd in daily}
