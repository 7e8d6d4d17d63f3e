"""What `arun` costs over calling the same scripted model directly, and what protections add to it; prints JSON, fails where
a target is missed.

With breakers, a budget and a batched journal on, a run may cost a quarter more than the targets of a bare one. Ratios to the
bare run are printed, not bounded: the journal alone may add 40 us to a run of about 30. A day's budget that processes share
through the journal is a transaction a request; ``shared_budget_us`` says what one tier costs then. ``features_ratio``: a
short prompt whose first tier has a predictor, over the same ladder without one.
"""

import asyncio
import json
import statistics
import sys
import tempfile
from dataclasses import replace
from time import perf_counter, process_time

from cascade import Answer, Cascade, Policy, Prompt, ScriptedModel, Usage
from cascade.models.protocol import Request
from cascade.policy.predictor import Predictor
from cascade.policy.schema import PolicyFile
from judges.prompt import PROMPT_SCORE
from judges.prompt import features as prompt_features

SCHEMA = {"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"]}
GOOD = Answer('{"answer": 42}', mean_logprob=-0.01, finish_reason="stop", cost_usd=1e-5, usage=Usage(100, 10))
POOR = Answer('{"answer": 42}', mean_logprob=-3.0, finish_reason="stop", cost_usd=1e-5, usage=Usage(100, 10))
ROUNDS, RUNS = 15, 400


def make(*answers: Answer, folder: str | None = None) -> Cascade:
    """One tier an answer, with the schema and rules judges (and logprob where there are several tiers).

    With a ``folder``, breakers, a budget of the run and a batched journal are on.
    """
    judges = ["schema", "rules"] if len(answers) == 1 else ["schema", "rules", "logprob"]
    accept = 0.0 if len(answers) == 1 else 0.7
    tiers = [{"name": f"t{i}", "model": f"m{i}", "accept_at": accept, "judges": judges} for i in range(len(answers))]
    models = {f"m{i}": ScriptedModel(f"m{i}", [a], keep_calls=False) for i, a in enumerate(answers)}
    limits = {} if folder is None else {"budget_usd": 1.0}
    journal = None if folder is None else f"sqlite:///{folder}/{len(answers)}.db"
    return Cascade(Policy.model_validate({"tiers": tiers, **limits}), models=models, journal=journal)


def protected(protection: dict[str, str], journal: str | None = None, **limits: float) -> Cascade:
    """The tier of ``make(GOOD)`` with a price for its tokens and with limits; ``protection``: further keys of the model."""
    spec = {"provider": "scripted", "answers": ["-"], "price": {"input_per_mtok": 1, "output_per_mtok": 1}, **protection}
    tiers = [{"model": "m", "accept_at": 0.0, "judges": ["schema", "rules"]}]
    day = {"budget_usd_per_day": 1e9} if "budget_usd" in limits else {}
    policies = {"default": {"tiers": tiers, **limits, **day}}
    file = PolicyFile.model_validate({"models": {"m": spec}, "policies": policies, **day})
    return Cascade(file, models={"m": ScriptedModel("m", [replace(GOOD, cost_usd=None)], keep_calls=False)}, journal=journal)


def by_prompt(prompt: Prompt | None) -> Cascade:
    """Two calibrated tiers, of which the first accepts; with a prompt its predictor is evidence, and may skip it."""
    judges = ["schema", "rules", "logprob"]
    features = [{"judge": "logprob", "transform": "logit", "fill": 0.0, "coefficient": 1.0, "missing": 0.0}]
    predictor: dict[str, object] = {}
    if prompt is not None:
        features.append({**features[0], "judge": PROMPT_SCORE})
        of_prompt = prompt_features(prompt)
        weights = {(7919 * i) % 2**32: 1 for i in range(5000)} | dict.fromkeys((*of_prompt.ngrams, *of_prompt.properties), 9)
        predictor = {
            "predictor": Predictor(
                intercept=1.0, weights=weights, scale=0.01, lengths=(1, 9999), scripts=("latin",), known_share=0.5
            ).to_json(),
            "skip_below": 0.01,
        }
    mapping = {"method": "logistic", "intercept": 1.0, "features": features}
    tier = {"model": "m0", "accept_at": 0.5, "judges": judges, "confidence": [mapping] * 4, **predictor}
    models = {name: ScriptedModel(name, [GOOD], keep_calls=False) for name in ("m0", "m1")}
    return Cascade(Policy.model_validate({"tiers": [tier, {"model": "m1", "accept_at": 0.0}]}), models=models)


async def per_run_us(cascade: Cascade, prompt: Prompt) -> float:
    """Microseconds of one run, the mean of RUNS: CPU time, or with a journal, which also waits for its disk, time."""
    clock = process_time if cascade._journal is None else perf_counter
    start = clock()
    for _ in range(RUNS):
        await cascade.arun(prompt)
    if cascade._journal is not None:
        cascade._journal.flush()  # what the writer still has to do is part of the price
    return (clock() - start) / RUNS * 1e6


async def direct_us(models: list[ScriptedModel], prompt: Prompt) -> float:
    """Microseconds of asking the same models in turn."""
    request = Request()
    start = process_time()
    for _ in range(RUNS):
        for model in models:
            await model.answer(prompt, request)
    return (process_time() - start) / RUNS * 1e6


async def throughput(cascade: Cascade, prompt: Prompt) -> float:
    """Runs a CPU second with 200 at once."""
    total = 8000

    async def worker() -> None:
        for _ in range(total // 200):
            await cascade.arun(prompt)

    start = process_time()
    await asyncio.gather(*(worker() for _ in range(200)))
    return total / (process_time() - start)


async def measure(folder: str) -> dict[str, float]:
    """Medians over interleaved rounds."""
    short = Prompt.of("What is 6 * 7? Reply in JSON.", schema=SCHEMA)
    long = Prompt.of("word " * 2000, schema=SCHEMA)
    prose = Prompt.of(" ".join(f"word{i % 97} thing" for i in range(250)), schema=SCHEMA)
    one, three = make(GOOD), make(POOR, POOR, GOOD)
    journaled = {"one_kept": make(GOOD, folder=folder), "three_kept": make(POOR, POOR, GOOD, folder=folder)}
    plain = ScriptedModel("m", [GOOD], keep_calls=False)
    features = {"features": by_prompt(short), "features_long": by_prompt(prose)}
    no_features = by_prompt(None)
    bare_run = protected({"breaker": "off"})
    guarded = {"breaker_budget": protected({}, budget_usd=1.0), "deadline": protected({"breaker": "off"}, deadline_s=60.0)}
    samples: dict[str, list[float]] = {name: [] for name in ("one", "three", "long", *journaled, *guarded, *features)}
    for _ in range(ROUNDS):
        bare = await direct_us([plain], short)
        a = await per_run_us(one, short)
        samples["one"].append(a - bare)
        samples["three"].append(await per_run_us(three, short) - await direct_us([plain] * 3, short))
        samples["long"].append(await per_run_us(one, long) / a)
        for (name, service), models in zip(journaled.items(), (1, 3), strict=True):
            samples[name].append(await per_run_us(service, short) - bare * models)
        unprotected = await per_run_us(bare_run, short)
        for name, service in guarded.items():
            samples[name].append(await per_run_us(service, short) / unprotected)
        for (name, service), prompt in zip(features.items(), (short, prose), strict=True):
            samples[name].append(await per_run_us(service, prompt) / await per_run_us(no_features, prompt))
    shared = protected({}, journal=f"sqlite:///{folder}/shared.db", budget_usd=1.0)
    shared_us = await per_run_us(shared, short)
    for service in (*journaled.values(), shared):
        await service.aclose()
    return {
        "shared_budget_us": shared_us,
        "one_tier_us": statistics.median(samples["one"]),
        "three_tiers_us": statistics.median(samples["three"]),
        "one_tier_all_on_us": statistics.median(samples["one_kept"]),
        "three_tiers_all_on_us": statistics.median(samples["three_kept"]),
        "long_prompt_ratio": statistics.median(samples["long"]),
        "breaker_budget_ratio": statistics.median(samples["breaker_budget"]),
        "deadline_ratio": statistics.median(samples["deadline"]),
        "features_ratio": statistics.median(samples["features"]),
        "features_ratio_500_words": statistics.median(samples["features_long"]),
        "runs_per_s_at_200": await throughput(one, short),
    }


def main() -> int:
    """Measures and compares with the targets."""
    with tempfile.TemporaryDirectory() as folder:
        results = asyncio.run(measure(folder))
    most = {"one_tier_us": 100, "three_tiers_us": 250, "long_prompt_ratio": 1.2}
    most |= {"one_tier_all_on_us": 1.25 * 100, "three_tiers_all_on_us": 1.25 * 250}
    most |= {"features_ratio": 1.5}
    least = {"runs_per_s_at_200": 8000}
    ok = {name: results[name] <= bound for name, bound in most.items()}
    ok |= {name: results[name] >= bound for name, bound in least.items()}
    rounded = {k: round(v, 2) for k, v in results.items()}
    targets = {**most, **least}
    print(json.dumps({"overhead": {**rounded, "targets": targets, "n": ROUNDS * RUNS, "ok": ok}}))
    return 0 if all(ok.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
