"""A ladder with thresholds by task, as tuning and tests see it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evals.replay.simulate import Outcome, SimulatedCascade
from evals.replay.sweep_result import Candidate

Rows = npt.NDArray[np.int64]
Names = npt.NDArray[np.object_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TaskCandidate(Candidate):
    """Each task's own candidate, over the tiers of one ladder.

    ``cascade`` has all tiers that some task uses; ``thresholds`` are the strictest of the tasks, for tasks that were not
    recorded. ``parts`` has each task's candidate, whose ladder is a part of ``cascade``. ``row_tasks``: (n,).
    """

    parts: Mapping[str, Candidate]
    row_tasks: Names

    def outcome(self, rows: Rows) -> Outcome:
        """What it does on ``rows``: each row by its task's candidate."""
        tasks = self.row_tasks[rows]
        whole: dict[str, npt.NDArray[np.generic]] = {}
        for task, part in self.parts.items():
            at = np.flatnonzero(tasks == task)
            if not len(at):
                continue
            outcome = part.outcome(rows[at])
            place = np.array([self.cascade.models.index(model) for model in part.cascade.models])
            for name in Outcome.__slots__:
                values = getattr(outcome, name)
                if name in ("tier", "last_called"):
                    values = place[values]
                whole.setdefault(name, np.zeros(len(rows), dtype=values.dtype))[at] = values
        return Outcome(**whole)  # type: ignore[arg-type]

    def accept_at(self, model: str) -> dict[str, float | str]:
        """The model's threshold for each task; "skip" where the task does not ask it."""
        by_task: dict[str, float | str] = {}
        for task, part in self.parts.items():
            models = part.cascade.models
            at = [*part.thresholds, part.last_accept_at]
            by_task[task] = at[models.index(model)] if model in models else "skip"
        return by_task


def assembled(parts: Mapping[str, Candidate], order: Sequence[str], row_tasks: Names, fit_rows: Rows) -> TaskCandidate:
    """The candidate of all tasks together.

    Args:
        parts: Each task's candidate. Tiers of the same model must be the same tier.
        order: The models, cheapest first.
        row_tasks: (n,), each row's task.
        fit_rows: The rows that the parts were tuned on, for the shares of the tasks.
    """
    tiers = {tier.model: tier for part in parts.values() for tier in part.cascade.tiers}
    models = [model for model in order if model in tiers]
    cascade = SimulatedCascade.from_tiers([tiers[model] for model in models])
    share = {task: float((row_tasks[fit_rows] == task).mean()) for task in parts}
    loss = sum(share[task] * part.loss for task, part in parts.items())
    strictest = {
        model: max(
            (t for p in parts.values() for m, t in zip(p.cascade.models, p.thresholds, strict=False) if m == model),
            default=1.0,
        )
        for model in models[:-1]
    }
    return TaskCandidate(
        cascade=cascade,
        thresholds=tuple(strictest[model] for model in models[:-1]),
        loss=loss,
        variance=sum(share[task] * part.variance for task, part in parts.items()),
        usd=sum(share[task] * part.usd for task, part in parts.items()),
        parts=dict(parts),
        row_tasks=row_tasks,
    )
