"""One replay from end to end: score, split, prove, run the proof's policy through the engine, compare with the baselines."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cascade import Policy, Result
from cascade.policy.calibration_file import CalibrationFile
from evals.common.progress import Progress
from evals.recording import Example, models_of

from . import baselines, engine_check
from .by_prompt import PromptTuner
from .by_task.promise import choose_for_each_task, choose_for_whole_and_each_task
from .by_task.tuner import TaskTuner, tasks_of
from .certificate.certified_choice import (
    CertifiedChoice,
    Guarantee,
    Method,
    TunerFactory,
    choose_certified,
    choose_from_menu,
    upper_bound,
)
from .evidence.cofailure import cofailure
from .evidence.consensus import has_consensus, with_consensus
from .latency import check_latencies, choose_speculation, p95, speculation, with_percentiles
from .policy_output.limits import limit_notes, silent_judges
from .policy_output.own_policy import OwnPolicy
from .policy_output.traffic_profile import traffic_profile
from .prompt_columns import prompt_notes, with_prompts
from .results import report_data, verdict
from .results.table import ResultRow, as_json, compare
from .results.tasks import by_task
from .rows.grades import check_grades
from .rows.input_rows import (  # fmt: skip
    ReplayError,
    Rules,
    check_judges,
    check_tiers,
    default_judges,
    judge_plans,
    named_judges,
    preview,
    prompt_key,
    row_warnings,
    session_of,
    usable_rows,
)
from .rows.recorded_verdicts import recorded_judges
from .rows.sampling import sampled_rows
from .rows.splits import Splits, halves
from .score_table import Cache, TierScores, load_or_score, sha256_of
from .simulate import Outcome
from .statistics.certify import METHODS
from .sweep_result import Candidate, SweepResult
from .tune import Goal, Tuner

MOST_TIERS = 10
LOSS = 0.02  # what the baselines may lose where the promise is about something else


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayResult:
    """The results of a replay.

    ``rows`` is the table, ``data`` what ``--json`` writes, ``calibration_file`` what ``--out`` writes (None for a policy
    that was measured as it is). ``per_second``: test rows that the engine answered a second, from recorded answers.
    """

    rows: tuple[ResultRow, ...]
    data: dict[str, Any]
    calibration_file: CalibrationFile | None
    warnings: tuple[str, ...]
    per_second: float

    def __str__(self) -> str:
        return self.text()

    def text(self, *, full: bool = False, written: Sequence[str] = (), next_commands: Sequence[str] = ()) -> str:
        """The verdict, the table and what to do next; ``full`` adds columns, ``written`` names the files written."""
        return verdict.report(self.rows, self.data, self.per_second, full=full, written=written, next_commands=next_commands)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayConfig:
    """The settings of a replay.

    Args:
        guarantee: The promise; with a menu its ``delta`` alone counts.
        menu: Promises on the loss to be tested together, at least two; empty for one promise.
        choose: The promise of the menu to use; by default the strictest that is proved with a saving.
        seed: Of splits, folds and bootstrap.
        judges: The judges of every tier, each "judge[:option=value...]"; None for what the recording can feed.
        method: How thresholds are tested; see ``choose_certified``.
        split: "half" or "recorded".
        keep_premium: Whether every cascade must end with the premium tier.
        policy: A policy to measure as it is.
        own: A policy to tune: its judges, tier by tier, and its limits. With ``policy`` it is only measured.
        volume: Prompts a month, for money a month.
        by_task: Whether each task has thresholds of its own; the promise is of the whole.
        by_prompt: Whether the prompt may be evidence of a confidence, and rule out tiers before they are asked; never where
            tasks have thresholds of their own.
        task_tags: Whether callers name each prompt's task, as the recording does; it is then a feature of the prompt.
        max_latency_s: The seconds that 95 % of the runs may take; None: any.
        speculate: Whether tiers may ask the next one at the same time.
        max_task_loss: The largest mean loss of any task; each then has thresholds of its own, too.
        promises_whole: Whether ``guarantee`` is promised as well where ``max_task_loss`` is.
    """

    guarantee: Guarantee
    menu: tuple[float, ...] = ()
    choose: float | None = None
    seed: int = 0
    judges: tuple[str, ...] | None = None
    method: Method = "auto"
    split: str = "half"
    keep_premium: bool = False
    policy: Policy | None = None
    own: OwnPolicy | None = None
    volume: float | None = None
    by_task: bool = False
    by_prompt: bool = False
    task_tags: bool = False
    max_latency_s: float | None = None
    speculate: bool = False
    max_task_loss: float | None = None
    promises_whole: bool = False


async def replay(path: str | Path, examples: Sequence[Example], tiers: Sequence[str], config: ReplayConfig) -> ReplayResult:
    """Calibrates, tunes and certifies on one half of a recording's rows, and measures on the other half.

    Args:
        path: The recording's file, for its name, its SHA-256 and the cache next to it.
        examples: Its rows.
        tiers: The models, cheapest first, the premium tier last.
        config: The settings.

    Raises:
        ReplayError: the rows, the tiers or the settings do not allow a replay; the message says what to change.
        PolicyError: the policy to measure is not valid.
    """
    check_tiers(tiers, models_of(examples))
    with recorded_judges(examples, tiers) as stand_ins:
        return await _replay(path, examples, tiers, config, stand_ins)


async def _replay(
    path: str | Path, examples: Sequence[Example], tiers: Sequence[str], config: ReplayConfig, stand_ins: Sequence[str]
) -> ReplayResult:
    if len(tiers) > MOST_TIERS:
        raise ReplayError(f"{len(tiers)} tiers are too many to sweep; choose at most {MOST_TIERS} with --tiers")
    rows, left_out, warnings = usable_rows(examples, tiers)
    check_grades(examples, tiers)
    rows, sampling = sampled_rows(rows, n_incomplete=left_out["a tier has no answer"], seed=config.seed)
    if sampling is not None:
        left_out = {**left_out, "not drawn at random": sampling.n_left_out}
        warnings = [*warnings, str(sampling)]
    if config.judges is not None:
        check_judges(config.judges, rows, tiers)
    warnings = [*warnings, *row_warnings(rows, tiers)]
    if stand_ins:
        warnings.append(
            f"not installed here: {', '.join(stand_ins)}; the recorded verdicts are replayed, and a policy with this "
            "calibration loads only where judges of these names are registered"
        )
    recorded = [e.split for e in rows] if config.split == "recorded" else None
    if recorded is not None and not {"train", "test"} <= set(recorded):
        raise ReplayError(
            f"--split recorded: {recorded.count('train')} of {len(recorded)} rows have the split 'train' and "
            f"{recorded.count('test')} 'test'; give both, or leave --split out"
        )
    try:
        splits = halves(
            [e.task for e in rows],
            config.seed,
            recorded=recorded,
            groups=[session_of(e) or prompt_key(e) for e in rows],
        )
    except ValueError as error:
        raise ReplayError(f"{error}; a replay needs rows to fit, to certify and to test on") from None
    sha256 = sha256_of(path)
    scores = await _score_tiers(path, sha256, rows, tiers, config)
    if config.own is not None:
        warnings += silent_judges(scores)
    tuned = await _with_consensus(path, sha256, rows, scores, splits, config)
    for flag, is_set in {"--max-latency": config.max_latency_s is not None, "--speculate": config.speculate}.items():
        if is_set:
            check_latencies(tuned, flag)
    unprompted = tuned
    looks_at_prompts = config.by_prompt and not config.by_task and config.max_task_loss is None
    if (looks_at_prompts or config.speculate) and config.policy is None:
        has_rules = config.own is not None and bool(config.own.policy.tasks.rules)
        tuned = with_prompts(tuned, rows, has_tasks=config.task_tags or has_rules)
    row_tasks = tasks_of([e.task for e in rows])
    tuner_class: TunerFactory = partial(TaskTuner, row_tasks=row_tasks) if config.by_task else PromptTuner
    if config.max_latency_s is not None:
        tuner_class = partial(PromptTuner, max_latency_s=config.max_latency_s, skips=not config.speculate)
    elif config.speculate:
        tuner_class = partial(PromptTuner, skips=False)
    if config.policy is None and config.max_task_loss is not None and config.promises_whole:
        choice = choose_for_whole_and_each_task(
            tuned, splits, config.guarantee.value, config.max_task_loss, config.guarantee.delta, row_tasks=row_tasks,
            seed=config.seed,
        )  # fmt: skip
    elif config.policy is None and config.max_task_loss is not None:
        choice = choose_for_each_task(
            tuned, splits, config.max_task_loss, config.guarantee.delta, row_tasks=row_tasks, seed=config.seed
        )
    elif config.policy is None:
        must_end = tiers[-1] if config.keep_premium else None
        if config.menu and len(tiers) > 1:
            choice = choose_from_menu(
                tuned,
                splits,
                config.menu,
                config.guarantee.delta,
                choose=config.choose,
                seed=config.seed,
                must_end=must_end,
                tuner_class=tuner_class,
            )
        else:
            choice = choose_certified(
                tuned, splits, config.guarantee, seed=config.seed, must_end=must_end,
                method="split" if config.speculate else config.method,
                tuner_class=tuner_class,
            )  # fmt: skip
        if config.method == "preset" and choice.method != "preset":
            raise ReplayError(
                "--method preset: the fixed grid needs two tiers and one judge that gives scores; choose them with --tiers "
                "and --judges, such as --judges rules,logprob, or leave --method out"
            )
    else:
        choice = None
    if choice:
        choice = replace(choice, notes=(*choice.notes, *prompt_notes(tuned, splits.fit, config.seed)))
    if choice and (config.speculate or config.max_latency_s is not None):
        choice = _with_latency(choice, splits, config)
    policy = engine_check.to_policy(choice.chosen) if choice else config.policy
    assert policy is not None
    progress = Progress(len(splits.test), "engine")
    results = await engine_check.run_engine(policy, rows, splits.test, progress.step)
    progress.end()
    engine_outcome = engine_check.to_outcome(results, [t.name for t in policy.tiers])
    if choice:
        engine_check.check_agreement(engine_outcome, choice.chosen.outcome(splits.test))
    if choice and config.own is not None:
        bound = await limit_notes(config.own.policy, policy, rows, splits.test, results)
        if bound is not None:
            words = f"{bound} Nothing is certified."
            choice = replace(choice, certificate={**choice.certificate, "certified": False, "words": words})
    tier_models = {tier.name: tier.model for tier in policy.tiers}
    guarantee = choice.guarantee if choice else config.guarantee
    limit = guarantee.value if guarantee.kind == "max_loss" else LOSS
    against = Guarantee("max_loss", limit, guarantee.delta)
    table = compare(
        rows=rows,
        columns=scores,
        splits=splits,
        guarantee=against,
        engine_outcome=engine_outcome,
        answered_by=[tier_models[r.tier] for r in results],
        seed=config.seed,
        unprompted=unprompted if choice and any(tier.predictor for tier in policy.tiers) else None,
    )
    data = _data(
        rows=rows, scores=scores, splits=splits, tiers=tiers, config=config, choice=choice, policy=policy, results=results,
        engine_outcome=engine_outcome, table=table, limit=limit,
    )  # fmt: skip
    data["recording"] = {"name": Path(path).name, "sha256": sha256, "n": len(rows), "left_out": left_out}
    calibration_file = None
    if choice:
        shown = [t for t in data["calibration_list"] if t["tier"] in data["chosen"]["tiers"]]
        calibration_file = engine_check.to_calibration_file(
            choice.chosen,
            recording={"name": Path(path).name, "sha256": sha256, "n": len(rows)},
            candidates={
                m: [dict(r) for r in (scores[m][0] if m != tiers[-1] else _as_last(scores[m][0])).rules] for m in tiers
            },
            seed=config.seed,
            splits=data["n"],
            promise=asdict(guarantee),
            certificate=choice.certificate,
            evidence={
                "test": data["test"],
                "lines": data["lines"],
                "calibration": {t["tier"]: {"before": t["before"], "after": t["after"]} for t in shown},
            },
            profile=traffic_profile(policy, [rows[i] for i in splits.test], results),
        )
    return ReplayResult(
        rows=table, data=data, calibration_file=calibration_file, warnings=tuple(warnings), per_second=progress.rate
    )


def _with_latency(choice: CertifiedChoice, splits: Splits, config: ReplayConfig) -> CertifiedChoice:
    """The choice with what it says of latency, and with tiers that are asked at once; no answer changes by that."""
    chosen, notes = with_percentiles(choice.chosen, splits.calibration), list(choice.notes)
    if config.speculate:
        chosen, note = choose_speculation(chosen, splits.calibration)
        notes.append(note)
    predicted = p95(chosen.outcome(splits.calibration).latency_s)
    if config.max_latency_s is not None and predicted is not None and predicted > config.max_latency_s:
        notes.append(
            f"--max-latency {config.max_latency_s:g} s is not kept: 95 % of the runs take up to {predicted:.3g} s, since no "
            "ladder in time could be certified to cost less than premium alone"
        )
    return replace(choice, chosen=chosen, notes=tuple(notes))


async def _score_tiers(
    path: str | Path, sha256: str, rows: Sequence[Example], tiers: Sequence[str], config: ReplayConfig
) -> dict[str, list[TierScores]]:
    cache = Cache(path, sha256)
    judges: dict[str, list[Rules]] = {}
    for tier in tiers:
        if config.own is not None:
            judges[tier] = [config.own.rules[tier]]
        elif config.judges is not None:
            judges[tier] = [named_judges(config.judges, rows, tier)]
        else:
            judges[tier] = [default_judges(rows, tier)] if len(tiers) <= 2 else judge_plans(rows, tier)
    progress = Progress(len(rows) * sum(len(w) for w in judges.values()), "judging")
    scores = {
        tier: [await load_or_score(rows, tier, rules, cache, progress.step) for rules in tier_scores]
        for tier, tier_scores in judges.items()
    }
    progress.end()
    if config.own is not None:
        scores = {tier: [replace(c, keeps_judges=True) for c in columns] for tier, columns in scores.items()}
    for tier, tier_scores in scores.items():
        unknown = np.any([np.isnan(c.cost_usd).any(axis=1) for c in tier_scores], axis=0)
        unpriced = [row.id for row, missing in zip(rows, unknown, strict=True) if missing]
        if unpriced:
            raise ReplayError(
                f"what judging costs is unknown in {len(unpriced)} rows of the model {tier!r}: {preview(unpriced)}; give "
                f"answers[{tier!r}].sample_cost_usd, or leave self_consistency out by --judges"
            )
    return scores


async def _with_consensus(
    path: str | Path,
    sha256: str,
    rows: Sequence[Example],
    scores: dict[str, list[TierScores]],
    splits: Splits,
    config: ReplayConfig,
) -> dict[str, list[TierScores]]:
    """The scores, and those with a consensus of cheap models, where the judges are not named and the promise allows it."""
    kind, value = config.guarantee.kind, config.guarantee.value
    chooses = config.judges is None and config.policy is None and kind != "min_accepted_quality"
    if not chooses or any(map(has_consensus, itertools.chain(*scores.values()))):
        return scores
    premium = list(scores)[-1]
    if kind == "min_quality":
        limits: tuple[float, ...] = (max(0.0, float(scores[premium][0].quality[splits.fit, 0].mean()) - value),)
    else:
        limits = (config.menu or (value,)) if kind == "max_loss" else (LOSS,)
    cache = Cache(path, sha256)

    async def score(model: str, rules: Rules) -> TierScores:
        column = await load_or_score(rows, model, rules, cache)
        return replace(column, keeps_judges=scores[model][0].keeps_judges)

    return await with_consensus(scores, splits.fit, limits, len(splits.certify), score)


def _data(
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
    """Everything that ``--json`` writes and the page shows."""
    test, seed = splits.test, config.seed
    guarantee = choice.guarantee if choice else config.guarantee
    cascade_row = next(item for item in table if item.kind == "cascade")
    notes = [*(choice.notes if choice else ()), *(f"{item.name}: {item.note}" for item in table if item.note)]
    for tier in tiers[:-1]:
        tier_scores = scores[tier][0]
        if tier_scores.vetoed[:, -1].all():
            used = ", ".join(str(rule["use"]) for rule in tier_scores.rules)
            notes.append(f"every answer of {tier} is vetoed; leave the judge out by --judges (now: {used})")
    silent = sum(v.failed for r in results for a in r.attempts for v in a.verdicts)
    silent += sum(a.reason == "judge_failure" for r in results for a in r.attempts)
    if silent:
        notes.append(f"{silent} verdicts on test rows are missing, because what their judge asks was not recorded")
    models = [t.model for t in policy.tiers]
    names = [t.name for t in policy.tiers]
    paths = [[(names.index(a.tier), a.reason != "skipped") for a in r.attempts] for r in results]
    extra = {
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
        "cofailure": [cofailure(scores, models, test) for models in (list(tiers[:-1]), list(tiers)) if len(models) > 1],
        "mistakes": report_data.mistakes(rows, test, results, engine_outcome, tiers[-1]),
    }
    if choice:
        certificate = dict(choice.certificate)
        fit, certify = (0, len(splits.calibration)) if choice.method == "preset" else (len(splits.fit), len(splits.certify))
        counts = {"fit": fit, "certify": certify, "test": len(test)}
        fit_rows = [choice.fit_rows] * len(models)
        if choice.last_fit_rows is not None:
            fit_rows[-1] = choice.last_fit_rows
        calibration = report_data.calibration(choice.chosen, test, fit_rows, seed)
        notes += [entry["warning"] for entry in calibration if entry["warning"]]
    else:
        losses = scores[tiers[-1]][0].quality[test, 0] - engine_outcome.quality
        certificate, counts, calibration = _measured(losses, guarantee), {"test": len(test)}, []
    premium = scores[tiers[-1]][0]
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
        "notes": notes,
        **extra,
    }


def _latency(candidate: Candidate, splits: Splits, config: ReplayConfig, measured: Outcome) -> dict[str, Any]:
    """How long runs take, predicted on the calibration rows and measured on the test rows; empty where it is no matter."""
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
    """The skip thresholds by model, and the share of the test rows that did not ask it; empty where no tier is skipped."""
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
    return judging if judging > 1e-9 * spent else 0.0  # else the rounding of sums


def _as_last(scores: TierScores) -> TierScores:
    """The scores as a last tier uses them: nothing dear is asked about an answer that is returned anyway."""
    return scores.first_judges(scores.n_last)


def _measured(losses: npt.NDArray[np.float64], guarantee: Guarantee) -> dict[str, Any]:
    """For a policy that was given, not tuned: what it loses at most, from rows that none of it was learned from."""
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
    """The data as the page reads it."""
    guarantee = dict(data["promise"])
    if guarantee["kind"] == "min_accepted_quality":
        guarantee |= {"kind": "selective", "value": 1.0 - guarantee["value"]}
    return {**data, "calibration": data["calibration_list"], "promise": guarantee}


def as_file(data: dict[str, Any]) -> dict[str, Any]:
    """The data as ``--json`` writes it."""
    return {k: v for k, v in data.items() if k != "calibration_list"}
