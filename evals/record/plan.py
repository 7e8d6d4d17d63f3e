"""What to record: models of a policy or of its file, with the samples and judge scores that a replay needs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import judges
from cascade.errors import PolicyError
from cascade.policy import load
from cascade.policy.fusion import recorded_name
from cascade.policy.schema import JudgeRule, ModelSpec, Policy, PolicyFile, TierPolicy
from cascade.util.suggestions import unknown, with_more
from evals.common.judge_spec import judge_rule
from evals.common.types import SAMPLES
from judges import Judge
from judges.logprob import LogprobJudge
from judges.self_consistency import SelfConsistencyJudge

from .resume_check import PinnedSetting

TEMPERATURE = 0.7
# These change a model's answers, and so must stay the same within a recording.
_PINNED_FIELDS = (
    "provider",
    "model",
    "base_url",
    "max_tokens",
    "temperature",
    "structured",
    "options",
    "logprobs",
    "recording",
)


@dataclass(frozen=True, slots=True)
class RecordedJudge:
    """A judge whose score is recorded with the answers, and its entry in the policy."""

    judge: Judge
    rule: JudgeRule


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedModels:
    """The models whose answers a tier with ``fuse`` reads.

    Attributes:
        names: Their names in the policy file.
        keys: Their names in the recording.
        samples: How many answers of each.
    """

    names: tuple[str, ...]
    keys: tuple[str, ...]
    samples: int


@dataclass(frozen=True, slots=True)
class Target:
    """One model to record: ``name`` in the policy file, ``key`` in the recording; ``fuse``: what it reads beforehand."""

    name: str
    key: str
    spec: ModelSpec
    samples: int
    temperature: float
    judges: tuple[RecordedJudge, ...]
    fuse: FusedModels | None = None

    @property
    def supports_n(self) -> bool:
        """Whether the model returns several samples in one request."""
        return self.spec.provider != "anthropic" and self.spec.n

    def pinned_settings(self, batch: bool) -> Iterator[PinnedSetting]:
        """The arguments that change the answers or their cost."""
        spec = self.spec.model_dump(mode="json", include=set(_PINNED_FIELDS), exclude_defaults=True)
        yield PinnedSetting(f"model {self.key}", spec, self.key)
        if self.samples:
            yield PinnedSetting(f"temperature of {self.key}'s samples", self.temperature, self.key, SAMPLES)
        for each in self.judges:
            rule = {"use": each.rule.use, **each.rule.options}
            yield PinnedSetting(f"judge {each.judge.name} of {self.key}", rule, self.key, each.judge.name)
        if self.fuse is not None:
            fused = {"models": list(self.fuse.keys), "samples": self.fuse.samples}
            yield PinnedSetting(f"candidates of {self.key}", fused, self.key)
        # Answers at two prices in one recording would make comparisons by cost wrong.
        yield PinnedSetting(f"--batch of {self.key}", batch, self.key)


@dataclass(frozen=True, slots=True)
class Plan:
    """The models to record, and every model that they or their judges need, by its name in the policy file."""

    targets: tuple[Target, ...]
    specs: dict[str, ModelSpec]


def make_plan(
    policy: str | None,
    file: str | None,
    tiers: Sequence[str] = (),
    rules: Sequence[str] | None = None,
    samples: int | None = None,
    temperature: float | None = None,
) -> Plan:
    """The plan of a command's arguments.

    Args:
        policy: A policy's name, or a policy file.
        file: The policy file, where ``policy`` is a name.
        tiers: Tiers of the policy or models of its file; all tiers by default.
        rules: Judges as ``judge:option=value``; each tier's own by default.
        samples: How many further samples; by default as many as a self-consistency judge reads.
        temperature: The temperature of the samples; by default the judge's.

    Returns:
        The plan.

    Raises:
        PolicyError: The policy, a tier, a model or a judge does not exist.
        JudgeSpecError: A judge's option is not written as ``option=value``.
    """
    policy_file, chosen = _policy(policy, file)
    named: dict[str, list[JudgeRule]] = {}
    own = {t.model: t for t in chosen.tiers if t.fuse is None} | {t.name: t for t in chosen.tiers}
    fused: list[TierPolicy] = []
    for name in tiers or [t.name for t in chosen.tiers]:
        tier = own.get(name)
        if tier is None and name not in policy_file.models:
            names = [*own, *(m for m in policy_file.models if m not in own)]
            raise PolicyError(f"--tiers: {unknown('tier or model', name, names)}")
        if tier is not None and tier.fuse is not None:
            fused.append(tier)
            continue
        named[tier.model if tier is not None else name] = list(tier.judges) if tier is not None else []
    if rules is not None:
        judge_rules = [_rule(text, policy_file) for text in rules if text]
        named = dict.fromkeys(named, judge_rules)
        fused = [tier.model_copy(update={"judges": judge_rules}) for tier in fused]
    keys = _keys(policy_file, list(named))
    targets = tuple(
        _target(name, keys[name], policy_file.models[name], target_rules, samples, temperature)
        for name, target_rules in named.items()
    )
    needed = {t.name: t.spec for t in targets}
    targets += tuple(_fused_target(tier, policy_file, keys) for tier in fused)
    for target in targets:
        needed.setdefault(target.name, target.spec)
        for name in target.fuse.names if target.fuse is not None else ():
            needed.setdefault(name, policy_file.models[name])
        for each in target.judges:
            model = each.rule.options.get("model")
            if isinstance(model, str):
                needed.setdefault(model, policy_file.models[model])
    return Plan(targets, needed)


def policy_path(policy: str | None, file: str | None) -> str | None:
    """The policy file of a command: ``file``, or ``policy`` where it names a file; None for the usual search."""
    if policy is not None and file is None and (policy.endswith((".yaml", ".yml")) or Path(policy).is_file()):
        return policy
    return file


def _policy(policy: str | None, file: str | None) -> tuple[PolicyFile, Policy]:
    path = policy_path(policy, file)
    policy_file = load.load(path)
    if policy is None or policy == path:
        return policy_file, policy_file.policies.get("default") or next(iter(policy_file.policies.values()))
    if policy not in policy_file.policies:
        names = list(policy_file.policies)
        hint = with_more(policy, names, f"known: {', '.join(names)}")
        raise PolicyError(f"--policy: no policy file, and no policy {policy!r}{hint}")
    return policy_file, policy_file.policies[policy]


def _rule(text: str, file: PolicyFile) -> JudgeRule:
    spec = judge_rule(text)
    names = judges.names()
    if spec["use"] not in names:
        raise PolicyError(f"--judges: {unknown('judge', spec['use'], names)}")
    try:
        rule = JudgeRule.model_validate(spec)
    except ValueError as error:
        raise PolicyError(f"--judges: {text!r}: {error}") from None
    model = rule.options.get("model")
    if isinstance(model, str) and model not in file.models:
        names = list(file.models)
        raise PolicyError(f"--judges: {text!r}: {unknown('model', model, names)}")
    return rule


def _keys(file: PolicyFile, names: Sequence[str]) -> dict[str, str]:
    """Each model's name in the recording: the provider's, or the policy file's where two share the provider's."""
    called = {name: file.models[name].model or name for name in names}
    shared = {key for key in called.values() if list(called.values()).count(key) > 1}
    return {name: name if key in shared else key for name, key in called.items()}


def _fused_target(tier: TierPolicy, file: PolicyFile, keys: Mapping[str, str]) -> Target:
    """A tier with ``fuse``, whose answers are recorded as those of a model of their own."""

    def name_of(model: str) -> str:
        return file.models[model].model or model

    assert tier.fuse is not None
    key = recorded_name(tier, name_of)
    target = _target(tier.model, key, file.models[tier.model], tier.judges, 0, None)
    candidate_keys = tuple(keys.get(model, name_of(model)) for model in tier.fuse)
    return replace(target, fuse=FusedModels(names=tuple(tier.fuse), keys=candidate_keys, samples=tier.samples or 1))


def _target(
    name: str, key: str, spec: ModelSpec, rules: Sequence[JudgeRule], samples: int | None, temperature: float | None
) -> Target:
    recorded: list[RecordedJudge] = []
    for rule in rules:
        judge = judges.make(rule.use, **rule.options)
        if isinstance(judge, LogprobJudge):
            if spec.provider == "openai":
                spec = spec.model_copy(update={"logprobs": True})
        elif isinstance(judge, SelfConsistencyJudge):
            # A replay counts votes over the samples, so the samples are recorded, not the score.
            samples = judge.samples if samples is None else samples
            temperature = judge.temperature if temperature is None else temperature
        elif not judge.only_vetoes:
            recorded.append(RecordedJudge(judge, rule))
    return Target(name, key, spec, samples or 0, TEMPERATURE if temperature is None else temperature, tuple(recorded))
