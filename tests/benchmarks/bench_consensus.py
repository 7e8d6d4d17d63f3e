"""What a consensus of cheap models saves on gsm8k-zeroeval at 2 points, beside ladders without it and premium alone.

Means of 20 seeds; ``--seeds N`` takes fewer; ``--sonnet`` measures the longer ladder that ends in claude-3-5-sonnet. Prints
JSON; exits with 1 where a target is missed.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evals.recording import read
from evals.replay.certificate.certified_choice import choose_certified
from evals.replay.certificate.guarantee import Guarantee
from evals.replay.evidence.consensus import with_consensus
from evals.replay.rows.input_rows import Rules, judge_plans, prompt_key, usable_rows
from evals.replay.rows.splits import halves
from evals.replay.score_table import Cache, TierScores, load_or_score, sha256_of

CHEAP = ["gemini-1.5-flash", "gpt-4o-mini-2024-07-18", "Meta-Llama-3.1-8B-Instruct", "claude-3-haiku-20240307"]
GPT = [*CHEAP, "gpt-4o-2024-08-06"]
SONNET = [
    "Meta-Llama-3.1-8B-Instruct", "Qwen2-7B-Instruct", "gemma-2-9b-it", "gemini-1.5-flash", "gpt-4o-mini-2024-07-18",
    "Meta-Llama-3.1-70B-Instruct", "claude-3-haiku-20240307", "claude-3-5-haiku-20241022", "claude-3-5-sonnet-20241022",
]  # fmt: skip
LIMIT, DELTA = 0.02, 0.1


async def measure(path: Path, tiers: Sequence[str], seeds: int, target: float) -> dict[str, Any]:
    """Cost, loss and certificates on the test rows, with a consensus and without."""
    rows, _, _ = usable_rows(list(read(path)), tiers)
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache(Path(folder) / "x", sha256_of(path))

        async def score(model: str, rules: Rules) -> TierScores:
            return await load_or_score(rows, model, rules, cache)

        base = {tier: [await score(tier, rules) for rules in judge_plans(rows, tier)] for tier in tiers}
        premium = base[tiers[-1]][0]
        results: dict[str, list[tuple[float, float, bool]]] = {"consensus": [], "without": []}
        for seed in range(seeds):
            splits = halves([e.task for e in rows], seed, groups=[prompt_key(e) for e in rows])
            extended = await with_consensus(base, splits.fit, [LIMIT], len(splits.certify), score)
            for name, columns in (("consensus", extended), ("without", base)):
                choice = choose_certified(columns, splits, Guarantee("max_loss", LIMIT, DELTA), seed=seed)
                outcome, test = choice.chosen.outcome(splits.test), splits.test
                cost = float(outcome.cost_usd.mean() / premium.cost_usd[test, 0].mean())
                loss = float((premium.quality[test, 0] - outcome.quality).mean())
                results[name].append((cost, loss, bool(choice.certificate["certified"])))
    lines = {name: _line(values) for name, values in results.items()}
    ok = lines["consensus"]["cost"] <= target and lines["consensus"]["certified"] >= 0.9
    return {
        "tiers": list(tiers), "rows": len(rows), "seeds": seeds, "max_loss": LIMIT, "delta": DELTA, **lines,
        "premium alone": {"cost": 1.0, "loss": 0.0, "certified": 1.0}, "target_cost": target, "ok": ok,
    }  # fmt: skip


def _line(values: Sequence[tuple[float, float, bool]]) -> dict[str, float]:
    cost, loss, certified = (np.array(column, dtype=np.float64) for column in zip(*values, strict=True))
    return {
        "cost": round(float(cost.mean()), 4),
        "cost_standard_error": round(float(cost.std(ddof=1) / len(cost) ** 0.5), 4) if len(cost) > 1 else float("nan"),
        "worst_cost": round(float(cost.max()), 4),
        "loss": round(float(loss.mean()), 4),
        "certified": float(certified.mean()),
        "test_loss_above_limit": float((loss > LIMIT).mean()),
    }


def main() -> int:
    """Prints the figures and compares them with the targets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--sonnet", action="store_true")
    args = parser.parse_args()
    path = Path(os.environ.get("CASCADE_RECORDINGS", "../shared/recordings")) / "gsm8k-zeroeval.jsonl.gz"
    if not path.is_file():
        print(json.dumps({"consensus": {"skipped": f"{path.name} is not there; set CASCADE_RECORDINGS"}}))
        return 0
    tiers, target = (SONNET, 0.20) if args.sonnet else (GPT, 0.22)
    figures = asyncio.run(measure(path, tiers, args.seeds, target))
    print(json.dumps({"consensus": figures}))
    return 0 if figures["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
