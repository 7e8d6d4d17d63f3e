"""Thresholds by task: which task a run belongs to, and the tiers as that task has them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from cascade.policy.schema import Policy, TierPolicy
from cascade.policy.thresholds import Thresholds
from judges import Prompt

from .plan import CompiledPolicy, CompiledTier

MOST_READ = 10_000
"""Characters of a prompt that the patterns of a policy's tasks are matched against."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPlan:
    """A policy whose tiers have thresholds by task.

    Attributes:
        tag: The tag of a run that names its task.
        patterns: Pairs of a task and what a prompt of it contains, tried in order where a run has no such tag.
        variants: The policy as each task has it.
    """

    tag: str
    patterns: tuple[tuple[str, re.Pattern[str]], ...]
    variants: Mapping[str, CompiledPolicy]

    def task_of(self, prompt: Prompt, tags: Mapping[str, object] | None) -> str | None:
        """The run's task, by its tag, else by the first pattern that matches; None where neither says one."""
        if tags is not None and self.tag in tags:
            return str(tags[self.tag])
        if self.patterns:
            text = prompt.text[:MOST_READ]
            return next((task for task, pattern in self.patterns if pattern.search(text)), None)
        return None


def with_tasks(compiled: CompiledPolicy) -> CompiledPolicy:
    """The policy with its variants by task, or itself where no tier has thresholds by task."""
    policy = compiled.policy
    tasks = {task for tier in policy.tiers for task in tier.accept_at_by_task or ()}
    if not tasks:
        return compiled
    plan = TaskPlan(
        tag=policy.tasks.tag,
        patterns=tuple((rule.task, re.compile(rule.pattern)) for rule in policy.tasks.rules),
        variants={task: replace(compiled, tiers=_tiers(policy, compiled.tiers, task)) for task in sorted(tasks)},
    )
    return replace(compiled, tasks=plan)


def variant(compiled: CompiledPolicy, prompt: Prompt, tags: Mapping[str, object] | None) -> CompiledPolicy:
    """The policy as the run's task has it; a task that has no thresholds of its own has the tiers' ``accept_at``."""
    plan = compiled.tasks
    if plan is None:
        return compiled
    task = plan.task_of(prompt, tags)
    return compiled if task is None else plan.variants.get(task, compiled)


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
