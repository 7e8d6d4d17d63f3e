"""One replay from end to end: score, split, certify, run the certified policy through the engine, compare with baselines."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cascade import Policy, Result
from cascade.policy.calibration_file import CalibrationFile
from evals.common.progress import Progress
from evals.engines import Engine
from evals.recording import Example, models_of
from evals.replay import engine_check
from evals.replay.certificate.guarantee import CertifiedChoice, Guarantee
from evals.replay.evidence.embeddings import as_columns, read_embeddings
from evals.replay.on_engine import run_policy
from evals.replay.policy_output.limits import limit_notes, silent_judges
from evals.replay.policy_output.traffic_profile import traffic_profile
from evals.replay.prompt_predictor import EmbeddingColumns
from evals.replay.results import verdict
from evals.replay.results.table import ResultRow, compare
from evals.replay.rows.input_rows import check_tiers
from evals.replay.rows.recorded_verdicts import recorded_judges
from evals.replay.score_table import TierScores, sha256_of
from judges import Answer

from .choice import choose_cascade
from .config import LOSS, ReplayConfig
from .data import replay_data
from .rows import ReplayRows, prepare_rows
from .scores import add_consensus, score_tiers


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)  # asyncio.run() takes the repr of what it returns
class ReplayResult:
    """The results of a replay.

    ``rows`` is the table, ``data`` what ``--json`` writes, ``calibration_file`` what ``--out`` writes (None for a policy
    that was measured as it is). ``per_second``: how many test rows the engine answered per second, from recorded answers.
    """

    rows: tuple[ResultRow, ...]
    data: dict[str, Any]
    calibration_file: CalibrationFile | None
    warnings: tuple[str, ...]
    per_second: float

    def __repr__(self) -> str:
        return f"ReplayResult({len(self.rows)} rows in the table, {len(self.warnings)} warnings)"

    def __str__(self) -> str:
        return self.text()

    def text(self, *, full: bool = False, written: Sequence[str] = (), next_commands: Sequence[str] = ()) -> str:
        """The verdict, the table and what to do next; ``full`` adds columns, ``written`` names the files written."""
        return verdict.report(self.rows, self.data, self.per_second, full=full, written=written, next_commands=next_commands)


async def replay(
    path: str | Path,
    examples: Sequence[Example],
    tiers: Sequence[str],
    config: ReplayConfig,
    engine: Engine | None = None,
) -> ReplayResult:
    """Calibrates, tunes and certifies on one half of a recording's rows, and measures on the other half.

    Args:
        path: The recording's file, for its name, its SHA-256 and the cache next to it.
        examples: Its rows.
        tiers: The models, cheapest first, the premium tier last.
        config: The settings.
        engine: Its workers score the rows and run the chosen policy; None: this process does. The result is the same.

    Raises:
        EngineError: The engine fails.
        ReplayError: The rows, the tiers or the settings do not allow a replay; the message says what to change.
        PolicyError: The policy to measure is not valid.
    """
    check_tiers(tiers, models_of(examples))
    with recorded_judges(examples, tiers) as stand_ins:
        return await _replay(path, examples, tiers, config, stand_ins, engine)


async def _replay(
    path: str | Path,
    examples: Sequence[Example],
    tiers: Sequence[str],
    config: ReplayConfig,
    stand_ins: Sequence[str],
    engine: Engine | None,
) -> ReplayResult:
    prepared = prepare_rows(examples, tiers, config, stand_ins)
    rows, splits, warnings = prepared.rows, prepared.splits, prepared.warnings
    sha256 = sha256_of(path)
    scores = await score_tiers(path, sha256, rows, tiers, config, engine)
    if config.own is not None:
        warnings = [*warnings, *silent_judges(scores)]
    tuned = await add_consensus(path, sha256, rows, scores, splits, config=config, engine=engine)
    source = config.embedding
    embeddings, columns = None, None
    if source is not None:
        embeddings = await read_embeddings(path, rows, source.embedding, source.model, max_usd=source.max_usd)
    if source is not None and embeddings is not None:
        columns = EmbeddingColumns(**as_columns(rows, embeddings, source.name, source.embedding.dimensions))
    choice = choose_cascade(tuned, rows, splits, config, columns)
    policy = engine_check.to_policy(choice.chosen) if choice else config.policy
    assert policy is not None
    progress = Progress(len(splits.test), "engine")
    results = await run_policy(policy, rows, splits.test, progress.step, engine, embeddings=embeddings)
    progress.end()
    engine_outcome = engine_check.to_outcome(results, [t.name for t in policy.tiers])
    if choice:
        engine_check.check_agreement(engine_outcome, choice.chosen.outcome(splits.test))
        choice = await _check_limits(choice, policy, prepared, results, config, embeddings=embeddings)
    tier_models = {tier.name: tier.model for tier in policy.tiers}
    guarantee = choice.guarantee if choice else config.guarantee
    limit = guarantee.value if guarantee.kind == "max_loss" else LOSS
    table = compare(
        rows=rows,
        columns=scores,
        splits=splits,
        guarantee=Guarantee("max_loss", limit, guarantee.delta),
        engine_outcome=engine_outcome,
        answered_by=[tier_models[r.tier] for r in results],
        seed=config.seed,
        unprompted=tuned if choice and any(tier.predictor for tier in policy.tiers) else None,
        by_prompt=choice is not None and config.by_prompt,
    )
    data = replay_data(
        rows=rows, scores=scores, splits=splits, tiers=tiers, config=config, choice=choice, policy=policy, results=results,
        engine_outcome=engine_outcome, table=table, limit=limit,
    )  # fmt: skip
    recording = {"name": Path(path).name, "sha256": sha256, "n": len(rows)}
    data["recording"] = {**recording, "left_out": prepared.left_out}
    calibration_file = None
    if choice:
        profile = traffic_profile(policy, [rows[i] for i in splits.test], results)
        calibration_file = _calibration_file(choice, scores, data, recording, profile)
    return ReplayResult(
        rows=table,
        data=data,
        calibration_file=calibration_file,
        warnings=tuple(warnings),
        per_second=progress.rate,
    )


async def _check_limits(
    choice: CertifiedChoice,
    policy: Policy,
    prepared: ReplayRows,
    results: Sequence[Result],
    config: ReplayConfig,
    *,
    embeddings: Mapping[str, Answer] | None,
) -> CertifiedChoice:
    """Withdraws the certificate where limits of the caller's own policy change what the certified policy returns."""
    if config.own is None:
        return choice
    bound = await limit_notes(config.own.policy, policy, prepared.rows, prepared.splits.test, results, embeddings=embeddings)
    if bound is None:
        return choice
    words = f"{bound} Nothing is certified."
    return replace(choice, certificate={**choice.certificate, "certified": False, "words": words})


def _calibration_file(
    choice: CertifiedChoice,
    scores: dict[str, list[TierScores]],
    data: dict[str, Any],
    recording: dict[str, Any],
    profile: list[str] | None,
) -> CalibrationFile:
    """What ``--out`` writes: the chosen thresholds and confidences, what they were fitted on, and what was proved."""
    premium = list(scores)[-1]
    calibrated = [t for t in data["calibration_list"] if t["tier"] in data["chosen"]["tiers"]]
    return engine_check.to_calibration_file(
        choice.chosen,
        recording=recording,
        candidates={
            model: [dict(r) for r in (columns[0] if model != premium else _as_last(columns[0])).rules]
            for model, columns in scores.items()
        },
        seed=data["seed"],
        splits=data["n"],
        promise=asdict(choice.guarantee),
        certificate=choice.certificate,
        evidence={
            "test": data["test"],
            "lines": data["lines"],
            "calibration": {t["tier"]: {"before": t["before"], "after": t["after"]} for t in calibrated},
        },
        profile=profile,
    )


def _as_last(scores: TierScores) -> TierScores:
    """The scores that a last tier uses: no expensive judge runs on an answer that is returned anyway."""
    return scores.first_judges(scores.n_last)
