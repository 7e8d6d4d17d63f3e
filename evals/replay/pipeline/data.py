"""The data that a replay reports: for ``--json``, the page and the calibration file."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from cascade import Policy, Result
from evals.recording import Example
from evals.replay import baselines
from evals.replay.certificate.by_cost import upper_bound
from evals.replay.certificate.guarantee import CertifiedChoice, Guarantee
from evals.replay.evidence.cofailure import cofailure
from evals.replay.latency import p95, speculation
from evals.replay.results import report_data
from evals.replay.results.table import ResultRow, as_json
from evals.replay.results.tasks import by_task
from evals.replay.rows.splits import Splits
from evals.replay.score_table import TierScores
from evals.replay.simulate import Outcome
from evals.replay.statistics.certify import METHODS
from evals.replay.sweep_result import Candidate, SweepResult
from evals.replay.tuning.tune import Goal, Tuner

from .config import ReplayConfig


def replay_data(
    *,
    rows: Sequence[Example],
    scores: dict[str, list[TierScores]],
    splits: Splits,
    tiers: Sequence[str],
    config: ReplayConfig,
    choice: CertifiedChoice | None,
    policy: Policy,
    results: Sequence[Result],
    engine_outcome: Outcome,
    table: Sequence[ResultRow],
    limit: float,
) -> dict[str, Any]:
    """Everything that ``--json`` writes and the page shows.

    Args:
        rows: The recording's rows.
        scores: The scores of each tier.
        splits: The parts of the rows; everything is measured on ``test``.
        tiers: The models, cheapest first, the premium tier last.
        config: The settings of the replay.
        choice: The certified choice; None for a policy that is only measured.
        policy: The policy that the engine ran.
        results: What the engine returned for each test row.
        engine_outcome: The same as arrays.
        table: The table of results.
        limit: The mean loss that each baseline may have.
    """
    test, seed = splits.test, config.seed
    guarantee = choice.guarantee if choice else config.guarantee
    cascade_row = next(item for item in table if item.kind == "cascade")
    models = [t.model for t in policy.tiers]
    names = [t.name for t in policy.tiers]
    paths = [[(names.index(a.tier), a.reason != "skipped") for a in r.attempts] for r in results]
    premium = scores[tiers[-1]][0]
    calibration: list[dict[str, Any]] = []
    if choice:
        certificate, counts = dict(choice.certificate), _row_counts(choice, splits)
        calibration = report_data.calibration(choice.chosen, test, _fit_rows(choice, len(models)), seed)
    else:
        losses = premium.quality[test, 0] - engine_outcome.quality
        certificate, counts = _measured(losses, guarantee), {"test": len(test)}
    usd = float(premium.cost_usd[test, 0].mean())
    swept: Sequence[SweepResult] = choice.swept if choice else ()
    if not swept:
        goal = Goal(premium.quality[:, 0], limit, tiers[-1])
        swept = Tuner(scores, splits.fit, goal, seed).sweep_all()
    monthly = None if config.volume is None else config.volume / 1000
    spent = cascade_row.usd_per_1000
    chosen = {
        "tiers": models,
        "thresholds": [t.accept_at for t in policy.tiers[:-1]],
        "last_at": policy.tiers[-1].accept_at,
        "by_task": {t.model: t.accept_at_by_task for t in policy.tiers if t.accept_at_by_task},
        **_skips(policy, paths),
        "final": policy.final,
        **({} if policy.vote is None else {"vote": policy.vote.model_dump(mode="json")}),
        "judges": {t.model: [j.use for j in t.judges] for t in policy.tiers},
        "cost_ratio": cascade_row.relative_cost,
        "usd_per_1000": spent,
        "premium_usd_per_1000": 1000 * usd,
        "judging_usd_per_1000": _judging(policy, rows, test, results, spent),
        "usd_a_month": None if monthly is None or spent is None else monthly * spent,
        "premium_usd_a_month": None if monthly is None else monthly * 1000 * usd,
        "quality": cascade_row.quality,
        "quality_difference": cascade_row.difference,
        "interval": list(cascade_row.interval),
        "accepted": float(engine_outcome.accepted.mean()),
        "certificate": certificate,
        **(_latency(choice.chosen, splits, config, engine_outcome) if choice else {}),
    }
    return {
        "version": 1,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "seed": seed,
        "n": counts,
        "promise": {"kind": guarantee.kind, "value": guarantee.value, "delta": guarantee.delta},
        "certificate": certificate,
        "menu": [line.to_json() for line in choice.menu] if choice else [],
        "tiers": list(tiers),
        "chosen": chosen,
        "test": {
            "n": len(test),
            "quality": cascade_row.quality,
            "cost_ratio": cascade_row.relative_cost,
            "quality_difference": cascade_row.difference,
            "interval": list(cascade_row.interval),
        },
        "lines": [as_json(item) for item in table],
        "baselines": {item.name: as_json(item) for item in table if item.kind != "cascade"},
        "calibration": {
            c["tier"]: {k: c[k] for k in ("method", "n", "before", "after", "ece_by_chance")} for c in calibration
        },
        "calibration_list": calibration,
        "frontier": report_data.frontier(swept, [choice.chosen] if choice else [], test, usd),
        "policy": policy.model_dump(mode="json"),
        "policy_hash": policy.hash,
        "notes": [
            *(choice.notes if choice else ()),
            *(f"{item.name}: {item.note}" for item in table if item.note),
            *_judging_notes(scores, tiers, results),
            *(entry["warning"] for entry in calibration if entry["warning"]),
        ],
        "flow": report_data.flow(models, engine_outcome, paths),
        "by_task": by_task(
            examples=rows,
            rows=test,
            models=models,
            outcome=engine_outcome,
            premium=tiers[-1],
            limit=config.max_task_loss or limit,
            interval=lambda a, b: baselines.bootstrap_difference(a, b, seed),
        ),
        "cofailure": [cofailure(scores, group, test) for group in (list(tiers[:-1]), list(tiers)) if len(group) > 1],
        "mistakes": report_data.mistakes(rows, test, results, engine_outcome, tiers[-1]),
    }


def _row_counts(choice: CertifiedChoice, splits: Splits) -> dict[str, int]:
    """How many rows the choice was fitted, certified and tested on."""
    fit, certify = (0, len(splits.calibration)) if choice.method == "preset" else (len(splits.fit), len(splits.certify))
    return {"fit": fit, "certify": certify, "test": len(splits.test)}


def _fit_rows(choice: CertifiedChoice, n_tiers: int) -> list[npt.NDArray[np.int64]]:
    """For each tier, the rows whose labels its confidence was fitted on."""
    fit_rows = [choice.fit_rows] * n_tiers
    if choice.last_fit_rows is not None:
        fit_rows[-1] = choice.last_fit_rows
    return fit_rows


def _judging_notes(scores: dict[str, list[TierScores]], tiers: Sequence[str], results: Sequence[Result]) -> list[str]:
    """Notes on tiers whose answers are all vetoed, and on verdicts that are missing."""
    notes = []
    for tier in tiers[:-1]:
        tier_scores = scores[tier][0]
        if tier_scores.vetoed[:, -1].all():
            used = ", ".join(str(rule["use"]) for rule in tier_scores.rules)
            notes.append(f"every answer of {tier} is vetoed; leave the judge out by --judges (now: {used})")
    silent = sum(v.failed for r in results for a in r.attempts for v in a.verdicts)
    silent += sum(a.reason == "judge_failure" for r in results for a in r.attempts)
    if silent:
        notes.append(f"{silent} verdicts on test rows are missing, because what their judge asks was not recorded")
    return notes


def _latency(candidate: Candidate, splits: Splits, config: ReplayConfig, measured: Outcome) -> dict[str, Any]:
    """How long runs take, predicted on the calibration rows and measured on the test rows; empty if not asked for."""
    if config.max_latency_s is None and not config.speculate:
        return {}
    latency = {
        "max_s": config.max_latency_s,
        "predicted_p95_s": p95(candidate.outcome(splits.calibration).latency_s),
        "p95_s": p95(measured.latency_s),
    }
    below = candidate.cascade.tiers[0].speculate_below
    if below is None:
        return {"latency": latency}
    effects = {"predicted": speculation(candidate, splits.calibration), "measured": speculation(candidate, splits.test)}
    return {
        "latency": latency,
        "speculation": {"speculate_below": below, **{name: effect.to_json() for name, effect in effects.items()}},
    }


def _skips(policy: Policy, paths: Sequence[Sequence[tuple[int, bool]]]) -> dict[str, dict[str, float]]:
    """The skip thresholds by model, and the share of the test rows that skipped it; empty where no tier is skipped."""
    skip_below = {t.model: t.skip_below for t in policy.tiers if t.skip_below}
    if not skip_below:
        return {}
    n_skipped = Counter(policy.tiers[i].model for path in paths for i, is_asked in path if not is_asked)
    return {"skip_below": skip_below, "skipped": {model: n_skipped[model] / max(len(paths), 1) for model in skip_below}}


def _judging(
    policy: Policy,
    rows: Sequence[Example],
    test: npt.NDArray[np.int64],
    results: Sequence[Result],
    spent: float | None,
) -> float | None:
    """USD of judging per 1,000 prompts: the cascade's cost less that of the tiers' own answers."""
    if spent is None:
        return None
    model_of = {tier.name: tier.model for tier in policy.tiers}
    answers = [
        rows[i].answers[model_of[attempt.tier]]["cost_usd"]
        for i, r in zip(test, results, strict=True)
        for attempt in r.attempts
    ]
    judging = spent - 1000 * float(sum(answers)) / len(test)
    return judging if judging > 1e-9 * spent else 0.0  # otherwise it is the rounding of sums


def _measured(losses: npt.NDArray[np.float64], guarantee: Guarantee) -> dict[str, Any]:
    """The certificate of a policy that is only measured: an upper bound of its loss, from rows it did not learn from."""
    bound, method = upper_bound(losses, guarantee.delta)
    words = (
        f"The given policy: with probability {100 * (1 - guarantee.delta):g} % its mean quality is at most {bound:.3f} "
        f"below the premium tier's, provided that nothing in it was chosen on these {len(losses):,} rows."
    )
    return {
        "certified": bound <= guarantee.value, "max_loss": bound, "delta": guarantee.delta, "method": METHODS[method],
        "n": len(losses), "p_value": guarantee.delta, "tests": 1, "needed_n": None, "words": words,
    }  # fmt: skip


def page(data: dict[str, Any]) -> dict[str, Any]:
    """The data in the form that the page reads."""
    guarantee = dict(data["promise"])
    if guarantee["kind"] == "min_accepted_quality":
        guarantee |= {"kind": "selective", "value": 1.0 - guarantee["value"]}
    return {**data, "calibration": data["calibration_list"], "promise": guarantee}


def as_file(data: dict[str, Any]) -> dict[str, Any]:
    """The data in the form that ``--json`` writes."""
    return {k: v for k, v in data.items() if k != "calibration_list"}
