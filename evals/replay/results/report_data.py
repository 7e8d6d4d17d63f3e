"""The results of a replay as plain data: the figures of the table, the JSON and the report."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cascade import Result
from evals.recording import Example
from evals.replay.baselines import uncalibrated
from evals.replay.calibration.apply_mapping import apply
from evals.replay.calibration.fit_mappings import method_of
from evals.replay.candidate_tiers import agreement_scores
from evals.replay.simulate import CandidateTier, Outcome
from evals.replay.statistics.metrics import ece_by_chance, reliability, summary
from evals.replay.sweep_result import Candidate, SweepResult
from evals.replay.threshold_sweep import pareto, sweep_surface
from judges.prompt import PROMPT_SCORE

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

NOT_ASKED = "not asked: "
MOST_POINTS = 150
MISTAKES = 12
MISTAKES_OF_A_TASK = 5
FEW_ROWS, FEW_RARE = 100, 20  # with fewer of either, a fitted confidence is a rough estimate


def calibration(candidate: Candidate, rows: Rows, fit_rows: Sequence[Rows], seed: int) -> list[dict[str, Any]]:
    """How well each tier's confidence agrees with the share of right answers on held-out rows, before and after calibration.

    Args:
        candidate: The cascade.
        rows: The test rows.
        fit_rows: For each tier the rows that its confidence was fitted on.
        seed: The seed of the bootstrap.

    Returns:
        One entry for each tier with two or more answers that are not vetoed. ``warning`` says where few rows, or few wrong
        or right answers among them, make the confidence a rough estimate, and where it is worse than without a calibration.
    """
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
        if tier.prompt is not None:
            scores[PROMPT_SCORE] = tier.prompt.probability[passed]
        after = apply(tier.calibrators[-1], scores, n=len(passed))
        before, right = uncalibrated(column)[passed, -1], column.quality[passed, -1]
        fitted_on = fit_rows[i][~column.vetoed[fit_rows[i], -1]]
        bins = np.linspace(0, 1, 21)
        weights = {"right": right, "wrong": 1 - right}
        entries.append(
            {
                "tier": tier.model,
                "judges": [r["use"] for r in tier.rules],
                "method": method_of(tier.calibrators[-1]),
                "n": len(passed),
                "n_fit": len(fit_rows[i]),
                "warning": _calibration_warning(tier, column.quality[fitted_on, -1], before, after, right),
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


def _calibration_warning(tier: CandidateTier, fitted: Array, before: Array, after: Array, right: Array) -> str | None:
    """A warning about a tier's confidence; None where there is none.

    ``fitted``: the qualities that it was fitted on. ``before``, ``after``, ``right`` (n,): the confidence without and with
    the calibration, and the quality, of the test rows.
    """
    model = tier.model
    change = (after - right) ** 2 - (before - right) ** 2
    if change.mean() > change.std() / len(change) ** 0.5 and change.mean() > 0.002:
        return (
            f"{model}: on the test rows the calibrated confidence is worse than the raw one (Brier "
            f"score {np.mean((before - right) ** 2):.3f} to {np.mean((after - right) ** 2):.3f}): it was fitted on "
            f"{len(fitted):,} rows, or the rows differ; grade more rows"
        )
    rare = min(float(fitted.sum()), float(len(fitted) - fitted.sum()))
    if len(fitted) < FEW_ROWS or rare < FEW_RARE:
        rows = f"{len(fitted):,} rows, {rare:.0f} of them {'wrong' if fitted.mean() > 0.5 else 'right'}"
        if method_of(tier.calibrators[-1]) == "raw":
            return f"{model}: its confidence is left as it is: on {rows}, no calibration is surely better"
        return f"{model}: its confidence was fitted on {rows}: a rough one"
    return None


def frontier(swept: Sequence[SweepResult], candidates: Sequence[Candidate], rows: Rows, usd: float) -> list[dict[str, Any]]:
    """The Pareto points of quality over cost on ``rows``: of every cascade and threshold vector that tuning considered.

    Args:
        swept: What tuning swept; the thresholds are its cut points.
        candidates: Further points that must not lie above the curve, such as the chosen one.
        rows: The rows to measure on.
        usd: The premium tier's mean cost, of which ``cost_ratio`` is a multiple (None where it is 0).

    Returns:
        The points, cheapest first; at most ``MOST_POINTS``, of which a longer curve keeps evenly spaced ones.
    """
    quality: list[float] = []
    cost: list[float] = []
    points: list[tuple[Sequence[str], Sequence[float]]] = []
    for each in swept:
        surface = sweep_surface(each.cascade.sweep_columns(rows), each.cuts)
        best = pareto(surface.quality, surface.cost)
        quality += surface.quality.ravel()[best].tolist()
        cost += surface.cost.ravel()[best].tolist()
        points += [(each.cascade.models, surface.thresholds(int(i))) for i in best]
    for candidate in candidates:
        outcome = candidate.outcome(rows)
        quality.append(float(outcome.quality.mean()))
        cost.append(float(outcome.cost_usd.mean()))
        points.append((candidate.cascade.models, candidate.thresholds))
    front = pareto(np.array(quality), np.array(cost))
    if len(front) > MOST_POINTS:
        thinned = front[np.unique(np.linspace(0, len(front) - 1, MOST_POINTS).round().astype(np.int64))]
        # The points just below the candidates stay, so that no candidate is above the thinned curve.
        paid = np.array(cost)[front]
        below = [
            front[max(0, int(np.searchsorted(paid, c * (1 + 1e-9) + 1e-15, side="right")) - 1)]
            for c in cost[len(cost) - len(candidates) :]
        ]
        front = np.union1d(thinned, np.array(below, dtype=np.intp))
        front = front[np.argsort(np.array(cost)[front], kind="stable")]
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


def flow(
    models: Sequence[str], outcome: Outcome, paths: Iterable[Sequence[tuple[int, bool]]] | None = None
) -> list[dict[str, Any]]:
    """How many prompts went from tier to tier, past which tiers, and where they were answered.

    Args:
        models: The cascade's models in order.
        outcome: What it did with the test rows.
        paths: For each row the tiers that it reached, in order, each with whether it was asked. Default: all tiers up to
            the last one called, all asked.

    Returns:
        Links with their counts. A tier that is skipped is a node of its own, "not asked: MODEL".
    """
    places = ["prompts", *(name for model in models for name in (model, f"{NOT_ASKED}{model}"))]
    steps: Counter[tuple[str, str]] = Counter()
    for path in ([(i, True) for i in range(last + 1)] for last in outcome.last_called) if paths is None else paths:
        called = [models[i] if is_asked else f"{NOT_ASKED}{models[i]}" for i, is_asked in path]
        steps.update(zip(["prompts", *called], called, strict=False))
    entries: list[dict[str, Any]] = [
        {"source": source, "target": target, "n": steps[source, target]}
        for source in places
        for target in places
        if steps[source, target]
    ]
    for i, model in enumerate(models):
        for j, last in enumerate(models):
            n = int(((outcome.tier == i) & (outcome.last_called == j)).sum())
            if n:  # an earlier tier's answer may be returned in the end, where the best answer so far counts
                entries.append({"source": last, "target": f"answered by {model}", "n": n})
    return entries


def mistakes(
    examples: Sequence[Example], rows: Rows, results: Sequence[Result], outcome: Outcome, premium: str
) -> list[dict[str, Any]]:
    """The accepted answers with the lowest quality and the highest confidence, for people; ``results`` has their texts."""
    wrong = np.flatnonzero(outcome.accepted & (outcome.quality < 0.5))
    ordered = wrong[np.lexsort((-outcome.confidence[wrong], outcome.quality[wrong]))]
    # The worst of all rows, and the worst of each task, so that a task can be read by itself.
    by_task: dict[str, list[int]] = {}
    for i in ordered:
        by_task.setdefault(examples[rows[i]].task, []).append(int(i))
    own_worst = {i for places in by_task.values() for i in places[:MISTAKES_OF_A_TASK]}
    worst = [int(i) for rank, i in enumerate(ordered) if rank < MISTAKES or int(i) in own_worst]
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
                "reference": example.reference,
                "premium_answer": best["text"],
                "premium_quality": best["quality"],
            }
        )
    return entries
