"""``cascade explain``: which tiers a prompt would be sent to and why, without sending it."""

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import Any

from cascade.engine.decide import decide_before, decide_in_time
from cascade.engine.routing import route_plan
from cascade.engine.tasks import task_plan, thresholds_of
from cascade.errors import PolicyError
from cascade.policy import load as policy_files
from cascade.policy.predictor import EmbeddingPredictor, Predictor
from cascade.policy.predictor import from_json as predictor_from_json
from cascade.policy.routes import characters, in_words, script_of
from cascade.policy.schema import Policy
from cascade.policy.thresholds import NO_TASK, raised
from cascade.result import Action
from cascade.util.suggestions import unknown
from judges import Prompt
from judges.language import language_of
from judges.prompt import PromptFeatures, features

from .ask import add_needs_to, add_prompt_to, read_json, read_prompt
from .check import fuses, returns


def add_to(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_prompt_to(parser, "a policy's name")
    parser.add_argument("--tools", help="a file with a list of tools, in OpenAI's shape")
    parser.add_argument("--tag", action="append", default=[], metavar="NAME=VALUE", help="a tag of the run; may be repeated")
    add_needs_to(parser)
    parser.set_defaults(command=_explain)


def explain(
    policy: Policy,
    prompt: Prompt,
    tags: Mapping[str, Any],
    *,
    min_confidence: float | None = None,
    max_latency_s: float | None = None,
) -> Iterator[str]:
    """What a run of a policy would do, line by line.

    Args:
        policy: The policy.
        prompt: What would be asked.
        tags: The run's tags.
        min_confidence: As for ``run``.
        max_latency_s: As for ``run``; only latencies that the policy states are known here.
    """
    yield (
        f"prompt: {characters(prompt)} characters, script {script_of(prompt.text)}, language "
        f"{language_of(prompt.text) or 'unclear'}, {len(prompt.tools)} tools, "
        f"{'a' if prompt.schema is not None else 'no'} schema"
    )
    plan, first, task = route_plan(policy), 0, task_plan(policy).task_of(prompt, tags)
    if plan is None:
        yield "routes: none; the run begins at the first tier"
    else:
        place = plan.match(prompt, tags)
        for i, route in enumerate(plan.routes):
            mismatch = route.when.mismatch(prompt, tags, task)
            state = "applies" if i == place else f"no: {mismatch}" if mismatch else "not reached: an earlier rule applies"
            yield f"routes[{i}] ({in_words(route.when)}; starts at {route.start_at}): {state}"
        if place is None:
            yield "no route applies; the run begins at the first tier"
        else:
            first = plan.order[plan.routes[place].start_at]
    if policy.embedding is not None and policy.reads_embedding:
        yield (
            f"embedding: not requested here; a run requests it from {policy.embedding.model}. Shown is what the n-grams "
            "decide alone, as they do where its server is down"
        )
    skipped = 0
    for i, tier in enumerate(policy.tiers):
        thresholds = thresholds_of(tier, task or NO_TASK)
        if i < first:
            yield f"{tier.name}: not asked (route)"
        elif thresholds is None:
            yield f"{tier.name}: not asked (the task {task or NO_TASK} skips it)"
        else:
            thresholds = raised(thresholds, min_confidence)
            judges = " > ".join(rule.use for rule in tier.judges) or "none"
            before = ""
            if tier.skip_below is not None and tier.predictor is not None:
                predictor = predictor_from_json(tier.predictor)
                of_prompt = features(prompt, task if predictor.reads_task else None)
                score = predictor.probability(of_prompt)
                by_prompt = _by_prompt(predictor, of_prompt, score)
                if decide_before(thresholds, score) is Action.SKIP:
                    yield f"{tier.name}: not asked ({by_prompt}, skip_below is {tier.skip_below:g})"
                    skipped += 1
                    continue
                before = f"{by_prompt}; "
            if max_latency_s is not None and decide_in_time(tier.p95_s, max_latency_s) is Action.SKIP:
                before += f"too slow by its p95_s of {tier.p95_s:g} s, asked only if no tier is faster; "
            order = (
                "asked first"
                if sum(_tiers_asked(policy, first, i, task)) == skipped
                else "asked if the tiers before are unsure"
            )
            model = f"model {tier.model}" if tier.fuse is None else f"model {tier.model}, {fuses(tier)}"
            yield f"{tier.name}: {order}; {model}; judges {judges}; {before}accepts from {thresholds.final:g}"
    if policy.final != "last":
        yield returns(policy)


def _by_prompt(predictor: Predictor, of_prompt: PromptFeatures, score: float | None) -> str:
    """What a predictor says of a prompt, in words."""
    if score is not None:
        return f"right with {score:.3g} by the prompt"
    if isinstance(predictor, EmbeddingPredictor) and predictor.is_in_range(of_prompt):
        return "the predictor needs the embedding"
    return "prompt unlike the recording"


def _tiers_asked(policy: Policy, first: int, end: int, task: str | None) -> Iterator[bool]:
    return (thresholds_of(tier, task or NO_TASK) is not None for tier in policy.tiers[first:end])


def _explain(args: argparse.Namespace) -> int:
    path = policy_files.find(args.policy_file)
    file = policy_files.load(path)
    if args.policy not in file.policies:
        raise PolicyError(unknown("policy", args.policy, file.policies))
    prompt = Prompt.of(
        read_prompt(args), system=args.system, schema=read_json(args.schema), tools=read_json(args.tools) or ()
    )
    print(f"policy: {args.policy} of {path}")
    needs = {"min_confidence": args.min_confidence, "max_latency_s": args.max_latency_s}
    for line in explain(file.policies[args.policy], prompt, dict(map(_tag, args.tag)), **needs):
        print(line)
    return 0


def _tag(text: str) -> tuple[str, Any]:
    """``name=value``; a number or a truth value as JSON writes it is one."""
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise ValueError(f"--tag {text!r}: write NAME=VALUE, for example task=contract")
    try:
        plain = json.loads(value)
    except ValueError:
        return name, value
    return name, plain if isinstance(plain, str | int | float | bool) else value
