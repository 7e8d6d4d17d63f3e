"""What deciding by the prompt saves, on every recording at hand: one line of JSON; 1 where a target is missed.

Ways of spending less than the premium tier, under the same promise and the same certificate, on the same halves: the joint
ladder (the prompt as evidence, and tiers skipped by the prompt), the cascade without either, a router that sees only the
prompt, and the best ladder of two tiers; and the oracle, which nobody can reach. Everything is learned on one half of the
rows and measured on the other; means of ``--seeds`` halves (20), which ``--store FOLDER`` keeps one by one.
The joint ladder should cost at most one point more than the cheaper of the cascade and the router. The shipped recording is
always there; the others need CASCADE_RECORDINGS. ``--cases WORD,...`` measures the cases that contain a word.
``--task-tags``: the rows' tasks are tags that callers send. ``--shift`` measures tasks of which no row was seen: there
quality may be at most two points below that of the cascade. ``--pairs`` does the same for ladders that were fitted on one
task and meet another. ``--range`` measures which prompts count as unlike a recording: at most 5 % of its own.

Most of the time goes into the verdicts of consensus judges, whose accuracies are those of each half's fit rows. They are
kept in a folder under the temporary one, so that a second run of the same seeds takes a fifth of the time.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from cascade.policy.predictor import Predictor
from evals.recording import Example, read
from evals.replay.baselines import Baseline, best_pair, oracle, prompt_router
from evals.replay.certificate.certified_choice import choose_certified
from evals.replay.certificate.guarantee import Guarantee
from evals.replay.evidence.consensus import with_consensus
from evals.replay.prompt_columns import with_prompts
from evals.replay.prompt_predictor import prompt_table, range_of
from evals.replay.rows.input_rows import Rules, default_judges, judge_plans, prompt_key, usable_rows
from evals.replay.rows.splits import Splits, halves
from evals.replay.score_table import Cache, TierScores, load_or_score, sha256_of
from evals.replay.simulate import Outcome
from judges.prompt import PromptFeatures

ROOT = Path(__file__).parents[3]
RECORDINGS = Path(os.environ.get("CASCADE_RECORDINGS") or ROOT.parent / "shared" / "recordings")
STARTER = ROOT / "cascade" / "data" / "starter.jsonl.gz"
DELTA = 0.1
SLACK = 0.01
LLAMAS = ("llama3.2-1b", "llama3.2-3b", "llama3.1-8b", "llama3.1-70b", "llama3.1-405b")
CHEAP = ("gemini-1.5-flash", "gpt-4o-mini-2024-07-18", "Meta-Llama-3.1-8B-Instruct", "claude-3-haiku-20240307")
SONNET = (
    "Meta-Llama-3.1-8B-Instruct", "Qwen2-7B-Instruct", "gemma-2-9b-it", "gemini-1.5-flash", "gpt-4o-mini-2024-07-18",
    "Meta-Llama-3.1-70B-Instruct", "claude-3-haiku-20240307", "claude-3-5-haiku-20241022", "claude-3-5-sonnet-20241022",
)  # fmt: skip
CRUX = ("Meta-Llama-3.1-8B-Instruct", "gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06")

Columns = dict[str, list[TierScores]]
Score = Callable[[str, Rules], Awaitable[TierScores]]
SeedFigures = dict[str, Any]
WAYS = ("joint", "cascade", "router", "best_pair", "oracle")


@dataclass(frozen=True, slots=True)
class Case:
    """A recording's file, its models (the premium tier last), the promise, and the share of premium's cost to reach."""

    path: Path
    models: Sequence[str]
    max_loss: float
    target: float | None = None


CASES = {
    "shipped": Case(STARTER, (), 0.10, 0.75),
    "mmlu": Case(RECORDINGS / "mmlu.jsonl.gz", ("gpt-4o-mini", "qwen2.5-72b-instruct", "gpt-4o"), 0.03, 0.23),
    "triviaqa": Case(RECORDINGS / "triviaqa.jsonl.gz", LLAMAS, 0.03, 0.32),
    "date": Case(RECORDINGS / "date.jsonl.gz", ("gpt-3.5:pot2_t=0.8", "gpt-4:cot1"), 0.05),
    "cruxeval": Case(RECORDINGS / "cruxeval.jsonl.gz", CRUX, 0.05),
    "gsm8k": Case(RECORDINGS / "gsm8k.jsonl.gz", ("llama3.1-8b", "gpt-4o-mini", "gpt-4o"), 0.05),
    "zeroeval gpt-4o": Case(RECORDINGS / "gsm8k-zeroeval.jsonl.gz", (*CHEAP, "gpt-4o-2024-08-06"), 0.02, 0.22),
    "zeroeval sonnet": Case(RECORDINGS / "gsm8k-zeroeval.jsonl.gz", SONNET, 0.02, 0.20),
}


def premium_last(examples: Sequence[Example]) -> list[str]:
    """The models of a recording, cheapest first."""
    cost: dict[str, float] = {}
    for example in examples:
        for model, answer in example.answers.items():
            cost[model] = cost.get(model, 0.0) + (answer.get("cost_usd") or 0.0)
    return sorted(cost, key=cost.__getitem__)


async def scored(case: Case) -> tuple[list[Example], Columns, Score]:
    """The usable rows, each model's columns without a consensus, and how further columns are scored."""
    examples = list(read(case.path))
    models = list(case.models) or premium_last(examples)
    rows, _, _ = usable_rows(examples, models)
    cache = Cache(Path(tempfile.gettempdir()) / "cascade-bench-prompts" / case.path.name, sha256_of(case.path))

    async def score(model: str, rules: Rules) -> TierScores:
        return await load_or_score(rows, model, rules, cache)

    plans = {m: [default_judges(rows, m)] if len(models) <= 2 else judge_plans(rows, m) for m in models}
    return rows, {m: [await score(m, rules) for rules in each] for m, each in plans.items()}, score


async def shifted(case: Case, seeds: Sequence[int]) -> dict[str, Any]:
    """Quality on a task of which no row was seen: of the joint ladder, and of the cascade that looks at no prompt."""
    guarantee = Guarantee("max_loss", case.max_loss, DELTA)
    figures: dict[str, Any] = {}
    rows, base, _ = await scored(case)
    task_of = np.array([row.task for row in rows])
    joint, differences = with_prompts(base, rows), []
    for task in sorted(set(task_of)):
        here = np.flatnonzero(task_of == task)
        for seed in seeds:
            seen = np.random.default_rng(seed).permutation(np.flatnonzero(task_of != task))
            n_fit = round(0.3 * len(seen))
            splits = Splits(np.sort(seen[:n_fit]), np.sort(seen[n_fit:]), here)
            chosen = [choose_certified(columns, splits, guarantee, seed=seed).chosen for columns in (joint, base)]
            outcomes = [candidate.outcome(here) for candidate in chosen]
            probabilities = [t.prompt.probability[here] for t in chosen[0].cascade.tiers if t.prompt and t.prompt.predictor]
            difference = outcomes[0].quality - outcomes[1].quality
            differences.append(difference)
            line = figures.setdefault(str(task), {"rows": len(here), "points": [], "out_of_range": []})
            line["points"].append(round(100 * float(difference.mean()), 2))
            line["out_of_range"].append(round(float(np.isnan(probabilities).mean()), 2) if probabilities else None)
    every = np.concatenate(differences)
    least = min(float(np.mean(line["points"])) for line in figures.values())
    mean = round(100 * float(every.mean()), 2)
    return {"tasks": figures, "points": mean, "worst_task": round(least, 2), "target": -2.0, "ok": mean >= -2.0}


async def pairs(case: Case, seeds: Sequence[int], *, max_loss: float, delta: float) -> dict[str, Any]:
    """Quality on each task of ladders that were fitted on one other task alone, joint against no look at prompts.

    A task has about 90 rows, of which little can be certified: the promise is wide, so that ladders are chosen at all.
    """
    guarantee = Guarantee("max_loss", max_loss, delta)
    rows, base, _ = await scored(case)
    task_of = np.array([row.task for row in rows])
    tasks = sorted(set(task_of))
    joint = with_prompts(base, rows)
    figures: dict[str, Any] = {}
    for source in tasks:
        own, others = np.flatnonzero(task_of == source), np.flatnonzero(task_of != source)
        differences, uses, known_shares = np.zeros(len(others)), 0, []
        for seed in seeds:
            seen = np.random.default_rng(seed).permutation(own)
            n_fit = round(0.6 * len(seen))
            splits = Splits(np.sort(seen[:n_fit]), np.sort(seen[n_fit:]), others)
            chosen = [choose_certified(columns, splits, guarantee, seed=seed).chosen for columns in (joint, base)]
            outcomes = [candidate.outcome(others) for candidate in chosen]
            differences += (outcomes[0].quality - outcomes[1].quality) / len(seeds)
            before = chosen[0].cascade.tiers[:-1]
            probabilities = [t.prompt.probability[others] for t in before if t.prompt and t.prompt.predictor]
            uses += bool(probabilities)
            if probabilities:
                known_shares.append(float(1 - np.isnan(probabilities).mean()))
        for target in tasks:
            if target != source:
                points = 100 * differences[task_of[others] == target]
                error = float(points.std(ddof=1)) / len(points) ** 0.5
                line = {"points": round(float(points.mean()), 2), "standard_error": round(error, 2)}
                figures[f"{source} > {target}"] = line
        figures[f"{source} > other tasks"] = {
            "points": round(100 * float(differences.mean()), 2),
            "seeds_with_a_predictor": uses,
            "in_range": round(float(np.mean(known_shares)), 3) if known_shares else None,
        }
    worst = min(line["points"] for line in figures.values())
    return {"pairs": figures, "max_loss": max_loss, "delta": delta, "worst": worst, "target": -2.0, "ok": worst >= -2.0}


def ranges(seeds: Sequence[int]) -> dict[str, Any]:
    """Which share of the prompts is out of range: of its own recording's test rows, and of other recordings."""
    paths = {case.path: name.split()[0] for name, case in CASES.items() if case.path.is_file()}
    examples = {name: list(read(path)) for path, name in paths.items()}
    tables = {name: prompt_table(rows) for name, rows in examples.items()}
    figures: dict[str, Any] = {}
    for name, rows in examples.items():
        own, others = [], dict[str, list[float]]()
        for seed in seeds:
            splits = halves([e.task for e in rows], seed, groups=[prompt_key(e) for e in rows])
            predictor = range_of([tables[name].features[i] for i in splits.fit])

            def unlike(features: Sequence[PromptFeatures], predictor: Predictor = predictor) -> float:
                return float(np.mean([predictor.probability(each) is None for each in features]))

            own.append(unlike([tables[name].features[i] for i in splits.test]))
            for other in tables.keys() - {name}:
                others.setdefault(other, []).append(unlike(tables[other].features[:200]))
        of_others = {other: round(float(np.mean(shares)), 3) for other, shares in sorted(others.items())}
        figures[name] = {"fit_rows": len(splits.fit), "own": round(float(np.mean(own)), 4), "others": of_others}
    return {"recordings": figures, "ok": all(line["own"] <= 0.05 for line in figures.values())}


async def measure(name: str, case: Case, seeds: Sequence[int], *, task_tags: bool, store: Path | None) -> dict[str, Any]:
    """Cost, loss and certificates of every way on the test rows, means of the seeds; each seed is kept in ``store``."""
    rows, base, score = await scored(case)
    seconds, figures = 0.0, list[SeedFigures]()
    for seed in seeds:
        path = store / name.replace(" ", "-") / f"{seed}.json" if store else None
        if path is not None and path.is_file():
            figures.append(json.loads(path.read_text()))
        else:
            started = perf_counter()
            figures.append(await one_seed(case, rows, base, score, seed, task_tags=task_tags))
            figures[-1]["seconds"] = round(perf_counter() - started, 1)
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(figures[-1]))
        seconds += figures[-1]["seconds"]
        if "-v" in sys.argv:
            print(seed, json.dumps(figures[-1]), file=sys.stderr, flush=True)
    ways = {way: line([each[way] for each in figures], case.max_loss) for way in WAYS}
    other = min(("cascade", "router"), key=lambda way: ways[way]["cost"])
    excess = np.array([each["joint"]["cost"] - each[other]["cost"] for each in figures])
    joint = ways["joint"]
    reached = case.target is None or (joint["cost"] <= case.target and joint["certified"] >= 0.9)
    ok = reached and float(excess.mean()) <= SLACK
    return {
        "rows": len(rows), "models": len(base), "seeds": len(seeds), "max_loss": case.max_loss, **ways,
        "above_the_cheaper": round(float(excess.mean()), 4), "standard_error": standard_error(excess),
        "looks_at_prompts": round(float(np.mean([each["joint"]["looks"] for each in figures])), 2),
        "target": case.target, "seconds_a_seed": round(seconds / len(seeds), 1), "ok": ok,
    }  # fmt: skip


async def one_seed(
    case: Case, rows: Sequence[Example], base: Columns, score: Score, seed: int, *, task_tags: bool
) -> SeedFigures:
    """Every way on one half: cost over the premium tier's, loss against it, and whether anything was certified."""
    splits = halves([e.task for e in rows], seed, groups=[prompt_key(e) for e in rows])
    test, guarantee = splits.test, Guarantee("max_loss", case.max_loss, DELTA)
    premium = base[list(base)[-1]][0]
    extended = await with_consensus(base, splits.fit, [case.max_loss], len(splits.certify), score)
    figures: SeedFigures = {}

    def keep(way: str, outcome: Outcome | Baseline, certified: bool, **more: Any) -> None:
        cost = float(outcome.cost_usd.mean() / premium.cost_usd[test, 0].mean())
        loss = float((premium.quality[test, 0] - outcome.quality).mean())
        figures[way] = {"cost": cost, "loss": loss, "certified": certified, **more}

    for way, columns in (("joint", with_prompts(extended, rows, has_tasks=task_tags)), ("cascade", extended)):
        choice = choose_certified(columns, splits, guarantee, seed=seed)
        tiers, certificate = choice.chosen.cascade.tiers, choice.certificate
        looks = any(tier.skip_below or any(c.reads_prompt for c in tier.calibrators) for tier in tiers)
        keep(
            way, choice.chosen.outcome(test), bool(certificate["certified"]), looks=looks, method=certificate["method"],
            tests=certificate["tests"], models=choice.chosen.cascade.models, notes=choice.notes,
        )  # fmt: skip
    router = prompt_router([row.to_prompt().text for row in rows], base, splits, case.max_loss, DELTA, seed)
    keep("router", router, "learned nothing" not in router.note, note=router.note)
    pair = best_pair(base, splits, guarantee, seed)
    keep("best_pair", pair, "no pair was certified" not in pair.note, note=pair.note)
    keep("oracle", oracle(base, list(base), test), True)
    return figures


def standard_error(values: "np.ndarray[Any, Any]") -> float | None:
    """Of the mean; None of a single value."""
    return round(float(values.std(ddof=1) / len(values) ** 0.5), 4) if len(values) > 1 else None


def line(figures: Sequence[dict[str, Any]], limit: float) -> dict[str, Any]:
    """The means of one way, and the share of the seeds whose mean loss on the test rows was above the limit."""
    cost, loss, certified = (np.array([f[key] for f in figures], np.float64) for key in ("cost", "loss", "certified"))
    return {
        "cost": round(float(cost.mean()), 4),
        "standard_error": standard_error(cost),
        "loss": round(float(loss.mean()), 4),
        "certified": round(float(certified.mean()), 3),
        "test_loss_above_limit": round(float((loss > limit).mean()), 3),
    }


def main() -> int:
    """Prints the figures and compares them with the targets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--cases", default="", help="measure the cases whose names contain one of these words")
    parser.add_argument(
        "--shift", action="store_true", help="measure tasks of which no row was seen, on the shipped recording"
    )
    parser.add_argument(
        "--pairs", action="store_true", help="fit on one task and measure each of the others, on the shipped recording"
    )
    parser.add_argument("--range", action="store_true", help="measure which prompts count as unlike a recording")
    parser.add_argument("--task-tags", action="store_true", help="the rows' tasks are a feature of their prompts")
    parser.add_argument("--store", type=Path, help="keep each seed's figures in this folder, and read those that are there")
    parser.add_argument("-v", action="store_true", help="print every choice to standard error")
    args = parser.parse_args()
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    figures: dict[str, Any] = {}
    if args.range:
        figures = ranges(seeds)
        print(json.dumps({"prompts": {"range": figures}}))
        return 0 if figures["ok"] else 1
    if args.pairs:
        both = [asyncio.run(pairs(CASES["shipped"], seeds, max_loss=loss, delta=0.5)) for loss in (0.1, 0.2)]
        print(json.dumps({"prompts": {"pairs": both}}, indent=1))
        return 0 if all(each["ok"] for each in both) else 1
    if args.shift:
        figures = asyncio.run(shifted(CASES["shipped"], seeds))
        print(json.dumps({"prompts": {"shifted": figures}, "delta": DELTA}))
        return 0 if figures["ok"] else 1
    for name, case in CASES.items():
        if any(word in name for word in args.cases.split(",")):
            if case.path.is_file():
                figures[name] = asyncio.run(measure(name, case, seeds, task_tags=args.task_tags, store=args.store))
            else:
                figures[name] = {"skipped": case.path.name}
            print(f"{name}: {json.dumps(figures[name])}", file=sys.stderr, flush=True)
    print(json.dumps({"prompts": figures, "delta": DELTA}))
    return 0 if all(each.get("ok", True) for each in figures.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
