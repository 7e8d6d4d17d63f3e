"""Tunes thresholds by task on the fit rows.

Each task has its own sweep of the same ladder and of its parts that end in the premium tier. For a price of a lost point,
each task takes the vector whose cost plus priced loss is least; as the price falls from infinity to 0, the whole goes from
the safest to the cheapest. That path is one sequence of candidates, to be tested like any other.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import numpy.typing as npt

from cascade.policy.thresholds import NO_TASK
from evals.replay.score_table import TierScores
from evals.replay.simulate import CandidateTier, SimulatedCascade
from evals.replay.sweep_result import Candidate, SweepResult
from evals.replay.tuning.fallback import CandidateSequence
from evals.replay.tuning.tune import MARGIN, MAX_SEQUENCE, Goal, Tuner

from .candidates import Names, Rows, TaskCandidate, assembled

# A task's own grades weigh n / (n + PRIOR) against what the confidences, fitted on all tasks, predict of it.
PRIOR = 10
_TOO_MUCH = 1e9
PRICES = np.concatenate([[np.inf], np.geomspace(1e4, 1e-4, 160), [0.0]])
"""Prices of a whole lost point, in multiples of what the premium tier costs."""


class TaskTuner(Tuner):
    """Tunes one ladder, with thresholds by task.

    Args:
        columns: As for ``Tuner``.
        fit_rows: The rows to tune on.
        goal: The promise on the whole; its ``premium`` must be a model.
        seed: The seed of the folds.
        row_tasks: (n,), each row's task.
    """

    def __init__(
        self, columns: Mapping[str, Sequence[TierScores]], fit_rows: Rows, goal: Goal, seed: int, *, row_tasks: Names
    ) -> None:
        super().__init__(columns, fit_rows, goal, seed)
        self.row_tasks = row_tasks
        self.tasks = sorted(set(row_tasks))
        self._premium_usd = columns[self.order[-1]][0].cost_usd[:, 0]
        self._task_sweeps: dict[tuple[str, ...], dict[str, list[SweepResult]]] = {}

    def test_sequence(
        self, n: int, *, must_end: str | None = None, limit: float | None = None, longest: int = MAX_SEQUENCE
    ) -> tuple[list[Candidate], list[str]]:
        """Candidates with thresholds by task, from the safest to the cheapest; see ``Tuner.test_sequence``."""
        limit = self.goal.limit if limit is None else limit
        path = self.path(n, limit, longest)
        plain, notes = self.best_sweep(n, must_end=must_end, limit=limit)
        loss, variance, usd = (np.array([getattr(c, name) for c in path]) for name in ("loss", "variance", "usd"))
        if self._expected_usd(plain, n, limit) < self.expected_usd(loss, variance, usd, n, limit):
            same, notes = super().test_sequence(n, must_end=must_end, limit=limit, longest=longest)
            return same, [*notes, "thresholds by task promise no lower cost on the fit rows: all tasks have the same"]
        return [*path], ["thresholds by task: each task has its own, and skips tiers that do not pay for it"]

    def test_sequences(self, n: int, delta: float, *, must_end: str | None = None) -> list[CandidateSequence]:
        """The one sequence of ``test_sequence``."""
        candidates, notes = self.test_sequence(n, must_end=must_end)
        return [CandidateSequence(candidates=tuple(candidates), notes=tuple(notes))]

    def path(
        self, n: int, limit: float, longest: int = MAX_SEQUENCE, task_limits: Mapping[str, tuple[float, int]] | None = None
    ) -> list[TaskCandidate]:
        """Candidates with thresholds by task, from the safest to the cheapest.

        Args:
            n: How many rows will test them.
            limit: The largest mean loss of all rows.
            longest: The most candidates.
            task_limits: For each task the largest mean loss of its own and how many rows will test it: vectors that are
                not predicted to keep it with a margin take no part.
        """
        sweeps = self._by_task(self._ladder(n, limit))
        if task_limits is not None:
            sweeps = {
                task: [options[0], *(_within_limit(o, *task_limits[task]) for o in options[1:])]
                for task, options in sweeps.items()
            }
        path: list[TaskCandidate] = []
        seen: set[tuple[tuple[int, int], ...]] = set()
        aversion = self._aversion(n, len(self.rows), limit)
        for price in PRICES:
            chosen = {task: _least(options, float(price) * self._unit(task), aversion) for task, options in sweeps.items()}
            key = tuple(chosen.values())
            if key not in seen:
                seen.add(key)
                parts = {task: sweeps[task][i].candidate(flat, limit) for task, (i, flat) in chosen.items()}
                path.append(assembled(parts, self.order, self.row_tasks, self.rows))
        if len(path) > longest:
            path = [path[i] for i in np.unique(np.linspace(0, len(path) - 1, longest).round().astype(np.int64))]
        return path

    def premium_alone(self, n: int, limit: float) -> TaskCandidate:
        """Every task straight to the premium tier; of the same ladder as ``path``."""
        sweeps = self._by_task(self._ladder(n, limit))
        parts = {task: options[0].candidate(0, limit) for task, options in sweeps.items()}
        return assembled(parts, self.order, self.row_tasks, self.rows)

    def task_sequences(self, n_by_task: Mapping[str, int], limit: float) -> dict[str, list[Candidate]]:
        """For each task the premium tier alone, and its own candidates from the safest to the cheapest.

        Args:
            n_by_task: How many rows of each task will test them.
            limit: The largest mean loss.
        """
        sequences: dict[str, list[Candidate]] = {}
        for task, options in self._by_task(self._ladder(sum(n_by_task.values()), limit)).items():
            seen: dict[tuple[int, int], None] = {}
            n_fit = int((self.row_tasks[self.rows] == task).sum())
            aversion = self._aversion(n_by_task[task], n_fit, limit)
            for price in PRICES:
                seen.setdefault(_least(options, float(price) * self._unit(task), aversion))
            cheaper = [options[i].candidate(flat, limit) for i, flat in seen if i > 0]
            sequences[task] = [options[0].candidate(0, limit), *cheaper]
        return sequences

    @staticmethod
    def _aversion(n: int, n_fit: int, limit: float) -> float:
        """What a unit of a row's squared loss weighs against a unit of mean loss.

        A test on ``n`` rows passes where loss + z * sqrt(variance * (1/n + 1/n_fit)) stays below the limit; this is the
        derivative of the second term at a variance of ``limit``, so that the path begins with what surely passes.
        """
        return MARGIN * math.sqrt((1 / max(n, 1) + 1 / max(n_fit, 1)) / limit) / 2

    def _unit(self, task: str) -> float:
        """What the premium tier's answer costs on the task's fit rows, in USD."""
        rows = self.rows[self.row_tasks[self.rows] == task]
        return float(self._premium_usd[rows].mean()) if len(rows) else float(self._premium_usd[self.rows].mean())

    def _ladder(self, n: int, limit: float) -> list[CandidateTier]:
        """The steps of the cascade that is best without regard to tasks, with every model that it leaves out."""
        several = [each for each in self.sweep_all() if len(each.cascade.tiers) > 1]
        ending = [each for each in several if each.cascade.models[-1] == self.order[-1]]
        best = min(ending, key=lambda each: self.rank(each, n, limit), default=None)
        own = {tier.model: tier for tier in best.cascade.tiers} if best is not None else {}
        ladder = [own.get(model, self.tiers[model][0]) for model in self.order[:-1]]
        return [*ladder, own.get(self.order[-1], self.ends[self.order[-1]])]

    def _by_task(self, ladder: Sequence[CandidateTier]) -> dict[str, list[SweepResult]]:
        """Every part of the ladder that ends in the premium tier, swept on each task's fit rows; the premium tier first."""
        key = tuple(f"{id(tier)}" for tier in ladder)
        if key not in self._task_sweeps:
            *cheap, last = ladder
            parts = [list(part) for size in range(min(len(cheap), 3) + 1) for part in combinations(cheap, size)]
            cascades = [SimulatedCascade.from_tiers([*part, last]) for part in parts]
            self._cached_tiers += ladder
            self._task_sweeps[key] = {task: [self._swept(c, task) for c in cascades] for task in self.tasks}
        return self._task_sweeps[key]

    def _swept(self, cascade: SimulatedCascade, task: str) -> SweepResult:
        """One cascade on one task's fit rows; on all of them where the task has too few to be swept."""
        rows = self.rows[self.row_tasks[self.rows] == task]
        if len(rows) < 2:
            return self.sweep(cascade)
        return self.sweep(cascade, rows=rows, graded_share=len(rows) / (len(rows) + PRIOR))


def _within_limit(option: SweepResult, limit: float, n: int) -> SweepResult:
    """The sweep in which vectors that may not keep ``limit`` on ``n`` rows lose and cost too much to be taken."""
    refused = option.margin(limit, n) < MARGIN
    return replace(option, loss=np.where(refused, _TOO_MUCH, option.loss), usd=np.where(refused, _TOO_MUCH, option.usd))


def _least(options: Sequence[SweepResult], price: float, aversion: float) -> tuple[int, int]:
    """Which cascade and which of its vectors cost least, a lost point having a price.

    Args:
        options: The premium tier alone first, which loses nothing for certain.
        price: Of a whole point of loss; infinite: the least loss counts, whatever it costs.
        aversion: What a unit of squared loss weighs against a unit of loss.
    """
    best, certain = (np.inf, np.inf, 0, 0), float(options[0].square[0])
    for i, option in enumerate(options):
        loss = option.loss + aversion * np.maximum(option.square - certain, 0.0)
        total, tie = (option.usd + price * loss, loss) if np.isfinite(price) else (loss, option.usd)
        flat = int(np.lexsort((tie, total))[0])
        best = min(best, (float(total[flat]), float(tie[flat]), i, flat))
    return best[2], best[3]


def tasks_of(tasks: Sequence[str]) -> npt.NDArray[np.object_]:
    """Each row's task as an array; rows without one belong to ``NO_TASK``."""
    names = np.empty(len(tasks), dtype=object)
    names[:] = [task or NO_TASK for task in tasks]
    return names
