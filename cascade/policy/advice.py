"""Warns of policies that are valid but cannot work: judges that never score, unreachable thresholds, missing keys."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import judges
from cascade.costs.estimate import MAX_OUTPUT, Bounds
from cascade.costs.prices import Pricer
from cascade.util.plain_data import usd
from cascade.util.providers import KEY_ENV
from cascade.util.suggestions import nearest
from judges import Usage

from .calibrators import Calibrator, Constant, Isotonic, Logistic, from_json, transformed
from .routes import unreachable
from .schema import JudgeRule, ModelSpec, Policy, PolicyFile, TierPolicy

INPUT_TOKENS = 500
_SEVERAL_SCORES = 0.999
"""The most that a confidence of two or more scores reaches without a calibration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """Something in a policy file that cannot work as it is.

    ``where`` is the place, such as ``policies.default.tiers[0]``; ``text`` says what is wrong and what to do.
    """

    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


def advise(file: PolicyFile, environment: Mapping[str, str]) -> list[Advice]:
    """Finds what cannot work in a policy file, in the order of the file.

    Args:
        file: The policy file, calibrations applied.
        environment: The environment variables, for the providers' keys.
    """
    advice: list[Advice] = []
    used = sorted({name for policy in file.policies.values() for name in policy.model_names} & file.models.keys())
    for name in used:
        advice += [Advice(where=f"models.{name}", text=text) for text in _model(name, file.models[name], environment)]
    for name, policy in file.policies.items():
        advice += [Advice(where=f"policies.{name}", text=text) for text in _limits(policy, file)]
        for later, earlier in unreachable(policy.routes or (), policy.tasks.tag):
            rules = " and ".join(f"routes[{i}]" for i in earlier)
            match, them = ("matches", "that") if len(earlier) == 1 else ("together match", "them")
            text = f"never applies: {rules} {match} all of its runs; move it before {them}, or remove it"
            advice.append(Advice(where=f"policies.{name}.routes[{later}]", text=text))
        advice += [Advice(where=f"policies.{name}.routes[{i}]", text=text) for i, text in _misspelt_tasks(policy)]
        for i, tier in enumerate(policy.tiers):
            where = f"policies.{name}.tiers[{i}] ({tier.name})"
            advice += [Advice(where=where, text=text) for text in _tier(policy, i, tier, file)]
    return advice


def _model(name: str, spec: ModelSpec, environment: Mapping[str, str]) -> Iterator[str]:
    variable = spec.api_key_env or KEY_ENV.get(spec.provider)
    if variable is not None and (spec.base_url is None or spec.api_key_env) and not environment.get(variable):
        yield f"the environment variable {variable} is not set, so the model cannot be called"


def _misspelt_tasks(policy: Policy) -> Iterator[tuple[int, str]]:
    """The places of routes for a task that is nearly one of those that the policy knows, and what to do."""
    known = {rule.task for rule in policy.tasks.rules} | {t for tier in policy.tiers for t in tier.accept_at_by_task or ()}
    for i, route in enumerate(policy.routes or ()):
        words = route.when.task or []
        for task in [words] if isinstance(words, str) else words:
            if task not in known and (suggestion := nearest(task, sorted(known))):
                yield i, f"task {task!r} is neither in tasks.rules nor in the recording{suggestion}"


def _limits(policy: Policy, file: PolicyFile) -> Iterator[str]:
    """Budgets that what is reserved for one answer uses up, and caps on calls that a tier's samples pass."""
    budgets = (
        ("budget_usd", policy.budget_usd, 1),
        ("budget_usd_per_day", policy.budget_usd_per_day, 10),
        ("budget_usd_per_day of all policies", file.budget_usd_per_day, 10),
    )
    for tier in policy.tiers:
        spec = file.models.get(tier.model)
        most = None if spec is None else _most(tier.model, spec)
        for name, budget, calls in budgets:
            if budget is None or most is None or spec is None or most * calls <= budget:
                continue
            bounded = Bounds.of(spec).output
            tokens = f"{bounded or MAX_OUTPUT:,} tokens of output"
            fits = "no call" if most > budget else f"only {int(budget / most)} calls at a time"
            yield (
                f"{name}: {usd(budget)} is small: a call of {tier.model} reserves {tokens} ({usd(most)}) until it ends, so "
                f"that {fits} fit; {'lower' if bounded else 'set'} models.{tier.model}.max_tokens, or raise the budget"
            )


def _most(name: str, spec: ModelSpec) -> float | None:
    """The amount reserved for a call of 500 tokens, in USD; None where the price is unknown."""
    return Pricer(name, spec).cost(Usage(INPUT_TOKENS, Bounds.of(spec).output or MAX_OUTPUT))


def _tier(policy: Policy, i: int, tier: TierPolicy, file: PolicyFile) -> Iterator[str]:
    last = i == len(policy.tiers) - 1
    scoring = []
    for rule in tier.judges:
        silent = list(_silent(rule, tier, file))
        yield from silent
        if not silent and not judges.make(rule.use, **rule.options).only_vetoes:
            scoring.append(rule)
        elif not tier.confidence and rule.accept_at is not None and not scoring and rule.accept_at > tier.prior:
            yield (
                f"judge {rule.use!r}: accept_at {rule.accept_at:g} is never reached: no judge up to it gives a score, so "
                f"the confidence is the prior, {tier.prior:g}"
            )
        samples = rule.options.get("samples")
        caps = {"max_samples": policy.max_samples, "max_calls": policy.max_calls - 1}
        for cap, value in caps.items():
            if isinstance(samples, int) and value is not None and samples > value:
                yield f"judge {rule.use!r} draws up to {samples} samples, more than {cap} allows; raise {cap}"
    yield from _threshold(tier, last, scoring)


def _silent(rule: JudgeRule, tier: TierPolicy, file: PolicyFile) -> Iterator[str]:
    """Why the judge logprob can score no answer of the tier's model or of a fallback."""
    if rule.use != "logprob":
        return
    for name in (tier.model, *tier.fallbacks):
        spec = file.models.get(name)
        if spec is not None and spec.provider == "openai" and not spec.logprobs:
            yield f"the judge logprob reads log-probabilities, which are not requested; set models.{name}.logprobs: true"
        elif spec is not None and spec.provider == "anthropic":
            yield (
                f"the judge logprob can score no answer of {name}: Anthropic returns no log-probabilities; use "
                "self_consistency, or a verifier"
            )


def _threshold(tier: TierPolicy, last: bool, scoring: list[JudgeRule]) -> Iterator[str]:
    if not scoring and tier.accept_at <= tier.prior and not tier.confidence:
        if last:
            yield (
                "no judge scores the last tier's answers: they are returned as not accepted, with the reason last_tier; add "
                "a judge that scores, such as logprob or self_consistency, where you gate on accepted"
            )
        else:
            yield (
                "no judge gives a score, so every answer that is not vetoed ends the run, and is not accepted; add a judge "
                "that scores"
            )
        return
    most = _highest(tier, scoring)
    if most < tier.accept_at:
        why = "no judge below it gives a score" if not scoring and not tier.confidence else f"at most {most:.4g} is reached"
        what = "no answer is ever accepted" if last else "every answer is given up, and its cost is lost"
        yield f"accept_at {tier.accept_at:g} is out of reach, {why}: {what}; lower it, or add a judge that scores"


def _highest(tier: TierPolicy, scoring: list[JudgeRule]) -> float:
    """The highest confidence that any answer of the tier can have after all its judges."""
    if tier.confidence:
        return _supremum(from_json(tier.confidence[-1]))
    if not scoring:
        return tier.prior
    return 1.0 if len(scoring) == 1 else _SEVERAL_SCORES


def _supremum(mapping: Calibrator) -> float:
    """The highest probability that a mapping gives, whatever the scores."""
    if isinstance(mapping, Constant):
        return mapping.p
    if isinstance(mapping, Isotonic):
        return max(mapping.knots[-1][1], mapping.missing)
    scores: dict[str, float | None] = {}
    assert isinstance(mapping, Logistic)
    for feature, coefficient, missing in zip(mapping.features, mapping.coefficients, mapping.missing, strict=True):
        ends: dict[float | None, float] = {s: coefficient * transformed(feature.transform, s) for s in (0.0, 1.0)}
        ends[None] = coefficient * feature.fill + missing
        scores[feature.judge] = max(ends, key=lambda s: ends[s])
    return mapping.probability(scores)
