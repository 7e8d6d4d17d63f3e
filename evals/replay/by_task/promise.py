"""Promises for each task: at most so much mean loss on every one of them, alone or with a promise on the whole."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from evals.replay.certificate.guarantee import CertifiedChoice, Guarantee
from evals.replay.certificate.menu import saves
from evals.replay.rows.splits import Splits
from evals.replay.score_table import TierScores
from evals.replay.statistics.certify import METHODS, fixed_sequence, p_value
from evals.replay.sweep_result import Candidate
from evals.replay.tuning.tune import Goal

from .candidates import Names, Rows, TaskCandidate, assembled
from .tuner import TaskTuner

Array = npt.NDArray[np.float64]
NOTES = ("thresholds by task: each task has its own, and skips tiers that do not pay for it",)


def choose_for_each_task(
    columns: Mapping[str, Sequence[TierScores]],
    splits: Splits,
    limit: float,
    delta: float,
    *,
    row_tasks: Names,
    seed: int = 0,
) -> CertifiedChoice:
    """The cheapest thresholds of each task that can be proved to keep the promise on that task.

    Each task's candidates are tested in a fixed sequence at level ``delta / K`` on its own certification rows, K tasks in
    all (Bonferroni), so that with probability 1 - ``delta`` every task's promise is kept. A task that can prove none goes
    straight to the premium tier, and loses nothing. The mean over all tasks keeps the promise as well.

    Args:
        columns: As for ``choose_certified``.
        splits: The rows; ``test`` is never read.
        limit: The largest mean loss of any task.
        delta: The probability that any task's promise is broken.
        row_tasks: (n,), each row's task.
        seed: The seed of the folds.
    """
    premium = list(columns)[-1]
    quality, premium_usd = columns[premium][0].quality[:, 0], columns[premium][0].cost_usd[:, 0]
    tuner = TaskTuner(columns, splits.fit, Goal(quality, limit, premium), seed, row_tasks=row_tasks)
    rows = {task: splits.certify[row_tasks[splits.certify] == task] for task in tuner.tasks}
    level = delta / len(tuner.tasks)
    parts: dict[str, Candidate] = {}
    proofs: list[dict[str, Any]] = []
    for task, sequence in tuner.task_sequences({t: len(r) for t, r in rows.items()}, limit).items():
        premium_alone, *others = sequence
        own_fit = splits.fit[row_tasks[splits.fit] == task]
        others = [c for c in others if len(own_fit) > 1 and saves(c, premium_usd, own_fit)]
        losses = [quality[rows[task]] - c.outcome(rows[task]).quality for c in others]
        proof = fixed_sequence(losses, limit, level) if len(rows[task]) else None
        chosen = premium_alone
        if proof is not None and proof.position >= 0:
            passed = others[: proof.position + 1]
            own = splits.calibration[row_tasks[splits.calibration] == task]
            chosen = min(passed, key=lambda c: float(c.outcome(own).cost_usd.mean()))
            proof = replace(proof, position=others.index(chosen))
        parts[task] = chosen
        proofs.append(
            {
                "task": task,
                "n": len(rows[task]),
                "proved": chosen is not premium_alone,
                "p_value": proof.p_value if proof is not None and chosen is not premium_alone else None,
                "tiers": list(chosen.cascade.models),
            }
        )
    whole = assembled(parts, tuner.order, row_tasks, splits.fit)
    every = splits.certify
    losses_of_all = quality[every] - whole.outcome(every).quality
    words = (
        f"With {100 * (1 - delta):g} % confidence no task's mean quality is more than {limit:g} below the premium tier's: "
        f"{len(tuner.tasks)} tasks, each tested at level {level:.3g} (Bonferroni). " + _cheaper(proofs)
    )
    worst = max((p["p_value"] for p in proofs if p["proved"]), default=1.0)
    certificate = {
        "certified": any(p["proved"] for p in proofs), "max_loss": limit, "max_task_loss": limit, "delta": delta,
        "method": f"{METHODS['paired']} for each task, Bonferroni", "n": len(every),
        "p_value": min(1.0, worst * len(tuner.tasks)), "tests": len(proofs),
        "loss": float(np.mean(losses_of_all)), "needed_n": None, "words": words, "by_task": proofs,
    }  # fmt: skip
    return _choice(whole, certificate, tuner, splits)


def choose_for_whole_and_each_task(
    columns: Mapping[str, Sequence[TierScores]],
    splits: Splits,
    limit: float,
    task_limit: float,
    delta: float,
    *,
    row_tasks: Names,
    seed: int = 0,
) -> CertifiedChoice:
    """The cheapest thresholds by task that can be proved to keep a promise on the whole and one on each task.

    One path of candidates from the fit rows is tested in order. A candidate passes where every test does at level
    ``delta``: that of the whole, and that of each task that it does not send straight to the premium tier. Its promises are
    broken if any is, so that no correction is needed (intersection-union test, Berger 1982); the sequence stops at the first
    candidate that fails. With probability 1 - ``delta`` all promises are kept.

    Args:
        columns: As for ``choose_certified``.
        splits: The rows; ``test`` is never read.
        limit: The largest mean loss of all rows, less than ``task_limit``.
        task_limit: The largest mean loss of any task.
        delta: The probability that any promise is broken.
        row_tasks: (n,), each row's task.
        seed: The seed of the folds.
    """
    premium = list(columns)[-1]
    quality, premium_usd = columns[premium][0].quality[:, 0], columns[premium][0].cost_usd[:, 0]
    tuner = TaskTuner(columns, splits.fit, Goal(quality, limit, premium), seed, row_tasks=row_tasks)
    every = splits.certify
    rows = {task: every[row_tasks[every] == task] for task in tuner.tasks}
    path = tuner.path(len(every), limit, task_limits={task: (task_limit, len(r)) for task, r in rows.items()})
    passed: list[tuple[TaskCandidate, dict[str, float]]] = []
    tests = 0
    for candidate in (c for c in path if saves(c, premium_usd, splits.fit)):
        tests += 1
        p_values = _p_values(candidate, quality, every, rows, limit, task_limit)
        if max(p_values.values()) > delta:
            break
        passed.append((candidate, p_values))
    premium_alone = tuner.premium_alone(len(every), limit)
    chosen, p_values = min(
        passed, key=lambda item: float(item[0].outcome(splits.calibration).cost_usd.mean()), default=(premium_alone, {})
    )
    proofs = [
        {"task": task, "n": len(rows[task]), "proved": task in p_values, "p_value": p_values.get(task),
         "tiers": list(chosen.parts[task].cascade.models)}
        for task in tuner.tasks
    ]  # fmt: skip
    words = (
        f"With {100 * (1 - delta):g} % confidence the mean quality is at most {limit:g} below the premium tier's, and no "
        f"task's more than {task_limit:g}: every test at level {delta:g} (intersection-union, {tests} candidates in a fixed "
        f"sequence). {_cheaper(proofs)}"
    )
    certificate = {
        "certified": bool(passed), "max_loss": limit, "max_task_loss": task_limit, "delta": delta,
        "method": f"{METHODS['paired']}, for the whole and for each task (intersection-union)", "n": len(every),
        "p_value": max(p_values.values(), default=1.0), "tests": tests,
        "loss": float(np.mean(quality[every] - chosen.outcome(every).quality)), "needed_n": None, "words": words,
        "by_task": proofs,
    }  # fmt: skip
    return _choice(chosen, certificate, tuner, splits)


def _p_values(
    candidate: TaskCandidate, quality: Array, every: Rows, rows: Mapping[str, Rows], limit: float, task_limit: float
) -> dict[str, float]:
    """The p-value of each promise by its task, that of the whole by an empty name.

    A task that goes straight to the premium tier loses nothing.
    """
    losses = {"": (quality[every] - candidate.outcome(every).quality, limit)}
    for task, at in rows.items():
        if len(candidate.parts[task].cascade.tiers) > 1:
            losses[task] = quality[at] - candidate.outcome(at).quality, task_limit
    return {name: p_value(loss, most)[0] for name, (loss, most) in losses.items()}


def _cheaper(proofs: Sequence[Mapping[str, Any]]) -> str:
    """Which tasks are answered cheaper, and where the others go."""
    cheaper = [str(proof["task"]) for proof in proofs if proof["proved"]]
    if not cheaper:
        return "No task can be answered cheaper with that proof. All go straight to the premium tier."
    others = "" if len(cheaper) == len(proofs) else " All others go straight to the premium tier."
    return f"Cheaper: {', '.join(cheaper)}.{others}"


def _choice(chosen: TaskCandidate, certificate: dict[str, Any], tuner: TaskTuner, splits: Splits) -> CertifiedChoice:
    return CertifiedChoice(
        chosen=chosen,
        certificate=certificate,
        guarantee=Guarantee("max_loss", certificate["max_loss"], certificate["delta"]),
        method="split",
        fit_rows=splits.fit,
        swept=tuple(tuner.sweep_all()),
        notes=NOTES,
    )
