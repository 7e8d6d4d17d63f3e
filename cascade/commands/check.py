"""``cascade check`` and ``cascade schema``: whether a policy file is valid, and what it may contain."""

import argparse
import json
import os
from collections.abc import Iterator

from cascade.errors import PolicyError
from cascade.policy import load as policy_files
from cascade.policy.calibrators import from_json
from cascade.policy.routes import in_words
from cascade.policy.schema import EmbeddingSpec, ModelSpec, Policy, PolicyFile, TierPolicy
from cascade.util.messages import counted
from cascade.util.plain_data import usd
from cascade.util.providers import KEY_ENV
from cascade.util.suggestions import unknown
from cascade.util.totals import plus
from cascade.util.totals import total as sum_of

from .ask import POLICY_FILE_HELP


def add_check(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of ``check``."""
    parser.add_argument("file", nargs="?", help=POLICY_FILE_HELP)
    parser.add_argument("--input-tokens", type=int, default=500, help="of a call, for its cost (default 500)")
    parser.add_argument("--output-tokens", type=int, default=200, help="of a call, for its cost (default 200)")
    parser.add_argument("--policy", help="only this policy and its models (default: all)")
    parser.add_argument("--strict", action="store_true", help="exit with 1 where there is a warning, for CI")
    parser.set_defaults(command=_check)


def add_schema(parser: argparse.ArgumentParser) -> None:
    """``schema`` has no arguments."""
    parser.set_defaults(command=_schema)


def _check(args: argparse.Namespace) -> int:
    path = policy_files.find(args.file)
    file = policy_files.load(path)
    print(f"{path}: {counted(len(file.models), 'model')}, {counted(len(file.policies), 'policy', 'policies')}, valid")
    if args.policy is not None:
        if args.policy not in file.policies:
            raise PolicyError(unknown("policy", args.policy, file.policies))
        file = file.model_copy(update={"policies": {args.policy: file.policies[args.policy]}})
    for name, policy in file.policies.items():
        _print_policy(name, policy, file, args.input_tokens, args.output_tokens)
    from cascade.policy.advice import advise

    warnings = [*advise(file, os.environ), *_deadline_advice(file)]
    print()
    for warning in warnings:
        print(f"warning: {warning}")
    n = len(warnings)
    print(counted(n, "warning") if n else "no warnings")
    return 1 if warnings and args.strict else 0


def _deadline_advice(file: PolicyFile) -> Iterator[str]:
    for name, policy in file.policies.items():
        for i, tier in enumerate(policy.tiers):
            spec = file.models[tier.model]
            if _may_use_up_deadline(tier, spec, policy):
                yield (
                    f"policies.{name}.tiers[{i}] ({tier.name}): one slow response can use up the deadline: timeout_s is "
                    f"{spec.timeout_s:g}, deadline_s {policy.deadline_s:g}; lower models.{tier.model}.timeout_s so that "
                    "another model can answer"
                )


def _print_policy(name: str, policy: Policy, file: PolicyFile, tokens_in: int, tokens_out: int) -> None:
    print(f"\n{name}  (hash {policy.hash}; when unsure: {policy.when_unsure}; at most {policy.max_calls} calls)")
    total: float | None = 0.0
    earlier_models = set[str]()  # whose answers a tier with ``fuse`` reads without asking again
    for tier in policy.tiers:
        spec = file.models[tier.model]
        cost = _call_cost(tier.model, spec, tokens_in, tokens_out)
        if tier.fuse is not None:
            samples = tier.samples or 1
            candidates = [model for model in tier.fuse for _ in range(samples - (model in earlier_models))]
            cost = _call_cost(tier.model, spec, tokens_in + samples * len(tier.fuse) * tokens_out, tokens_out)
            cost = sum_of([cost, *(_call_cost(model, file.models[model], tokens_in, tokens_out) for model in candidates)])
        else:
            earlier_models.add(tier.model)
        total = plus(total, cost)
        judges = " > ".join(rule.use for rule in tier.judges) or "none"
        print(f"  {tier.name:<10} {spec.provider}:{spec.model or tier.model:<30} cost per call: {usd(cost)}")
        print(f"  {'':<10} judges {judges}; accepts from confidence {tier.accept_at:g}")
        if tier.fuse is not None:
            print(f"  {'':<10} {fuses(tier)}")
        if by_prompt := _by_prompt(tier):
            print(f"  {'':<10} {by_prompt}")
    if policy.embedding is not None:
        print(f"  embedding  {_embedding(policy, policy.embedding, file)}")
    if policy.final != "last":
        print(f"  {returns(policy)}")
    for i, route in enumerate(policy.routes or ()):
        print(f"  routes[{i}]  {in_words(route.when)}: starts at {route.start_at}")
    print(f"  all tiers, without judging: cost {usd(total)} for {tokens_in} tokens in, {tokens_out} out")


def fuses(tier: TierPolicy) -> str:
    """What a tier with ``fuse`` reads before it answers."""
    each = "" if tier.samples is None or tier.samples == 1 else f"{tier.samples} answers each of "
    return f"fuse: reads {each}{', '.join(tier.fuse or ())} and writes one answer"


def returns(policy: Policy) -> str:
    """What a policy returns once its last tier was asked."""
    if policy.final == "vote":
        how = (
            "" if policy.vote is None else f" (alternatives {policy.vote.alternatives:g}, exponent {policy.vote.exponent:g})"
        )
        return f"final: vote{how}: once the last tier was asked, the tiers vote on the answer"
    answer = "the most confident answer" if policy.final == "best" else "its own answer"
    return f"final: {policy.final}: once the last tier was asked, {answer} is returned"


def _embedding(policy: Policy, spec: EmbeddingSpec, file: PolicyFile) -> str:
    """Which embedding of the prompt a policy has, and whether a predictor reads it."""
    model = file.models[spec.model]
    tiers = [tier.name for tier in policy.tiers if tier.predictor is not None and "embedding" in tier.predictor]
    used = f"read by the predictors of {', '.join(tiers)}" if tiers else "not asked for: no predictor reads it"
    return (
        f"{model.provider}:{model.model or spec.model}, {spec.dimensions} dimensions, at most {spec.timeout_s:g} s; {used}"
    )


def _by_prompt(tier: TierPolicy) -> str:
    """What the prompt alone decides at a tier; empty where nothing reads its predictor."""
    uses = []
    if tier.skip_below is not None:
        uses.append(f"not asked where the prompt gives it less than {tier.skip_below:g}")
    if any(from_json(mapping).reads_prompt for mapping in tier.confidence or ()):
        uses.append("the prompt is evidence of its confidence")
    return "; ".join(uses)


def _may_use_up_deadline(tier: TierPolicy, spec: ModelSpec, policy: Policy) -> bool:
    alternatives = tier is not policy.tiers[-1] or bool(tier.fallbacks)
    hosted = spec.provider in KEY_ENV
    return alternatives and hosted and policy.deadline_s is not None and spec.timeout_s >= policy.deadline_s


def _call_cost(name: str, spec: ModelSpec, tokens_in: int, tokens_out: int) -> float | None:
    from cascade.costs.prices import Pricer
    from judges import Usage

    return Pricer(name, spec).cost(Usage(tokens_in, tokens_out))


def _schema(args: argparse.Namespace) -> int:
    print(json.dumps(policy_files.json_schema(), indent=2))
    return 0
