"""The task of each row, found as the replayed policy finds it."""

from collections.abc import Sequence
from dataclasses import replace

from cascade import Policy
from cascade.engine.tasks import task_plan
from evals.recording import Example


def with_tasks(examples: Sequence[Example], policy: Policy, name: str) -> list[Example]:
    """The rows with their tasks: the recorded one, which stands for the run's tag, else what the policy's rules say.

    Args:
        examples: The rows.
        policy: The policy; without rules the rows stay as they are.
        name: The policy's name, which an export gives as the task of runs without a tag.
    """
    if not policy.tasks.rules:
        return list(examples)
    plan = task_plan(policy)
    untagged = [example.task in ("", name) for example in examples]
    tasks = [plan.task_of(e.to_prompt(), None) if no_tag else e.task for e, no_tag in zip(examples, untagged, strict=True)]
    return [replace(example, task=task or "") for example, task in zip(examples, tasks, strict=True)]
