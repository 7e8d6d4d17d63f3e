"""A promise for each task: at most so much mean loss on every one of them, with a correction for their number."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from evals.replay.certificate.certified_choice import CertifiedChoice, Guarantee
from evals.replay.certificate.menu import saves
from evals.replay.rows.splits import Splits
from evals.replay.score_table import TierScores
from evals.replay.statistics.certify import METHODS, fixed_sequence
from evals.replay.tune import Candidate, Goal

from .candidates import Names, assembled
from .tuner import TaskTuner


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
        seed: Of folds.
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
    cheaper = [str(proof["task"]) for proof in proofs if proof["proved"]]
    words = (
        f"With {100 * (1 - delta):g} % confidence no task's mean quality is more than {limit:g} below the premium tier's: "
        f"{len(tuner.tasks)} tasks, each tested at level {level:.3g} (Bonferroni). "
        + (f"Cheaper: {', '.join(cheaper)}. " if cheaper else "No task can be answered cheaper with that proof. ")
        + (
            ""
            if len(cheaper) == len(tuner.tasks)
            else f"{'All others go' if cheaper else 'All go'} straight to the premium tier."
        )
    )
    certificate = {
        "certified": True, "max_loss": limit, "delta": delta, "method": f"{METHODS['paired']} for each task, Bonferroni",
        "n": len(every), "p_value": max((p["p_value"] for p in proofs if p["proved"]), default=0.0) * len(tuner.tasks),
        "tests": len(proofs), "loss": float(np.mean(losses_of_all)), "needed_n": None, "words": words.strip(),
        "by_task": proofs,
    }  # fmt: skip
    return CertifiedChoice(
        chosen=whole,
        certificate=certificate,
        guarantee=Guarantee("max_loss", limit, delta),
        method="split",
        fit_rows=splits.fit,
        swept=tuple(tuner.sweep_all()),
        notes=("thresholds by task: each task has its own, and skips tiers that do not pay for it",),
    )
