"""What a replay found, as plain data: the figures of the table, the JSON and the report."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from cascade import Result
from evals.recording import Example

from .baselines import uncalibrated
from .calibrate import apply
from .candidate_tiers import agreement_scores, fit_tier
from .metrics import ece_by_chance, reliability, summary
from .score_table import TierScores
from .simulate import Outcome, SimulatedCascade
from .threshold_sweep import cut_points, pareto, sweep_surface
from .tune import Candidate

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

MOST_POINTS = 150
MOST_LADDERS = 60
MISTAKES = 12


def calibration(candidate: Candidate, rows: Rows, n_fit: int, seed: int) -> list[dict[str, Any]]:
    """How honest each tier's confidence is on held-out rows, before and after calibration."""
    entries = []
    for i, tier in enumerate(candidate.cascade.tiers):
        column = tier.column
        passed = rows[~column.vetoed[rows, -1]]
        if len(passed) < 2:
            continue
        scores = {name: column.scores[passed, j] for j, name in enumerate(column.names)}
        scores |= {
            k: v[passed] for k, v in agreement_scores(column, len(column.names), candidate.cascade.tier_outcomes[:i]).items()
        }
        after = apply(tier.calibrators[-1], scores, n=len(passed))
        before, right = uncalibrated(column)[passed, -1], column.quality[passed, -1]
        bins = np.linspace(0, 1, 21)
        weights = {"right": right, "wrong": 1 - right}
        entries.append(
            {
                "tier": tier.model,
                "judges": [r["use"] for r in tier.rules],
                "method": tier.calibrators[-1].to_json()["method"],
                "n": len(passed),
                "n_fit": n_fit,
                "before": summary(before, right, seed),
                "after": summary(after, right, seed),
                "ece_by_chance": ece_by_chance(after, seed),
                "reliability": {"before": reliability(before, right), "after": reliability(after, right)},
                "histogram": {
                    "edges": bins.tolist(),
                    **{k: np.histogram(after, bins=bins, weights=w)[0].tolist() for k, w in weights.items()},
                },
            }
        )
    return entries


def frontier(
    columns: Mapping[str, Sequence[TierScores]], fit_rows: Rows, rows: Rows, usd: float, seed: int
) -> list[dict[str, Any]]:
    """The Pareto points of quality over cost on ``rows``, over the sub-ladders; confidences fitted on ``fit_rows``.

    ``usd``: the premium tier's mean cost, of which ``cost_ratio`` is a multiple; None where it is 0.
    """
    models = list(columns)
    tiers = {m: fit_tier(c[0], fit_rows, seed) for m, c in columns.items()}
    bare = {m: fit_tier(c[0].first_judges(0), fit_rows, seed) for m, c in columns.items()}
    chains: list[tuple[str, ...]] = [c for size in (1, 2, 3) for c in combinations(models, size)]
    if len(chains) > MOST_LADDERS:  # many models: every pair and single, and triples that end in the premium tier
        chains = [c for c in chains if len(c) < 3 or c[-1] == models[-1]]
    quality, cost, points = [], [], []
    for chain in chains:
        cascade = SimulatedCascade.from_tiers([*(tiers[m] for m in chain[:-1]), bare[chain[-1]]])
        cuts = [
            cut_points(np.clip(s.effective_confidence[rows], 0, 1), 100 if len(chain) < 3 else 40)
            for s in cascade.tier_outcomes[:-1]
        ]
        swept = sweep_surface(cascade.sweep_columns(rows), cuts)
        passed = pareto(swept.quality, swept.cost)
        quality += swept.quality.ravel()[passed].tolist()
        cost += swept.cost.ravel()[passed].tolist()
        points += [(chain, swept.thresholds(int(i))) for i in passed]
    front = pareto(np.array(quality), np.array(cost))
    if len(front) > MOST_POINTS:
        front = front[np.unique(np.linspace(0, len(front) - 1, MOST_POINTS).round().astype(np.int64))]
    return [
        {
            "cost_ratio": _ratio(cost[i], usd),
            "quality": quality[i],
            "tiers": list(points[i][0]),
            "thresholds": list(points[i][1]),
        }
        for i in front
    ]


def _ratio(cost: float, premium: float) -> float | None:
    """None where a cost is unknown, or where the premium tier is free."""
    return float(cost / premium) if premium and np.isfinite(cost) else None


def flow(models: Sequence[str], outcome: Outcome) -> list[dict[str, Any]]:
    """How many prompts went from tier to tier, and where they were answered."""
    entries: list[dict[str, Any]] = []
    source = "prompts"
    for i, model in enumerate(models):
        called = int((outcome.last_called >= i).sum())
        if called:
            entries.append({"source": source, "target": model, "n": called})
        source = model
    for i, model in enumerate(models):
        for j, last in enumerate(models):
            n = int(((outcome.tier == i) & (outcome.last_called == j)).sum())
            if n:  # an earlier tier's answer may be returned in the end, where the best answer so far counts
                entries.append({"source": last, "target": f"answered by {model}", "n": n})
    return entries


def by_task(
    examples: Sequence[Example], rows: Rows, models: Sequence[str], outcome: Outcome, premium: str, interval: Any
) -> list[dict[str, Any]]:
    """One entry a task, on held-out rows; ``interval`` gives that of the mean of paired differences."""
    tasks = np.array([examples[i].task or "(no task)" for i in rows], dtype=object)
    reference = np.array([examples[i].answers[premium]["quality"] for i in rows], dtype=float)
    usd = np.array([examples[i].answers[premium]["cost_usd"] for i in rows], dtype=float)
    entries = []
    for task in sorted(set(tasks)):
        at = np.flatnonzero(tasks == task)
        difference = outcome.quality[at] - reference[at]
        entries.append(
            {
                "task": task,
                "n": len(at),
                "quality": float(outcome.quality[at].mean()),
                "premium_quality": float(reference[at].mean()),
                "difference": float(difference.mean()),
                "interval": list(interval(outcome.quality[at], reference[at])),
                "cost_ratio": _ratio(outcome.cost_usd[at].sum(), usd[at].sum()),
                "shares": {m: float((outcome.tier[at] == i).mean()) for i, m in enumerate(models)},
            }
        )
    return entries


def mistakes(
    examples: Sequence[Example], rows: Rows, results: Sequence[Result], outcome: Outcome, premium: str
) -> list[dict[str, Any]]:
    """The accepted answers that were most wrong and most sure, to be read by a person; ``results`` gives their texts."""
    wrong = np.flatnonzero(outcome.accepted & (outcome.quality < 0.5))
    worst = wrong[np.lexsort((-outcome.confidence[wrong], outcome.quality[wrong]))][:MISTAKES]
    entries = []
    for i in worst:
        example, best = examples[rows[i]], examples[rows[i]].answers[premium]
        entries.append(
            {
                "id": example.id,
                "task": example.task,
                "tier": results[i].model,
                "confidence": float(outcome.confidence[i]),
                "prompt": example.to_prompt().text,
                "answer": results[i].text,
                "reference": None if example.reference is None else str(example.reference),
                "premium_answer": best["text"],
                "premium_quality": best["quality"],
            }
        )
    return entries
