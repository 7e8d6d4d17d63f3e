"""Scoring rows by two workers of Ray against one process: seconds, CPU seconds, equality; prints JSON.

The rows are made, and Ray is started, before the clock starts: a replay starts it once. Both sides score a part of the rows
in turn, so that what else the machine does is in both. ``ratio`` is that of all seconds on the clock, which says something
on a machine with nothing else to do; ``ratio_with_start`` counts Ray's start and its workers' imports, too. ``cpu_ratio`` is
what two cores of such a machine allow: twice one process's CPU seconds by the CPU seconds of this process and all of Ray's,
the median of the parts. The first counts where the machine is calm as the benchmark begins, the last elsewhere.

``--rows 1000000`` is the claim of the documentation; the default is for a look. ``--parquet-rows N`` streams a score table
of N rows from a Parquet file as well, with the peak memory of a worker.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np

from evals.engines import Engine, open_engine
from evals.recording import Example
from evals.replay.on_engine import load_or_score
from evals.replay.parquet_tally import tally_parquet
from evals.replay.score_table import ARRAYS
from tests.benchmarks.bench_frontier import columns_of, cuts_of, write_parquet
from tests.evals.engines.rows import row
from tests.machine import CALM, idle_share

TARGET, PARTS = 1.7, 8
RULES: list[dict[str, Any]] = [{"use": "rules"}, {"use": "logprob"}]


def examples(n: int) -> list[Example]:
    """Rows with one model's answers."""
    made_rows = (row(i) for i in range(n))
    return [
        Example(id=r["id"], prompt=r["prompt"], answers={"small": r["answers"]["small"]}, task=r["task"]) for r in made_rows
    ]


def cpu_s() -> float:
    """CPU seconds of this process and of everything below it."""
    ticks, parents = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            process = int(folder.name)
            parents[process], ticks[process] = int(fields[1]), sum(map(int, fields[11:15]))

    def is_below(process: int) -> bool:
        while process in parents and process != os.getpid():
            process = parents[process]
        return process == os.getpid()

    return sum(n for process, n in ticks.items() if is_below(process)) / os.sysconf("SC_CLK_TCK")


def measured(rows: list[Example], engine: Engine | None) -> tuple[Any, dict[str, float]]:
    """The scores, and what they took; Ray's processes, which are idle meanwhile, are no cost of one process."""
    cpu_now = process_time if engine is None else cpu_s
    start, cpu = perf_counter(), cpu_now()
    scores = asyncio.run(load_or_score(rows, "small", RULES, engine=engine))
    return scores, {"s": perf_counter() - start, "cpu_s": cpu_now() - cpu}


def parquet(n: int, engine: Engine) -> dict[str, Any]:
    """A score table of three tiers, streamed by one process and by the workers."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/rows.parquet"
        write_parquet(path, n)
        cuts = cuts_of(columns_of(100_000))
        surfaces, times = [], []
        for chosen in (None, engine):
            start, cpu = perf_counter(), cpu_s()
            surfaces.append(tally_parquet(path, cuts, engine=chosen).surface())
            times.append({"s": round(perf_counter() - start, 2), "cpu_s": round(cpu_s() - cpu, 2)})
    equal = surfaces[0].quality.tobytes() == surfaces[1].quality.tobytes()
    equal &= surfaces[0].cost.tobytes() == surfaces[1].cost.tobytes()
    return {"rows": n, "one_process": times[0], "two_workers": times[1], "equal": equal, "worker_peak_mb": worker_peak_mb()}


def worker_peak_mb() -> float:
    """The highest resident memory of a worker in MB."""
    peaks = [0.0]
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, StopIteration):
            if (folder / "cmdline").read_bytes().startswith(b"ray::"):
                lines = (folder / "status").read_text().splitlines()
                peaks.append(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024)
    return round(max(peaks))


def main() -> int:
    """One line of JSON; fails where results differ, or where a machine with nothing else to do misses the target."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=40_000, metavar="N")
    parser.add_argument("--parquet-rows", type=int, default=0, metavar="N")
    args = parser.parse_args()
    if find_spec("ray") is None:
        print(json.dumps({"ray": {"skipped": "Ray is not installed"}}))
        return 0
    idle = idle_share()
    rows, calm = examples(args.rows), idle > CALM
    ones, twos, equal = [], [], True
    result: dict[str, Any] = {"rows": args.rows, "cores": os.cpu_count(), "idle": round(idle, 2)}
    began = perf_counter()
    with open_engine("ray", workers=2) as engine:
        assert engine is not None
        measured(rows[:8_000], engine)  # the workers start and import
        start_s = perf_counter() - began
        size = -(-len(rows) // PARTS)
        for first in range(0, len(rows), size):
            part = rows[first : first + size]
            (alone, one), (together, two) = measured(part, None), measured(part, engine)
            ones.append(one)
            twos.append(two)
            equal &= all(np.array_equal(getattr(alone, n), getattr(together, n), equal_nan=n in FLOATS) for n in ARRAYS)
        if args.parquet_rows:
            result["parquet"] = parquet(args.parquet_rows, engine)
    one, two = ({name: sum(part[name] for part in parts) for name in ("s", "cpu_s")} for parts in (ones, twos))
    by_cpu = [2 * alone["cpu_s"] / together["cpu_s"] for alone, together in zip(ones, twos, strict=True)]
    result |= {
        "one_process": {name: round(value, 2) for name, value in one.items()},
        "two_workers": {name: round(value, 2) for name, value in two.items()},
        "equal": equal,
        "ratio": round(one["s"] / two["s"], 2),
        "start_s": round(start_s, 1),
        "ratio_with_start": round(one["s"] / (two["s"] + start_s), 2),
        "cpu_ratio": round(statistics.median(by_cpu), 2),
        "cpu_ratios": [round(min(by_cpu), 2), round(max(by_cpu), 2)],
        "target": TARGET,
    }
    result["ok"] = equal and result["ratio" if calm else "cpu_ratio"] >= TARGET
    print(json.dumps({"ray": result}))
    return 0 if result["ok"] else 1


FLOATS = ("scores", "quality", "cost_usd", "latency_s")

if __name__ == "__main__":
    sys.exit(main())
