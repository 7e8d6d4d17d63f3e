"""Finds, reads and checks policies.yaml; every error names file, line and key."""

import os
import re
from collections.abc import Mapping
from copy import deepcopy
from hashlib import sha256
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from cascade.costs.prices import Pricer
from cascade.data import default_policies
from cascade.errors import PolicyError
from cascade.util.providers import KEY_ENV
from cascade.util.suggestions import with_more
from judges import Usage

from . import yaml as safe_yaml
from .environment import hide
from .fusion import recorded_name
from .imports import import_modules
from .rollout import AppliedCalibration
from .schema import ModelSpec, Policy, PolicyFile, TierPolicy
from .yaml import KeyPath, Lines, dotted, line_of

MAX_BYTES = 1_000_000
_WORD = re.compile(r"[A-Za-z][A-Za-z _.-]{0,23}|[-+\d.eE%]{1,12}|")


def find(path: str | os.PathLike[str] | None = None) -> Path:
    """The policy file: ``path``, else CASCADE_POLICIES, else ./policies.yaml, else the packaged default."""
    for value, source in ((path, "the argument"), (os.environ.get("CASCADE_POLICIES"), "CASCADE_POLICIES")):
        if value:
            path_of = Path(value)
            if not path_of.is_file():
                raise PolicyError(f"{path_of}: no such policy file (named by {source})")
            return path_of
    here = Path("policies.yaml")
    return here if here.is_file() else packaged()


def packaged() -> Path:
    """The default that ships with the package (in a checkout: the file at its top)."""
    return default_policies()


def load(path: str | os.PathLike[str] | None = None, *, calibrated: bool = True) -> PolicyFile:
    """Reads and checks the policy file that ``find`` gives; see ``parse``. Raises PolicyError."""
    file = find(path)
    try:
        if file.stat().st_size > MAX_BYTES:
            raise PolicyError(f"{file}: larger than {MAX_BYTES} bytes; a policy file is small")
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"{file}: cannot be read as UTF-8 text: {error}") from None
    return parse(text, str(file), folder=file.parent, calibrated=calibrated)


def parse(text: str, file: str = "policies.yaml", *, folder: Path | None = None, calibrated: bool = True) -> PolicyFile:
    """Checks the text of a policy file.

    Args:
        text: YAML.
        file: The name that errors use; relative paths in the text start from its folder.
        folder: Where ``imports`` are looked up. None: the text may import nothing, for it need not be the user's own.
        calibrated: Whether calibrations are applied; False gives the policies as they are written.

    Returns:
        The policy file, with its calibrations applied.

    Raises:
        PolicyError: The text is wrong; names file, line and key, and no value of an environment variable.
    """
    lines = Lines()
    try:
        return _parsed(text, file, folder, lines, calibrated=calibrated)
    except PolicyError as error:
        message = hide(str(error), lines.variables)
        if message == str(error):
            raise
    raise PolicyError(message)  # out here, so that the original is not kept as its context


def _parsed(text: str, file: str, folder: Path | None, lines: Lines, *, calibrated: bool) -> PolicyFile:
    data, _ = safe_yaml.read(text, file, lines)
    import_modules(data, folder, file, lines)
    try:
        policies = _validated(data, lines)
    except ValidationError as error:
        raise PolicyError("\n".join(_explain(e, file, lines) for e in error.errors()[:8])) from None
    if policies.journal is not None:
        policies = policies.model_copy(update={"journal": policies.journal.located(Path(file).parent)})
    policies = _with_references(_with_key_files(policies, Path(file).parent), Path(file).parent)
    _priced(policies, file, lines)
    return _calibrated(policies, file, lines) if calibrated else policies


def _with_key_files(policies: PolicyFile, folder: Path) -> PolicyFile:
    """The file with the models' key files by their whole path."""
    located = {
        name: spec.model_copy(update={"api_key_file": str((folder / spec.api_key_file).resolve())})
        for name, spec in policies.models.items()
        if spec.api_key_file is not None
    }
    return policies.model_copy(update={"models": {**policies.models, **located}}) if located else policies


def _with_references(policies: PolicyFile, folder: Path) -> PolicyFile:
    """The file with the references of graders by their whole path."""
    located = {}
    for name, policy in policies.policies.items():
        grade = None if policy.shadow is None else policy.shadow.grade
        if policy.shadow is not None and grade is not None and grade.references is not None:
            grade = grade.model_copy(update={"references": str((folder / grade.references).resolve())})
            located[name] = policy.model_copy(update={"shadow": policy.shadow.model_copy(update={"grade": grade})})
    return policies.model_copy(update={"policies": {**policies.policies, **located}}) if located else policies


def _validated(data: Any, lines: Lines) -> PolicyFile:
    """The checked content. A variable's value that looks like a number is a text where the file needs one."""
    try:
        return PolicyFile.model_validate(data)
    except ValidationError as error:
        wrong = [tuple(e["loc"]) for e in error.errors()]
        places = [path for path in lines.texts if any(path[: len(loc)] == loc for loc in wrong)]
        if not places:
            raise
    as_text = deepcopy(data)
    for path in places:
        _put(as_text, path, lines.texts[path])
    return PolicyFile.model_validate(as_text)


def _put(data: Any, path: KeyPath, text: str) -> None:
    *parents, last = path
    for part in parents:
        data = data[part]
    data[last] = text


def _priced(policies: PolicyFile, file: str, lines: Mapping[KeyPath, int]) -> None:
    """Raises PolicyError where a budget is set over a model without a known price: nothing could keep it."""
    for name, policy in policies.policies.items():
        where: KeyPath = ("policies", name)
        for key in ("budget_usd", "budget_usd_per_day", "budget_usd_per_month"):
            if getattr(policy, key) is not None:
                _all_priced(policies, policy, file, lines, (*where, key), f"policies.{name}.{key}")
        if policy.shadow is not None:
            key = "shadow"
            _all_priced(policies, policy, file, lines, (*where, key), f"policies.{name}.{key}")
        for key in ("budget_usd_per_day", "budget_usd_per_month", "tag_budgets"):
            if getattr(policies, key) not in (None, {}):
                _all_priced(policies, policy, file, lines, (key,), key)


def _all_priced(
    policies: PolicyFile, policy: Policy, file: str, lines: Mapping[KeyPath, int], at: KeyPath, subject: str
) -> None:
    if missing := _unpriced(policies.models, policy):
        raise PolicyError(
            f"{file}:{lines.get(at, 1)}: {subject}: the price of the model {', '.join(missing)} is not known, so the budget "
            f"cannot be enforced; give models.{missing[0]}.price"
        )


def _unpriced(models: Mapping[str, ModelSpec], policy: Policy) -> list[str]:
    """The models that a policy may ask whose price is neither given nor listed. Recorded answers state their own cost."""
    embedding = {policy.embedding.model} if policy.embedding is not None else set()
    names = sorted((policy.answering_models | embedding) & models.keys())
    return [m for m in names if models[m].provider in KEY_ENV and Pricer(m, models[m]).cost(Usage(1, 1)) is None]


def calibrations(path: str | os.PathLike[str]) -> list[Path]:
    """The calibration files that a policy file names; none where it cannot be read: loading it raises the error."""
    try:
        data, _ = safe_yaml.read(Path(path).read_text(encoding="utf-8"), str(path))
        policies = data["policies"].values()
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return []
    own = [policy for policy in policies if isinstance(policy, dict)]
    named = [part.get("calibration") for part in (*own, *(p.get("canary") for p in own)) if isinstance(part, dict)]
    return [_calibration(name, path) for name in sorted({name for name in named if isinstance(name, str)})]


def _calibration(named: str, file: str | os.PathLike[str]) -> Path:
    from . import calibration_file

    return calibration_file.starter() if named == "starter" else Path(file).parent / named


def _calibrated(policies: PolicyFile, file: str, lines: Mapping[KeyPath, int]) -> PolicyFile:
    """The file with each policy's calibration laid over it. Raises PolicyError where one does not fit its policy."""

    def name_of(model: str) -> str:
        return policies.models[model].model or model

    def model_of(tier: TierPolicy) -> str:
        return recorded_name(tier, name_of)

    tuned = {}

    def with_calibration(policy: Policy, named: str, name: str, *keys: str) -> Policy:
        from . import calibration_file

        path = _calibration(named, file)
        line = lines.get(("policies", name, *keys), 1)
        where = f"{file}:{line}: policies.{name}.{'.'.join(keys)}"
        try:
            calibration = calibration_file.read(path)
            fitted = _promised(calibration_file.apply(policy, calibration, model_of), calibration.promise)
            if problem := policies.embedding_problem(fitted):
                raise ValueError(f"embedding: {problem}")
        except calibration_file.CalibrationMismatchError as error:
            raise PolicyError(f"{where}: {error.in_full(path.name, file, name)}") from None
        except ValueError as error:  # a PolicyError is one
            raise PolicyError(f"{where}: {error}") from None
        digest = sha256(calibration.text.encode()).hexdigest()
        return fitted.with_calibrations(applied=AppliedCalibration(hash=digest, name=named, text=calibration.text))

    for name, policy in policies.policies.items():
        if policy.calibration is not None:
            tuned[name] = with_calibration(policy, policy.calibration, name, "calibration")
        if policy.canary is not None:
            named = policy.canary.calibration
            present = tuned.get(name, policy)
            candidate = with_calibration(_without_thresholds(policy, named), named, name, "canary", "calibration")
            if candidate.hash == present.hash:
                line = lines.get(("policies", name, "canary"), 1)
                raise PolicyError(
                    f"{file}:{line}: policies.{name}.canary: {named} is the calibration that the policy uses already; "
                    "remove canary, or name another calibration"
                )
            tuned[name] = present.with_calibrations(candidate=_with_promise_of(present, candidate))
    for name, policy in (policies.policies | tuned).items():
        if policy.promise is not None and policy.promise.max_loss is None:
            line = lines.get(("policies", name, "promise"), 1)
            raise PolicyError(
                f"{file}:{line}: policies.{name}.promise.max_loss: give it: no calibration of the policy promises one"
            )
    return policies.model_copy(update={"policies": {**policies.policies, **tuned}}) if tuned else policies


def _without_thresholds(policy: Policy, calibration: str) -> Policy:
    """The policy that a canary's calibration is applied to: it sets every threshold, whoever set the present ones."""
    tiers = [tier.model_copy(update={"accept_at_by_task": None, "confidence": None}) for tier in policy.tiers]
    for tier in tiers:
        tier.model_fields_set.discard("accept_at")
    return policy.model_copy(update={"tiers": tiers, "calibration": calibration, "canary": None})


def _with_promise_of(present: Policy, candidate: Policy) -> Policy:
    """The candidate, which promises what the present policy does where neither it nor its calibration says how much."""
    own, other = candidate.promise, present.promise
    if own is None or other is None or own.max_loss is not None:
        return candidate
    return candidate.model_copy(update={"promise": other})


def _promised(policy: Policy, promise: Mapping[str, Any]) -> Policy:
    """The policy, with what its calibration promises where its own promise does not say how much may be lost."""
    if policy.promise is None or policy.promise.max_loss is not None or promise.get("kind") != "max_loss":
        return policy
    fields = {"max_loss": float(promise["value"]), "delta": float(promise["delta"])}
    return policy.model_copy(update={"promise": policy.promise.model_copy(update=fields)})


def _explain(error: Mapping[str, Any], file: str, lines: Lines) -> str:
    path: KeyPath = tuple(error["loc"])
    prefix = path
    while prefix not in lines and prefix:
        prefix = prefix[:-1]
    if error["type"] == "extra_forbidden":
        names = _keys_at(path[:-1])
        what = f"unknown key{with_more(str(path[-1]), names, 'known: ' + ', '.join(names))}"
    elif error["type"] == "missing":
        what = "is missing"
    elif error["type"] == "value_error":
        what = str(error["ctx"]["error"])
    else:
        value = error["input"]
        # A text that is not a plain word or number may be a key in the wrong place.
        plain = isinstance(value, int | float) or _WORD.fullmatch(str(value))
        value_text = f", got {value!r}" if plain and path not in lines.texts else ""
        what = error["msg"][0].lower() + error["msg"][1:] + value_text
    if what.startswith("policies."):
        return f"{file}:{line_of(what, lines)}: {what}"
    where = f"{dotted(path)}: " if path else ""
    return f"{file}:{lines.get(prefix, 1)}: {where}{what}"


def _keys_at(path: KeyPath) -> list[str]:
    """The keys that are allowed at ``path``."""
    model: type[BaseModel] = PolicyFile
    parts = iter(path)
    for part in parts:
        if str(part) not in model.model_fields:
            break
        annotation = model.model_fields[str(part)].annotation
        model = _section_of(annotation) or model
        if any(get_origin(kind) in (dict, list) for kind in (annotation, *get_args(annotation))):
            next(parts, None)  # a name or an index
    return list(model.model_fields)


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """The model of a field's section, also inside a list, a mapping or an optional field."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_section_of, get_args(annotation))), None)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of policies.yaml for editors, as shipped in ``cascade/data/policies.schema.json``."""
    schema: dict[str, Any] = _with_variables(PolicyFile.model_json_schema())
    rule = schema["$defs"]["JudgeRule"]
    # In the file a judge may be just its name, and its options are written next to `use`.
    rule["additionalProperties"] = True
    schema["$defs"]["JudgeRule"] = {"anyOf": [{"type": "string"}, rule]}
    tier = schema["$defs"]["TierPolicy"]
    tier["required"] = [key for key in tier["required"] if key != "name"]
    schema["$defs"]["Variable"] = {"type": "string", "pattern": r"\$\{", "description": "${NAME} or ${NAME:-default}"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "cascade policies", **schema}


_NO_TEXT = ("integer", "number", "boolean")
_ABOUT = ("title", "description", "default")


def _with_variables(schema: Any) -> Any:
    """The schema with a variable allowed in place of a number, a flag or one of a few words."""
    if isinstance(schema, list):
        return [_with_variables(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    kind = schema.get("type", "string")
    fixed = kind in _NO_TEXT or (kind == "string" and {"enum", "const"} & schema.keys())
    if not fixed:
        return {name: inner if name in _ABOUT else _with_variables(inner) for name, inner in schema.items()}
    about = {name: schema[name] for name in _ABOUT if name in schema}
    rule = {name: inner for name, inner in schema.items() if name not in _ABOUT}
    return {"anyOf": [rule, {"$ref": "#/$defs/Variable"}], **about}
