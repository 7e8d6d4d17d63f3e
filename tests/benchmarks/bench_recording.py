"""Reading a recording of a million examples: rate and memory of ``show``; one line of JSON."""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from time import process_time

TARGET_PER_S = 50_000
GROWTH_MB = 150  # for a million ids, kept to find one that stands twice


def write_recording(path: Path, rows: int) -> None:
    """A recording with three models' answers an example."""
    answer = {"quality": 1.0, "cost_usd": 0.00012, "latency_s": 0.41, "logprob": -0.12}
    with path.open("w", encoding="utf-8") as file:
        for i in range(rows):
            answers = {m: {"text": f"The answer is {i}.", **answer} for m in ("small", "medium", "large")}
            file.write(
                json.dumps({"id": f"row-{i}", "task": f"t{i % 7}", "prompt": f"What is {i}?", "answers": answers}) + "\n"
            )


def child(path: str) -> None:
    """In a process of its own: CPU seconds and peak memory of one ``show``."""
    from evals.recording import read
    from evals.recording.summary import summary

    before = process_time()
    counts = summary(read(path))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"examples": counts["examples"], "cpu_s": process_time() - before, "peak_mb": peak}))


def main() -> int:
    """Prints the figures; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--child")
    args = parser.parse_args()
    if args.child:
        child(args.child)
        return 0
    figures: dict[str, object] = {"benchmark": "recording"}
    peaks = []
    rate = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for rows in (args.rows // 20, args.rows):
            path = Path(folder, f"{rows}.jsonl")
            write_recording(path, rows)
            done = subprocess.run(
                [sys.executable, __file__, "--child", str(path)], capture_output=True, text=True, check=True
            )
            results = json.loads(done.stdout)
            rate = rows / results["cpu_s"]
            peaks.append(results["peak_mb"])
            figures[f"rows_{rows}"] = {
                "per_cpu_second": round(rate),
                "peak_mb": round(results["peak_mb"], 1),
                "file_mb": round(path.stat().st_size / 1e6),
            }
    growth = peaks[1] - peaks[0]
    ok = rate >= TARGET_PER_S and growth <= GROWTH_MB
    print(json.dumps({**figures, "growth_mb": round(growth, 1), "target_per_s": TARGET_PER_S, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
