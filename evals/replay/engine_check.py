"""The chosen candidate in the form that production runs: its policy, its calibration file, and a run through the engine."""

import importlib.metadata
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cascade import Cascade, Policy, Result, RunError
from cascade.models.embeddings import StoredEmbeddings
from cascade.models.protocol import Model
from cascade.models.recorded import RecordedModel
from cascade.policy.calibration_file import MAX_BYTES, CalibrationFile
from cascade.util.atomic_write import replacing
from evals.recording import Example
from judges import Answer

from .by_task.candidates import TaskCandidate
from .rows.input_rows import ReplayError, Rules, session_of
from .score_table import other_models, without_clock
from .simulate import CandidateTier, Outcome
from .sweep_result import Candidate

Rows = npt.NDArray[np.int64]


def to_policy(candidate: Candidate) -> Policy:
    """The candidate as a policy whose models are named as in the recording."""
    thresholds = [*candidate.thresholds, candidate.last_accept_at]
    tiers = [
        {
            "model": on_row.model,
            "accept_at": at,
            "judges": on_row.rules,
            "confidence": [calibrator.to_json() for calibrator in on_row.calibrators],
            **_prompt_fields(on_row),
            **({"accept_at_by_task": candidate.accept_at(on_row.model)} if isinstance(candidate, TaskCandidate) else {}),
        }
        for on_row, at in zip(candidate.cascade.tiers, thresholds, strict=True)
    ]
    fitted = (tier["predictor"]["embedding"] for tier in tiers if "embedding" in tier.get("predictor", {}))
    embedding = next(({name: each[name] for name in ("model", "dimensions")} for each in fitted), None)
    # A judge whose request was not recorded has no score; that is no reason to escalate.
    return Policy.model_validate(
        {
            "tiers": tiers, "final": candidate.cascade.final, "vote": candidate.cascade.vote, "when_unsure": "best",
            "max_calls": 10_000, "on_judge_error": "ignore", "embedding": embedding,
        }
    )  # fmt: skip


def _prompt_fields(tier: CandidateTier) -> dict[str, Any]:
    """The tier's predictor if something reads it, the thresholds for its probability, and the tier's latency."""
    fields = {"speculate_below": tier.speculate_below, "p95_s": tier.p95_s}
    if tier.prompt is None or tier.prompt.predictor is None or not tier.reads_prompt:
        return fields
    return {"predictor": tier.prompt.predictor.to_json(), "skip_below": tier.skip_below, **fields}


async def run_engine(
    policy: Policy,
    examples: Sequence[Example],
    rows: Rows,
    on_row: Callable[[], None] = lambda: None,
    *,
    embeddings: Mapping[str, Answer] | None = None,
) -> list[Result]:
    """The policy's answer to each of the rows, by the engine that production runs, from recorded answers.

    A policy that raises where it is unsure abstains here. Requests of its judges to other models are not recorded: only
    verdicts recorded with the answers count. ``embeddings``: those of the prompts, by their texts. Raises ReplayError where
    a run ends without an answer.
    """
    tiers = {t.model: {e.id: without_clock(e.answers[t.model]) for e in examples} for t in policy.tiers}
    models: dict[str, Model] = {m: RecordedModel(m, m, answers) for m, answers in tiers.items()}
    if policy.embedding is not None:
        models[policy.embedding.model] = StoredEmbeddings(policy.embedding.model, embeddings or {})
    for tier in policy.tiers:
        models |= other_models([rule.model_dump(mode="json") for rule in tier.judges], examples, models.keys())
    if policy.when_unsure == "raise":
        policy = policy.model_copy(update={"when_unsure": "abstain"})
    results = []
    async with Cascade(policy, models=models) as cascade:
        for row in rows:
            try:
                tags = {policy.tasks.tag: examples[row].task} if examples[row].task else None
                results.append(await cascade.arun(examples[row].to_prompt(), tags=tags, session=session_of(examples[row])))
            except RunError as error:
                raise ReplayError(f"example {examples[row].id!r}: {error}") from None
            on_row()
    return results


def to_outcome(results: Sequence[Result], tiers: Sequence[str]) -> Outcome:
    """The engine's results, row by row, in the form of the simulation; an abstention has the quality 0.

    ``tiers`` are the names of the policy's tiers.

    Raises ReplayError where an answer is not graded.
    """
    qualities = [0.0 if r.answer is None else r.answer.extra["quality"] for r in results]
    if unknown := qualities.count(None):
        raise ReplayError(
            f"{unknown} of {len(results)} answers that the policy returned are not graded: a judge chose a recorded sample "
            "without a quality; grade the samples, or leave the judge out of the policy"
        )
    return Outcome(
        quality=np.array(qualities, dtype=np.float64),
        cost_usd=np.array([np.nan if r.cost_usd is None else r.cost_usd for r in results], dtype=np.float64),
        latency_s=np.array([r.latency_s for r in results], dtype=np.float64),
        tier=np.array([tiers.index(r.tier) for r in results], dtype=np.int64),
        last_called=np.array([tiers.index(r.attempts[-1].tier) for r in results], dtype=np.int64),
        confidence=np.array([r.confidence for r in results], dtype=np.float64),
        accepted=np.array([r.accepted for r in results], dtype=bool),
    )


def check_agreement(engine: Outcome, simulated: Outcome) -> None:
    """Raises ReplayError unless engine and simulation agree on every row: tier, quality, acceptance, cost up to rounding."""
    same = (
        (engine.tier == simulated.tier)
        & (engine.quality == simulated.quality)
        & (engine.accepted == simulated.accepted)
        & np.isclose(engine.cost_usd, simulated.cost_usd, rtol=1e-9, atol=1e-12)
    )
    if not same.all():
        raise ReplayError(
            f"the engine and the tuning disagree on {int((~same).sum())} of {len(same)} rows (${engine.cost_usd.sum():.6f} "
            f"against ${simulated.cost_usd.sum():.6f}); this is a defect of cascade: please report it; nothing was written"
        )


def to_calibration_file(
    candidate: Candidate,
    *,
    recording: Mapping[str, Any],
    candidates: Mapping[str, Rules],
    seed: int,
    splits: Mapping[str, int],
    promise: Mapping[str, Any],
    certificate: Mapping[str, Any],
    evidence: Mapping[str, Any],
    profile: Sequence[str] | None = None,
) -> CalibrationFile:
    """The calibration file's content, validated by the model that loads it."""
    policy = to_policy(candidate)
    return CalibrationFile.model_validate(
        {
            "schema_version": 1,
            "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "library": importlib.metadata.version("cascade-gate"),
            "recording": recording,
            "seed": seed,
            "splits": splits,
            "candidates": [{"model": model, "judges": rules} for model, rules in candidates.items()],
            "chosen": [tier.model_dump(mode="json") for tier in policy.tiers],
            "final": policy.final,
            "vote": None if policy.vote is None else policy.vote.model_dump(mode="json"),
            "promise": promise,
            "certificate": certificate,
            "evidence": evidence,
            "profile": profile,
        }
    )


def write_calibration(path: str | os.PathLike[str], policy: CalibrationFile) -> None:
    """Writes a calibration whole or not at all; a file that differs by its date alone stays as it is.

    Args:
        path: The file.
        policy: What to write.

    Raises:
        ReplayError: It would be larger than what production loads.
        OSError: The file cannot be written.
    """
    target = Path(path)
    content = policy.model_dump(mode="json", exclude_none=False)
    with suppress(OSError, ValueError):
        old = json.loads(target.read_text(encoding="utf-8"))
        if isinstance(old, dict) and {**old, "created": ""} == {**json.loads(json.dumps(content)), "created": ""}:
            return
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    if len(text) > MAX_BYTES:
        sizes = {name: len(json.dumps(value, indent=1)) for name, value in content.items()}
        largest = max(sizes, key=sizes.__getitem__)
        raise ReplayError(
            f"{target}: the calibration would have {len(text):,} bytes, {sizes[largest]:,} of them in `{largest}`, and "
            f"production loads at most {MAX_BYTES:,}; nothing was written. Replay fewer tiers with --tiers, or fewer tasks"
        )
    with replacing(target) as file:
        file.write(text.encode())
