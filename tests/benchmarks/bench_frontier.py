"""Time and memory of the frontier kernel: 3 tiers, 1,000 cut points a tier; prints JSON, fails where a target is missed.

Each measurement runs in a process of its own on one thread, so that its peak memory is its own. Inputs are float32 columns
made before the clock starts; what is timed is binning, sums, surface and Pareto points of the 10^6 threshold vectors.
`--parquet-rows N` writes N rows to a temporary file and streams them back, from the page cache where that is large enough
(100,000,000 rows take about 3 GB of disk).
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import perf_counter

import numpy as np

from evals.replay.parquet_tally import tally_parquet
from evals.replay.threshold_sweep import Surface, Tally, TierColumns, cut_points, pareto, sweep_surface

CUTS = 1000
# Rows in memory: (seconds, MB of the whole process, inputs included).
TARGETS = {1_000_000: (0.5, 400), 10_000_000: (2.5, 1000)}
PARQUET_TARGETS = (120.0, 4000)
DIRECT_ROWS, DIRECT_VECTORS = 10_000, 2000


def memory_mb(key: str) -> float:
    """Resident memory of this process in MB: VmRSS now, VmHWM at its highest; the highest of all where /proc is missing."""
    with suppress(OSError), open("/proc/self/status") as status:
        return next(int(result_row.split()[1]) for result_row in status if result_row.startswith(key)) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def forget_peak() -> None:
    """Sets VmHWM back to what is resident now, so that making the input does not count."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def columns_of(n: int, seed: int = 0, block: int = 1_000_000) -> list[TierColumns]:
    """Rows of three tiers: confidences crowded near 1, in tier 2 a tenth of them on 11 tied values, and 5 % vetoes."""
    columns = [[np.empty(n, np.float32) for _ in range(3)] for _ in range(3)]
    for start in range(0, n, block):
        rows = slice(start, min(n, start + block))
        size = rows.stop - start
        r = np.random.default_rng((seed, start))
        for tier, (confidence, quality, cost) in enumerate(columns):
            p = (1 / (1 + np.exp(-1.5 - 1.5 * r.standard_normal(size, dtype=np.float32)))).astype(np.float32)
            quality[rows] = r.random(size, dtype=np.float32) ** (1 - p)
            if tier == 1:
                p = np.where(r.random(size, dtype=np.float32) < 0.1, np.round(p, 1), p)
            p[r.random(size, dtype=np.float32) < 0.05] = -np.inf
            confidence[rows] = p
            cost[rows] = r.random(size, dtype=np.float32) * np.float32(1e-4 * 5**tier)
    columns[-1][0] = np.empty(0, np.float32)
    return [TierColumns(*each) for each in columns]


def cuts_of(columns: list[TierColumns]) -> list[np.ndarray]:
    """1,000 cut points a tier: quantiles of the first rows for tier 1, an even grid for tier 2."""
    return [cut_points(np.asarray(columns[0].confidence)[:100_000], CUTS), np.linspace(0, 1, CUTS)]


def in_memory(n: int) -> dict[str, float]:
    """Seconds from arrays to Pareto points, and peak memory."""
    columns = columns_of(n)
    cuts = cuts_of(columns)
    sweep_surface(
        [TierColumns(*(np.asarray(part)[:1000] for part in (r.confidence, r.quality, r.cost))) for r in columns], cuts
    )
    forget_peak()
    before = memory_mb("VmRSS")
    start = perf_counter()
    result = sweep_surface(columns, cuts)
    counted = perf_counter()
    front = pareto(result.quality, result.cost)
    done = perf_counter()
    return {
        "surface_s": round(counted - start, 3),
        "pareto_s": round(done - counted, 3),
        "s": round(done - start, 3),
        "peak_mb": round(memory_mb("VmHWM")),
        "peak_mb_above_input": round(memory_mb("VmHWM") - before),
        "vectors": result.quality.size,
        "front": front.size,
    }


def direct(columns: list[TierColumns], result: Surface, flats: np.ndarray) -> Iterator[tuple[float, float]]:
    """Mean quality and cost of some vectors, each by routing every row."""
    p1, p2 = (np.asarray(rung.confidence, np.float64) for rung in columns[:-1])
    q = [np.asarray(rung.quality, np.float64) for rung in columns]
    c = np.cumsum([np.asarray(rung.cost, np.float64) for rung in columns], axis=0)
    for flat in flats:
        first, second = result.thresholds(int(flat))
        one, two = p1 >= first, p2 >= second
        quality = np.where(one, q[0], np.where(two, q[1], q[2]))
        cost = np.where(one, c[0], np.where(two, c[1], c[2]))
        yield float(quality.mean()), float(cost.mean())


def against_direct() -> dict[str, float]:
    """Largest difference from direct evaluation of a random sample of vectors, and the ratio of times for all vectors."""
    # Thirds fill the float64, so that sums round; sums of few float32 would be exact in any order.
    thirds = [
        (r.confidence, np.asarray(r.quality, np.float64) / 3, np.asarray(r.cost, np.float64) / 3)
        for r in columns_of(DIRECT_ROWS)
    ]
    columns = [TierColumns(*each) for each in thirds]
    cuts = cuts_of(columns)
    sweep_surface(columns, cuts)
    start = perf_counter()
    result = sweep_surface(columns, cuts)
    kernel_s = perf_counter() - start
    flats = np.random.default_rng(2).choice(result.quality.size, DIRECT_VECTORS, replace=False)
    start = perf_counter()
    means = np.array(list(direct(columns, result, flats)))
    each_s = (perf_counter() - start) / DIRECT_VECTORS
    points = np.stack([result.quality.flat[flats], result.cost.flat[flats]], axis=1)
    return {
        "rows": DIRECT_ROWS,
        "sampled_vectors": DIRECT_VECTORS,
        "largest_difference": float(np.abs(points - means).max()),
        "kernel_s": round(kernel_s, 4),
        "direct_s_extrapolated": round(each_s * result.quality.size, 1),
        "times_faster": round(each_s * result.quality.size / kernel_s),
    }


def write_parquet(path: str, n: int, block: int = 1_000_000) -> None:
    """Writes the rows, one row group a block, so that the file may be larger than memory."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [f"{letter}{tier}" for tier in (1, 2, 3) for letter in "pqc" if (letter, tier) != ("p", 3)]
    with pq.ParquetWriter(path, pa.schema([(name, pa.float32()) for name in names])) as file:
        for start in range(0, n, block):
            columns = columns_of(min(block, n - start), seed=start)
            columns = [part for r in columns for part in (r.confidence, r.quality, r.cost) if np.size(part)]
            file.write_table(pa.table(columns, names=names))


def from_file(path: str) -> dict[str, float]:
    """Seconds from the file to Pareto points, and peak memory."""
    cuts = cuts_of(columns_of(100_000))
    forget_peak()
    start = perf_counter()
    tally: Tally = tally_parquet(path, cuts)
    result = tally.surface()
    front = pareto(result.quality, result.cost)
    return {
        "s": round(perf_counter() - start, 2),
        "peak_mb": round(memory_mb("VmHWM")),
        "rows": result.n,
        "front": front.size,
    }


def alone(*arguments: object) -> dict[str, float]:
    """Runs one measurement in a fresh single-threaded process."""
    env = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, check=True, env=env, stdout=subprocess.PIPE, text=True)
    result: dict[str, float] = json.loads(done.stdout or "{}")
    return result


def main() -> int:
    """Runs every measurement; the hidden options are the processes that it starts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--parquet-rows", type=int, default=0, metavar="N", help="also stream N rows from Parquet")
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--direct", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--write", help=argparse.SUPPRESS)
    parser.add_argument("--read", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.memory:
        print(json.dumps(in_memory(chosen.memory)))
    elif chosen.direct:
        print(json.dumps(against_direct()))
    elif chosen.write:
        write_parquet(chosen.write, chosen.parquet_rows)
    elif chosen.read:
        print(json.dumps(from_file(chosen.read)))
    else:
        return measure(chosen.parquet_rows)
    return 0


def measure(parquet_rows: int) -> int:
    """The one line of JSON."""
    result: dict[str, object] = {"tiers": 3, "cuts_a_tier": CUTS, "input": "float32 columns"}
    ok = True
    seconds = {}
    for n, (most_s, most_mb) in TARGETS.items():
        measured = alone("--memory", n)
        seconds[n] = measured["surface_s"]
        met = measured["s"] <= most_s and measured["peak_mb"] <= most_mb
        result[f"rows_{n}"] = measured | {"target_s": most_s, "target_mb": most_mb, "ok": met}
        ok &= met
    result["times_slower_with_10_times_the_rows"] = round(seconds[10_000_000] / seconds[1_000_000], 1)
    compared = alone("--direct")
    met = compared["largest_difference"] <= 1e-9
    result["direct"] = compared | {"target_difference": 1e-9, "ok": met}
    ok &= met
    if parquet_rows:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.parquet"
            alone("--write", path, "--parquet-rows", parquet_rows)
            measured = alone("--read", path) | {"file_mb": round(path.stat().st_size / 2**20)}
        met = measured["s"] <= PARQUET_TARGETS[0] and measured["peak_mb"] <= PARQUET_TARGETS[1]
        result["parquet"] = measured | {"target_s": PARQUET_TARGETS[0], "target_mb": PARQUET_TARGETS[1], "ok": met}
        ok &= met
    print(json.dumps({"frontier": result | {"ok": ok}}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
