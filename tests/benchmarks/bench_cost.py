"""What a certified cascade costs on recordings of real models, and how honest its confidence is: one line of JSON.

Everything is learned on one half of the rows and measured on the other; the mean over ``--seeds`` random halves (20). The
promise: at most ``max_loss`` below the premium tier with probability 0.9. Needs the recordings (CASCADE_RECORDINGS).
"""

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from evals.recording import Example, read
from evals.replay.baselines import uncalibrated
from evals.replay.calibration.apply_mapping import apply
from evals.replay.calibration.calibrate import fit
from evals.replay.certificate.certified_choice import choose_certified
from evals.replay.certificate.guarantee import Guarantee
from evals.replay.rows.input_rows import Rules, default_judges
from evals.replay.rows.splits import halves
from evals.replay.score_table import Cache, TierScores, load_or_score, sha256_of
from evals.replay.statistics.metrics import ece, ece_by_chance

RECORDINGS = Path(os.environ.get("CASCADE_RECORDINGS", Path(__file__).parents[3] / "shared" / "recordings"))
DELTA = 0.1
LLAMAS = ["llama3.2-1b", "llama3.2-3b", "llama3.1-8b", "llama3.1-70b", "llama3.1-405b"]
NINE = ["llama3.2-1b", "llama3.2-3b", "gpt-4o-mini", "llama3.1-8b", "llama3.1-70b", "qwen2.5-32b-coder-instruct",
        "qwen2.5-72b-instruct", "llama3.1-405b", "gpt-4o"]  # fmt: skip
# name: recording, models (the premium tier last), max_loss, target share of the premium's cost
CASES: dict[str, tuple[str, list[str], float, float]] = {
    "mmlu gpt-4o-mini -> gpt-4o": ("mmlu", ["gpt-4o-mini", "gpt-4o"], 0.03, 0.46),
    "mmlu any of nine -> gpt-4o": ("mmlu", NINE, 0.03, 0.33),
    "triviaqa any of five Llamas -> 405B": ("triviaqa", LLAMAS, 0.03, 0.38),
    "date GPT-3.5 (pot2) -> GPT-4": ("date", ["gpt-3.5:pot2_t=0.8", "gpt-4:cot1"], 0.05, 0.40),
    # The other prompts of GPT-3.5, with no target: what the choice of the prompt above is worth.
    "date GPT-3.5 (pot1) -> GPT-4": ("date", ["gpt-3.5:pot1_t=0.8", "gpt-4:cot1"], 0.05, 1.0),
    "date GPT-3.5 (cot2) -> GPT-4": ("date", ["gpt-3.5:cot2_t=0.8", "gpt-4:cot1"], 0.05, 1.0),
    "date GPT-3.5 (cot1) -> GPT-4": ("date", ["gpt-3.5:cot1_40", "gpt-4:cot1"], 0.05, 1.0),
}


def load(name: str, models: list[str]) -> tuple[list[Example], dict[str, list[TierScores]]]:
    """The rows that every model answered, and each model's column."""
    path = RECORDINGS / f"{name}.jsonl.gz"
    rows = [e for e in read(path) if all(e.answers.get(m, {}).get("quality") is not None for m in models)]
    cache = Cache(path, sha256_of(path))

    async def judged(model: str, rules: Rules) -> list[TierScores]:
        return [await load_or_score(rows, model, rules, cache)]

    return rows, {m: asyncio.run(judged(m, default_judges(rows, m))) for m in models}


def cost(name: str, models: list[str], max_loss: float, target: float, seeds: int) -> dict[str, Any]:
    """The certified cascade over random halves."""
    rows, columns = load(name, models)
    premium = columns[models[-1]][0]
    ratios, losses, errors, certified = [], [], [], []
    started = perf_counter()
    for seed in range(seeds):
        splits = halves([e.task for e in rows], seed)
        choice = choose_certified(columns, splits, Guarantee("max_loss", max_loss, DELTA), seed=seed, must_end=models[-1])
        outcome = choice.chosen.outcome(splits.test)
        difference = premium.quality[splits.test, 0] - outcome.quality
        ratios.append(float(outcome.cost_usd.mean() / premium.cost_usd[splits.test, 0].mean()))
        losses.append(float(difference.mean()))
        errors.append(float(difference.std() / np.sqrt(len(difference))))
        certified.append(bool(choice.certificate["certified"]))
    loss, error = np.array(losses), np.array(errors)
    mean = float(np.mean(ratios))
    return {
        "n": len(rows),
        "cost_ratio": round(mean, 4),
        "sd": round(float(np.std(ratios)), 4),
        "interval_95": [round(mean + s * 1.96 * float(np.std(ratios)) / seeds**0.5, 4) for s in (-1, 1)],
        "target": target,
        "mean_loss": round(float(loss.mean()), 4),
        "max_loss": max_loss,
        "certified": float(np.mean(certified)),
        "kept": float((loss <= max_loss).mean()),
        "kept_within_error": float((loss <= max_loss + 1.645 * error).mean()),
        "seconds_a_seed": round((perf_counter() - started) / seeds, 2),
        "reached": mean <= target and float(np.mean(certified)) >= (0.9 if target < 1 else 0),
    }


def calibration(seeds: int) -> dict[str, Any]:
    """ECE of gpt-4o-mini on mmlu rows that the mapping has not seen, before and after, in 10 equal-mass bins.

    ``crossfit``: ten folds, each row by the mapping that was fitted without its fold. ``halves``: fitted on one half, tested
    on the other. Beside both what perfect probabilities would show on as many rows, which is not 0.
    """
    rows, columns = load("mmlu", ["gpt-4o-mini"])
    c = columns["gpt-4o-mini"][0]
    score, right = c.scores[:, c.names.index("logprob")], c.quality[:, -1]

    def seen(fit_rows: Any, test_rows: Any, seed: int) -> Any:
        return apply(fit({"logprob": score[fit_rows]}, right[fit_rows], seed=seed).mapping, {"logprob": score[test_rows]})

    results: dict[str, dict[str, list[float]]] = {"crossfit": {}, "halves": {}}

    def note(how: str, test: Any, p: Any, seed: int) -> None:
        for name, value in (
            ("before", ece(uncalibrated(c)[test, -1], right[test])),
            ("after", ece(p, right[test])),
            ("of_perfect_probabilities", ece_by_chance(p, seed)),
        ):
            results[how].setdefault(name, []).append(float(value))

    every = np.arange(len(rows))
    for seed in range(seeds):
        fold = np.random.default_rng(seed).permutation(len(rows)) % 10
        out = np.empty(len(rows))
        for k in range(10):
            out[fold == k] = seen(every[fold != k], every[fold == k], seed)
        note("crossfit", every, out, seed)
        splits = halves([e.task for e in rows], seed)
        note("halves", splits.test, seen(splits.calibration, splits.test, seed), seed)
    figures: dict[str, Any] = {
        how: {name: round(float(np.mean(values)), 4) for name, values in named.items()} for how, named in results.items()
    }
    figures["crossfit"]["n"], figures["halves"]["n"] = len(rows), len(splits.test)
    figures["crossfit"]["sd_of_after"] = round(float(np.std(results["crossfit"]["after"])), 4)
    return figures | {"target": 0.03, "reached": figures["crossfit"]["after"] <= 0.03}


def main() -> int:
    """Prints the figures; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    seeds = parser.parse_args().seeds
    if not (RECORDINGS / "mmlu.jsonl.gz").is_file():
        print(json.dumps({"benchmark": "cost", "skipped": f"no recordings in {RECORDINGS.name}; set CASCADE_RECORDINGS"}))
        return 0
    figures: dict[str, Any] = {"benchmark": "cost", "delta": DELTA, "seeds": seeds}
    figures["cost"] = {}
    for name, case in CASES.items():
        figures["cost"][name] = cost(*case, seeds)
        print(f"{name}: {json.dumps(figures['cost'][name])}", file=sys.stderr, flush=True)
    figures["ece gpt-4o-mini, mmlu"] = calibration(seeds)
    print(json.dumps(figures))
    every = [*figures["cost"].values(), figures["ece gpt-4o-mini, mmlu"]]
    return 0 if all(item["reached"] for item in every) else 1


if __name__ == "__main__":
    sys.exit(main())
