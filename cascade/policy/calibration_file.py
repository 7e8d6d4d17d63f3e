"""The calibration file that evals writes and production loads: thresholds, confidence mappings, and how they were proved.

``apply`` lays it over a policy and refuses where the policy is not what was calibrated: other models, other judges, or
thresholds of its own.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cascade.data import STARTER_CALIBRATION
from cascade.errors import PolicyError

from .schema import JudgeRule, Policy, TierPolicy

MAX_BYTES = 10_000_000


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Recording(_Part):
    """What the calibration was learned from: the file's name, the SHA-256 of its bytes, its number of examples."""

    name: str
    sha256: str
    n: int = Field(ge=1)


class Candidate(_Part):
    """A model that took part in the tuning, with the judges that it was tuned with. A policy must name just these."""

    model: str
    judges: list[JudgeRule]


class CalibrationFile(_Part):
    """A calibration file. Counts are examples; ``splits`` are the disjoint parts of the recording that were used."""

    schema_version: Literal[1]
    created: str
    library: str
    recording: Recording
    seed: int
    splits: dict[str, int]
    candidates: list[Candidate] = Field(min_length=1)
    chosen: list[TierPolicy] = Field(min_length=1)
    final: Literal["last", "best"]
    promise: dict[str, Any]
    certificate: dict[str, Any]
    evidence: dict[str, Any] = Field(default_factory=dict)


def starter() -> Path:
    """The calibration of the shipped recording."""
    return STARTER_CALIBRATION


def read(path: str | os.PathLike[str]) -> CalibrationFile:
    """Reads and checks a calibration file. Raises PolicyError that names the file, the field and what to do."""
    file = Path(path)
    try:
        if file.stat().st_size > MAX_BYTES:
            raise PolicyError(f"{file}: larger than {MAX_BYTES} bytes; a calibration is small")
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PolicyError(f"{file}: no such calibration; write it with python -m evals.replay ... --out {file}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"{file}: the calibration cannot be read: {error}") from None
    except (ValueError, RecursionError) as error:
        raise PolicyError(f"{file}: the calibration is not JSON ({error}); write it again with evals.replay") from None
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != 1:
        raise PolicyError(
            f"{file}: schema_version: {version!r} is not 1, which this version of cascade reads; write the file again"
        )
    try:
        return CalibrationFile.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PolicyError(f"{file}: {where}: {first['msg']}; write the calibration again with evals.replay") from None


def apply(policy: Policy, calibration: CalibrationFile, model_of: Callable[[TierPolicy], str]) -> Policy:
    """The policy with the calibrated ladder in place of its own.

    ``model_of`` gives a tier's model as its provider calls it, which is how the recording names it. Tiers that tuning left
    out are gone; limits and ``when_unsure`` stay the policy's. Raises ValueError where the two do not go together.
    """
    tiers = {model_of(tier): tier for tier in policy.tiers}
    order, wanted = [model_of(tier) for tier in policy.tiers], [c.model for c in calibration.candidates]
    if order != wanted:
        raise ValueError(
            f"the calibration is for the models {', '.join(wanted)}, this policy has {', '.join(order)}; "
            "name those models in that order, or calibrate these with evals.replay"
        )
    for candidate in calibration.candidates:
        tier = tiers[candidate.model]
        mine, theirs = [_signature(r) for r in tier.judges], [_signature(r) for r in candidate.judges]
        if mine != theirs:
            raise ValueError(
                f"tier {tier.name!r}: the calibration was fitted with the judges {_names(candidate.judges)}, "
                f"the policy has {_names(tier.judges)}; use those judges with those options, or calibrate again"
            )
    chosen = []
    for fitted in calibration.chosen:
        tier = tiers[fitted.model]
        if "accept_at" in tier.model_fields_set and tier.accept_at != fitted.accept_at:
            raise ValueError(
                f"tier {tier.name!r}: accept_at is {tier.accept_at:g} here but {fitted.accept_at:g} in the calibration, "
                "which sets it; leave it out of the tier"
            )
        rules = {_signature(rule): rule for rule in tier.judges}
        # The policy's own options are kept: which model a verifier asks is not known to a recording.
        judges = [
            rule.model_copy(update={"options": rules[_signature(rule)].options}) if _signature(rule) in rules else rule
            for rule in fitted.judges
        ]
        fields = {"name": tier.name, "model": tier.model, "fallbacks": tier.fallbacks, "judges": judges}
        chosen.append(fitted.model_copy(update=fields))
    return policy.model_copy(update={"tiers": chosen, "final": calibration.final})


def _signature(rule: JudgeRule) -> str:
    options = {k: v for k, v in rule.options.items() if k != "model"}
    return f"{rule.use} {json.dumps(options, sort_keys=True, default=str)}"


def _names(rules: list[JudgeRule]) -> str:
    return (
        ", ".join(r.use + (f" {json.dumps(o, sort_keys=True, default=str)}" if (o := r.options) else "") for r in rules)
        or "none"
    )
