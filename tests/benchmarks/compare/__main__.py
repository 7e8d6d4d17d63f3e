"""Other people's routers and cascades beside ours: the same rows, the same promise, random halves; prints tables.

``make compare`` installs the peers and runs this. Everything is learned on one half of the rows and measured on the other;
a way that keeps the promise in fewer than nine tenths of the halves has not kept it. The shipped recording is always there;
the others need the folder CASCADE_RECORDINGS.
"""

import argparse
import asyncio
import importlib.metadata
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from evals.replay.rows.input_rows import prompt_key
from evals.replay.rows.splits import halves
from tests.benchmarks.routing.bench_prompts import LLAMAS, RECORDINGS, STARTER

from .ours import OURS
from .peers import PEERS
from .rows import Peer, Promise, Table, load

CHEAP = ("Meta-Llama-3.1-8B-Instruct", "gemini-1.5-flash", "gpt-4o-mini-2024-07-18", "claude-3-haiku-20240307")
PACKAGES = ("cascadeflow", "ucci-router", "bargain", "cre-router", "routellm")


@dataclass(frozen=True, slots=True)
class Case:
    """A recording, its models (the premium one last; empty for all of them), and the promise."""

    name: str
    path: Path
    models: Sequence[str]
    max_loss: float


CASES = (
    Case("shipped recording", STARTER, (), 0.10),
    Case("mmlu", RECORDINGS / "mmlu.jsonl.gz", ("gpt-4o-mini", "qwen2.5-72b-instruct", "gpt-4o"), 0.03),
    Case("triviaqa", RECORDINGS / "triviaqa.jsonl.gz", LLAMAS, 0.03),
    Case("date", RECORDINGS / "date.jsonl.gz", ("gpt-3.5:pot2_t=0.8", "gpt-4:cot1"), 0.05),
    Case("gsm8k-zeroeval", RECORDINGS / "gsm8k-zeroeval.jsonl.gz", (*CHEAP, "gpt-4o-2024-08-06"), 0.02),
)


def installed() -> tuple[list[Peer], dict[str, str]]:
    """The peers that can run here, and why the others cannot."""
    peers: list[Peer] = list(OURS)
    missing: dict[str, str] = {}
    for name, make in PEERS.items():
        try:
            peers.append(make())
        except (ImportError, OSError) as error:
            missing[name] = str(error).splitlines()[0]
    return peers, missing


def compare(table: Table, peers: Sequence[Peer], promise: Promise, seeds: int) -> list[dict[str, Any]]:
    """One line for each way: means over the halves, and in how many of them the test rows lost more than was promised."""
    lines = []
    for peer in peers:
        ratios, losses, errors, seconds, choices = [], [], [], [], []
        for seed in range(seeds):
            splits = halves([e.task for e in table.examples], seed, groups=[prompt_key(e) for e in table.examples])
            started = perf_counter()
            outcome = peer.answer(table, splits, promise, seed)
            seconds.append(perf_counter() - started)
            best = table.quality[splits.test, table.premium]
            lost = best - outcome.quality
            ratios.append(float(outcome.usd.mean() / table.usd[splits.test, table.premium].mean()))
            losses.append(float(lost.mean()))
            errors.append(float(lost.std(ddof=1) / len(lost) ** 0.5))
            choices.append(outcome.choice)
        loss, error, mean = np.array(losses), np.array(errors), float(np.mean(ratios))
        spread = 1.96 * float(np.std(ratios, ddof=1)) / seeds**0.5 if seeds > 1 else float("nan")
        lines.append(
            {
                "name": peer.name,
                "note": peer.note,
                "cost": round(mean, 3),
                "interval_95": [round(mean - spread, 3), round(mean + spread, 3)],
                "loss": round(float(loss.mean()), 4),
                "violations": int((loss > promise.max_loss).sum()),
                "beyond_error": int((loss > promise.max_loss + 1.645 * error).sum()),
                "seconds": round(float(np.mean(seconds)), 2),
                "for_example": choices[0],
            }
        )
        print(f"  {peer.name}: {json.dumps(lines[-1])}", file=sys.stderr, flush=True)
    return lines


def markdown(case: Case, n: int, lines: Sequence[dict[str, Any]], seeds: int) -> str:
    """The table of one recording, cheapest first; bold where the promise was kept as often as promised."""
    text = [
        f"**{case.name}**: {n} rows, at most {100 * case.max_loss:g} points below the premium model, {seeds} halves",
        "",
        "| way | cost of premium's | 95 % interval | points lost | halves that lost more | beyond chance |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for line in sorted(lines, key=lambda each: float(each["cost"])):
        low, high = line["interval_95"]
        name = f"**{line['name']}**" if line["violations"] <= seeds / 10 else line["name"]
        text.append(
            f"| {name} | {line['cost']:.3f} | {low:.3f} to {high:.3f} | {100 * line['loss']:.1f} "
            f"| {line['violations']} of {seeds} | {line['beyond_error']} |"
        )
    ours = next(each for each in lines if each["name"] == "cascade")
    won = [each for each in lines if each["violations"] <= seeds / 10 and each["cost"] < ours["cost"] and each is not ours]
    words = ", ".join(f"{each['name']} ({each['cost']:.3f})" for each in won) or "nothing"
    return "\n".join([*text, "", f"Cheaper than `cascade` ({ours['cost']:.3f}) with the promise kept: {words}."])


async def main() -> int:
    """Prints a table for each recording, the versions, and what could not be run."""
    parser = argparse.ArgumentParser(prog="make compare", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="random halves (20)")
    parser.add_argument("--cases", default="", help="only recordings whose names contain one of these words, by commas")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    args = parser.parse_args()
    peers, missing = installed()
    figures: dict[str, Any] = {"seeds": args.seeds, "not_run": missing, "versions": versions(), "cases": {}}
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            if not any(word in case.name for word in args.cases.split(",")):
                continue
            if not case.path.is_file():
                print(f"{case.name}: not at hand; set CASCADE_RECORDINGS\n")
                continue
            table = await load(case.path, case.models, Path(folder))
            lines = await asyncio.to_thread(compare, table, peers, Promise(max_loss=case.max_loss), args.seeds)
            figures["cases"][case.name] = {"rows": len(table.examples), "max_loss": case.max_loss, "lines": lines}
            print(markdown(case, len(table.examples), lines, args.seeds), end="\n\n", flush=True)
    print("Versions: " + ", ".join(f"{name} {version}" for name, version in figures["versions"].items()))
    for name, why in missing.items():
        print(f"Not run: {name}: {why}")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def versions() -> dict[str, str]:
    """Of the peers that are installed."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
