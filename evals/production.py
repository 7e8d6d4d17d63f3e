"""The chosen candidate as production will run it: its policy, its calibration file, and a run of it through the engine."""

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

from cascade import Cascade, Policy, Result
from cascade.artefact import Artefact
from cascade.models.recorded import RecordedModel
from evals.files import replacing
from evals.ladder import Outcome
from evals.recording import Example
from evals.rows import ReplayError, Rules
from evals.tune import Candidate

Rows = npt.NDArray[np.int64]


def policy(candidate: Candidate) -> Policy:
    """The candidate as a policy whose models are named as in the recording."""
    thresholds = [*candidate.thresholds, candidate.last_at]
    tiers = [
        {
            "model": step.model,
            "accept_at": at,
            "judges": step.rules,
            "confidence": [calibrator.to_json() for calibrator in step.calibrators],
        }
        for step, at in zip(candidate.ladder.steps, thresholds, strict=True)
    ]
    # A judge whose question was not recorded cannot tell; that is a missing score, not a reason to escalate.
    return Policy.model_validate(
        {
            "tiers": tiers, "final": candidate.ladder.final, "when_unsure": "best", "max_calls": 10_000,
            "on_judge_error": "ignore",
        }
    )  # fmt: skip


async def rerun(
    made: Policy, examples: Sequence[Example], rows: Rows, step: Callable[[], None] = lambda: None
) -> list[Result]:
    """The policy's answer to each of the rows, by the engine that production runs, from recorded answers."""
    models = {t.model: RecordedModel(t.model, t.model, {e.id: e.answers[t.model] for e in examples}) for t in made.tiers}
    results = []
    async with Cascade(made, models=models) as cascade:
        for row in rows:
            results.append(await cascade.arun(examples[row].to_prompt()))
            step()
    return results


def agree(results: Sequence[Result], outcome: Outcome, models: Sequence[str]) -> None:
    """Raises ReplayError unless engine and arithmetic agree: the same answers, the same cost to a hundredth of a cent."""
    wrong = [
        i
        for i, (result, tier) in enumerate(zip(results, outcome.tier, strict=True))
        if result.model != models[tier] or result.accepted != bool(outcome.accepted[i])
    ]
    spent = sum(result.cost_usd or 0.0 for result in results)
    if wrong or abs(spent - float(outcome.cost_usd.sum())) > 1e-4:
        raise ReplayError(
            f"the engine and the tuning disagree on {len(wrong)} of {len(results)} rows (${spent:.6f} against "
            f"${outcome.cost_usd.sum():.6f}); this is a defect of cascade, and nothing was written: please report it"
        )


def artefact(
    candidate: Candidate,
    *,
    recording: Mapping[str, Any],
    candidates: Mapping[str, Rules],
    seed: int,
    splits: Mapping[str, int],
    promise: Mapping[str, Any],
    certificate: Mapping[str, Any],
    evidence: Mapping[str, Any],
) -> Artefact:
    """The calibration file's content, checked by the very model that loads it."""
    made = policy(candidate)
    return Artefact.model_validate(
        {
            "schema_version": 1,
            "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "library": importlib.metadata.version("cascade-gate"),
            "recording": recording,
            "seed": seed,
            "splits": splits,
            "candidates": [{"model": model, "judges": rules} for model, rules in candidates.items()],
            "chosen": [tier.model_dump(mode="json") for tier in made.tiers],
            "final": made.final,
            "promise": promise,
            "certificate": certificate,
            "evidence": evidence,
        }
    )


def write(path: str | os.PathLike[str], made: Artefact) -> None:
    """Writes a calibration whole or not at all; a file that differs by its date alone stays as it is. Raises OSError."""
    target = Path(path)
    content = made.model_dump(mode="json", exclude_none=False)
    with suppress(OSError, ValueError):
        old = json.loads(target.read_text(encoding="utf-8"))
        if {**old, "created": ""} == {**json.loads(json.dumps(content)), "created": ""}:
            return
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    with replacing(target) as file:
        file.write(text.encode())
