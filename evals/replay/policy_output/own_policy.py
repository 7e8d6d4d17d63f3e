"""A policy of a policy file, prepared for a replay: its models by their names in the recording, and each tier's judges."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cascade import Policy
from cascade.policy import load
from cascade.policy.fusion import recorded_name
from cascade.policy.schema import EmbeddingSpec, JudgeRule, ModelSpec, TierPolicy
from cascade.util.suggestions import unknown
from evals.recording import Example, models_of
from evals.replay.rows.input_rows import ReplayError, Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingSource:
    """Where the embeddings of prompts come from.

    Attributes:
        embedding: The policy's settings.
        model: The settings of its model.
        max_usd: The most that asking for them may cost; None: any amount.
    """

    embedding: EmbeddingSpec
    model: ModelSpec
    max_usd: float | None = None

    @property
    def name(self) -> str:
        """The model's name at its provider."""
        return self.model.model or self.embedding.model


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnPolicy:
    """A policy of a policy file.

    ``policy`` is the policy as the file states it, without its calibration, but with the models named as their providers
    call them: that is how a recording names them. ``has_journal``: whether the file configures a journal. ``embedding``:
    where the embeddings of prompts come from; None: the policy has none.
    """

    path: Path
    name: str
    policy: Policy
    has_journal: bool
    embedding: EmbeddingSource | None = None

    @property
    def models(self) -> list[str]:
        """The tiers' models, cheapest first, as a recording names them."""
        return [tier.model for tier in self.policy.tiers]

    @property
    def rules(self) -> dict[str, Rules]:
        """Each model's judges with their options, without thresholds and without the models that they call."""
        return {tier.model: [_rule(rule) for rule in tier.judges] for tier in self.policy.tiers}


def _rule(rule: JudgeRule) -> dict[str, object]:
    return {"use": rule.use, **{k: v for k, v in rule.options.items() if k != "model"}}


def _renamed(rule: JudgeRule, recorded_names: Mapping[str, str]) -> JudgeRule:
    """The rule, with the models of a consensus by their names in the recording."""
    if rule.use != "consensus":
        return rule
    models = [recorded_names[model] for model in rule.options["models"]]
    return rule.model_copy(update={"options": {**rule.options, "models": models}})


def as_recorded(tier: TierPolicy, recorded_names: Mapping[str, str]) -> TierPolicy:
    """The tier with its model as a recording names it, which for one with ``fuse`` is a model of its own.

    Args:
        tier: The tier.
        recorded_names: The models' names in the recording, by their names in the policy file.
    """
    model = recorded_name(tier, recorded_names.__getitem__)
    return tier.model_copy(update={"model": model, "fuse": None, "samples": None})


def own_policy(path: str | Path, name: str | None = None) -> OwnPolicy:
    """Reads one policy of a policy file, without the calibration that it may name.

    Args:
        path: The policy file.
        name: The policy; by default the one called ``default``, or the only one.

    Raises:
        ReplayError: There is no such policy.
        PolicyError: The file is not valid.
    """
    file = load.load(path, calibrated=False)
    names = list(file.policies)
    if name is None:
        if "default" not in file.policies and len(names) > 1:
            raise ReplayError(f"{path}: none of the policies {', '.join(names)} is called 'default'; name one with --policy")
        name = "default" if "default" in file.policies else names[0]
    if name not in file.policies:
        raise ReplayError(f"{path}: {unknown('policy', name, names)}")
    policy = file.policies[name]
    recorded_names = {model: spec.model or model for model, spec in file.models.items()}
    tiers = [
        as_recorded(t, recorded_names).model_copy(update={"judges": [_renamed(j, recorded_names) for j in t.judges]})
        for t in policy.tiers
    ]
    spec = policy.embedding
    return OwnPolicy(
        path=Path(path),
        name=name,
        policy=policy.model_copy(update={"tiers": tiers}),
        has_journal=file.journal is not None,
        embedding=None if spec is None else EmbeddingSource(embedding=spec, model=file.models[spec.model]),
    )


def check_recorded(own: OwnPolicy, models: Iterable[str], examples: Sequence[Example]) -> None:
    """Raises ReplayError where the recording lacks models of the policy; says how to record them."""
    recorded_models = models_of(examples)
    if missing := [model for model in models if model not in recorded_models]:
        raise ReplayError(
            f"--policy-file {own.path}: the recording has no model {', '.join(map(repr, missing))}; it has: "
            f"{', '.join(recorded_models)}. Replay a recording of the policy's models, or record what is missing: "
            f"cascade record RECORDING --missing --policy-file {own.path} --policy {own.name} --out complete.jsonl"
        )
