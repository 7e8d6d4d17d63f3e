"""Thresholds by task: which task a run belongs to, and the tiers as that task has them."""

from collections.abc import Mapping
from dataclasses import replace

from cascade.policy.schema import Policy, TierPolicy
from cascade.policy.thresholds import NO_TASK, Thresholds
from judges import Prompt

from .plan import CompiledPolicy, CompiledTier, TaskPlan


def with_tasks(compiled: CompiledPolicy) -> CompiledPolicy:
    """The policy with its variants by task, or itself where neither a threshold nor a predictor depends on the task."""
    policy = compiled.policy
    tasks = {task for tier in policy.tiers for task in tier.accept_at_by_task or ()}
    is_evidence = any(tier.predictor is not None and tier.predictor.reads_task for tier in compiled.tiers)
    if not tasks and not is_evidence:
        return compiled
    variants = {task: replace(compiled, tiers=_tiers(policy, compiled.tiers, task)) for task in sorted(tasks)}
    return replace(compiled, tasks=replace(task_plan(policy, variants), is_evidence=is_evidence))


def task_plan(policy: Policy, variants: Mapping[str, CompiledPolicy] | None = None) -> TaskPlan:
    """How the policy finds a run's task, and the policy as each task has it."""
    patterns = tuple((rule.task, rule.pattern) for rule in policy.tasks.rules)
    return TaskPlan(tag=policy.tasks.tag, patterns=patterns, variants=variants or {})


def variant(compiled: CompiledPolicy, prompt: Prompt, tags: Mapping[str, object] | None) -> CompiledPolicy:
    """The policy as the run's task has it; a task that has no thresholds of its own has the tiers' ``accept_at``.

    A run without a task has the thresholds of ``NO_TASK``, where there are any.
    """
    plan = compiled.tasks
    if plan is None:
        return compiled
    task = plan.task_of(prompt, tags)
    of_task = plan.variants.get(NO_TASK if task is None else task, compiled)
    return replace(of_task, caller_task=task) if plan.is_evidence else of_task


def thresholds_of(tier: TierPolicy, task: str | None) -> Thresholds | None:
    """The tier's thresholds for a task; None where the task skips the tier."""
    accept_at = None if task is None else (tier.accept_at_by_task or {}).get(task)
    if accept_at == "skip":
        return None
    return tier.thresholds if accept_at is None else replace(tier.thresholds, final=accept_at)


def _tiers(policy: Policy, tiers: tuple[CompiledTier, ...], task: str) -> tuple[CompiledTier, ...]:
    result = []
    for tier, compiled in zip(policy.tiers, tiers, strict=True):
        thresholds = thresholds_of(tier, task)
        if thresholds is not None:
            result.append(replace(compiled, thresholds=thresholds, task=task))
    return tuple(result)
