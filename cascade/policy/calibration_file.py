"""The calibration file that evals writes and production loads: thresholds, confidence mappings, and how they were proved.

``apply`` lays it over a policy and refuses where the policy is not what was calibrated: other models, other judges, or
thresholds of its own.
"""

import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, ValidationError

from cascade.data import STARTER_CALIBRATION
from cascade.errors import PolicyError

from .routes import Route
from .schema import Final, JudgeRule, Policy, TierPolicy
from .strict_model import StrictModel
from .vote_spec import VoteSpec

MAX_BYTES = 1_000_000


class Recording(StrictModel):
    """What the calibration was learned from: the file's name, the SHA-256 of its bytes, its number of examples."""

    name: str
    sha256: str
    n: int = Field(ge=1)


class Candidate(StrictModel):
    """A model that took part in the tuning, with the judges that it was tuned with. A policy must name just these."""

    model: str
    judges: list[JudgeRule]


class CalibrationFile(StrictModel):
    """A calibration file. Counts are examples; ``splits`` are the disjoint parts of the recording that were used.

    ``profile`` has a line of numbers for each example that the policy was tested on: what its runs look like where nothing
    has drifted (``cascade.promise.traffic``).
    """

    schema_version: Literal[1]
    created: str
    library: str
    recording: Recording
    seed: int
    splits: dict[str, int]
    candidates: list[Candidate] = Field(min_length=1)
    chosen: list[TierPolicy] = Field(min_length=1)
    final: Final
    vote: VoteSpec | None = None
    promise: dict[str, Any]
    certificate: dict[str, Any]
    evidence: dict[str, Any] = Field(default_factory=dict)
    profile: list[str] | None = None
    _text: str = PrivateAttr(default="")

    @property
    def text(self) -> str:
        """The file as it was read; empty where it was not read from a file."""
        return self._text

    def __eq__(self, other: object) -> bool:
        """Equal where the content is, from whichever file it was read."""
        return isinstance(other, CalibrationFile) and self.model_dump() == other.model_dump()

    __hash__ = None  # type: ignore[assignment]


class CalibrationMismatchError(ValueError):
    """A calibration that does not go with a policy.

    Attributes:
        differences: All of them, a sentence each.
        tiers: The tiers that the calibration fits, as lines for the policy file.
    """

    def __init__(self, differences: list[str], tiers: str) -> None:
        super().__init__("; ".join(differences))
        self.differences, self.tiers = differences, tiers

    def in_full(self, calibration: str, file: str, policy: str) -> str:
        """All differences, the lines to paste, and the command that calibrates the policy as it is."""
        listed = "\n".join(f"  - {difference}" for difference in self.differences)
        return (
            f"the calibration does not fit the policy:\n{listed}\n"
            f"Calibrate the policy as it is: cascade replay RECORDING --policy-file {file} --policy {policy} "
            f"--max-loss 0.02,0.03,0.05 --write-policy tuned.yaml\n"
            f"Or paste the tiers that {calibration} was fitted for:\n{self.tiers}"
        )


def starter() -> Path:
    """The calibration of the shipped recording."""
    return STARTER_CALIBRATION


def read(path: str | os.PathLike[str]) -> CalibrationFile:
    """Reads and checks a calibration file. Raises PolicyError that names the file, the field and what to do."""
    file = Path(path)
    try:
        if file.stat().st_size > MAX_BYTES:
            raise PolicyError(f"{file}: larger than {MAX_BYTES:,} bytes, which no calibration is that cascade replay writes")
        text = file.read_bytes().decode()
        data = json.loads(text)
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
        calibration = CalibrationFile.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PolicyError(f"{file}: {where}: {first['msg']}; write the calibration again with evals.replay") from None
    calibration._text = text
    return calibration


def apply(policy: Policy, calibration: CalibrationFile, model_of: Callable[[TierPolicy], str]) -> Policy:
    """The policy with the calibrated ladder in place of its own.

    ``model_of`` gives a tier's model as its provider calls it, which is how the recording names it. Tiers that tuning left
    out are gone; limits and ``when_unsure`` stay the policy's. Raises CalibrationMismatchError where the two do not go
    together.
    """
    if differences := _differences(policy, calibration, model_of):
        raise CalibrationMismatchError(differences, _fitting_tiers(policy, calibration, model_of))
    tiers = {model_of(tier): tier for tier in policy.tiers}
    chosen = []
    for fitted in calibration.chosen:
        tier = tiers[fitted.model]
        rules = {_signature(rule): rule for rule in tier.judges}
        # The policy's own options are kept: which model a verifier asks is not known to a recording.
        judges = [
            rule.model_copy(update={"options": rules[_signature(rule)].options})
            if _signature(rule) in rules
            else _with_own_models(rule, tier, tiers)
            for rule in fitted.judges
        ]
        fields: dict[str, Any] = {"name": tier.name, "model": tier.model, "fallbacks": tier.fallbacks, "judges": judges}
        fields |= {"fuse": tier.fuse, "samples": tier.samples}
        chosen.append(fitted.model_copy(update=fields))
    routes = _routes_to_left(policy, [tier.name for tier in chosen])
    return policy.model_copy(
        update={"tiers": chosen, "final": calibration.final, "vote": calibration.vote, "routes": routes}
    )


def _routes_to_left(policy: Policy, names: Sequence[str]) -> list[Route] | None:
    """The routes with each tier that tuning left out replaced by the next one that it left in."""
    if policy.routes is None:
        return None
    order = [tier.name for tier in policy.tiers]
    routes = []
    for route in policy.routes:
        left = [name for name in order[order.index(route.start_at) :] if name in names]
        routes.append(route.model_copy(update={"start_at": left[0] if left else names[-1]}))
    return routes


def _differences(policy: Policy, calibration: CalibrationFile, model_of: Callable[[TierPolicy], str]) -> list[str]:
    """All that keeps a calibration from being used with a policy, a sentence each."""
    differences: list[str] = []
    tiers = {model_of(tier): tier for tier in policy.tiers}
    order, fitted_order = [model_of(tier) for tier in policy.tiers], [c.model for c in calibration.candidates]
    if order != fitted_order:
        differences.append(
            f"the calibration is for the models {', '.join(fitted_order)}, this policy has {', '.join(order)}"
        )
    for candidate in calibration.candidates:
        tier = tiers.get(candidate.model)
        if tier is not None and [_signature(r) for r in tier.judges] != [_signature(r) for r in candidate.judges]:
            differences.append(
                f"tier {tier.name!r}: the calibration was fitted with the judges {_names(candidate.judges)}, "
                f"the policy has {_names(tier.judges)}"
            )
    for chosen in calibration.chosen:
        tier = tiers.get(chosen.model)
        if tier is not None and "accept_at" in tier.model_fields_set and tier.accept_at != chosen.accept_at:
            differences.append(
                f"tier {tier.name!r}: accept_at is {tier.accept_at:g} here but {chosen.accept_at:g} in the calibration, "
                "which sets it; leave it out of the tier"
            )
    return differences


def _fitting_tiers(policy: Policy, calibration: CalibrationFile, model_of: Callable[[TierPolicy], str]) -> str:
    """The tiers that the calibration fits, as lines to paste into the policy file; judges keep the models that they call."""
    tiers = {model_of(tier): tier for tier in policy.tiers}
    called = {(model_of(t), r.use): r.options["model"] for t in policy.tiers for r in t.judges if "model" in r.options}
    lines = ["    tiers:"]
    for candidate in calibration.candidates:
        tier = tiers.get(candidate.model)
        entry: dict[str, Any] = {"name": tier.name} if tier is not None and tier.name != tier.model else {}
        entry["model"] = tier.model if tier is not None else candidate.model
        if tier is not None and tier.fallbacks:
            entry["fallbacks"] = tier.fallbacks
        if tier is not None and tier.fuse is not None:
            entry["fuse"] = tier.fuse
            if tier.samples is not None:
                entry["samples"] = tier.samples
        judges: list[Any] = []
        for rule in candidate.judges:
            model = called.get((candidate.model, rule.use))
            options = {**rule.options, **({"model": model} if model is not None else {})}
            judges.append({"use": rule.use, **options} if options else rule.use)
        entry["judges"] = judges
        absent = "" if tier is not None else "  # name this model under `models`"
        lines.append(f"      - {_flow(entry)}{absent}")
    return "\n".join(lines)


def _flow(value: Any) -> str:
    """A value in YAML's flow style."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w.-]*(/[\w.-]+)*", value):
        return value if value.lower() not in ("yes", "no", "on", "off", "true", "false", "null", "y", "n") else f'"{value}"'
    return json.dumps(value)


def _with_own_models(rule: JudgeRule, tier: TierPolicy, tiers: dict[str, TierPolicy]) -> JudgeRule:
    """A consensus rule with the policy's names of its models, and when to ask them as the tier's own consensus rule says."""
    if rule.use != "consensus":
        return rule
    unknown = [model for model in rule.options["models"] if model not in tiers]
    if unknown:
        raise ValueError(
            f"tier {tier.name!r}: the calibration's consensus asks {unknown[0]}, which is not a tier of this policy; "
            "add it, or calibrate again"
        )
    options = {**rule.options, "models": [tiers[model].model for model in rule.options["models"]]}
    own = [judge.options for judge in tier.judges if judge.use == "consensus"]
    options |= {name: own[0][name] for name in ("parallel", "verifier") if own and name in own[0]}
    return rule.model_copy(update={"options": options})


def _signature(rule: JudgeRule) -> str:
    options = {k: v for k, v in rule.options.items() if k != "model"}
    return f"{rule.use} {json.dumps(options, sort_keys=True, default=str)}"


def _names(rules: list[JudgeRule]) -> str:
    return (
        ", ".join(r.use + (f" {json.dumps(o, sort_keys=True, default=str)}" if (o := r.options) else "") for r in rules)
        or "none"
    )
