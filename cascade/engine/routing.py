"""Where a run begins: the tiers that its policy's routes leave."""

from collections.abc import Mapping
from dataclasses import replace

from cascade.policy.schema import Policy
from cascade.policy.thresholds import raised
from judges import Prompt

from .plan import CompiledPolicy, CompiledTier, RoutePlan
from .tasks import task_plan


def route_plan(policy: Policy) -> RoutePlan | None:
    """The plan of a policy's routes; None for a policy without."""
    if not policy.routes:
        return None
    return RoutePlan(
        routes=tuple(policy.routes),
        tasks=task_plan(policy),
        order={tier.name: i for i, tier in enumerate(policy.tiers)},
    )


def routed(compiled: CompiledPolicy, plan: RoutePlan, prompt: Prompt, tags: Mapping[str, object] | None) -> CompiledPolicy:
    """The policy with the tiers from the one on at which the run begins; itself where no route matches."""
    place = plan.match(prompt, tags)
    if place is None:
        return compiled
    first = plan.order[plan.routes[place].start_at]
    rest = [tier for tier in compiled.tiers if plan.order[tier.name] >= first]
    skipped = len(compiled.tiers) - len(rest)
    return replace(compiled, tiers=tuple(replace(tier, route=place, skipped=skipped) for tier in rest))


def with_min_confidence(compiled: CompiledPolicy, min_confidence: float) -> CompiledPolicy:
    """The policy for a call that accepts nothing below ``min_confidence``."""
    return replace(compiled, tiers=tuple(tier_with_min_confidence(tier, min_confidence) for tier in compiled.tiers))


def tier_with_min_confidence(tier: CompiledTier, min_confidence: float) -> CompiledTier:
    """The tier for such a call."""
    return replace(tier, thresholds=raised(tier.thresholds, min_confidence), min_confidence=min_confidence)
