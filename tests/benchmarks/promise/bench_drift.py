"""Is a stream that turns into another task noticed, without labels, and a healthy one left alone? Prints one line of JSON.

A cascade of two recorded models is run over half of mmlu, which is its profile; the other half is healthy traffic; then
another task comes. All checks that run in service take part: prompts, confidences, tiers, escalations, refusals, latency,
cost. Reads the recordings in $CASCADE_RECORDINGS, by default ../shared/recordings beside the checkout; fails where a target
is missed.
"""

import argparse
import json
import os
import random
import sys
from collections.abc import Sequence
from math import exp
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from cascade.promise.drift import form_features, text_of
from cascade.promise.traffic import DriftState, TrafficProfile, TrafficTracker
from cascade.promise.traffic_events import TrafficRun
from evals.recording import Example, read

HOME = Path(os.environ.get("CASCADE_RECORDINGS") or Path(__file__).parents[4] / "shared" / "recordings")
CHEAP, PREMIUM = "llama3.1-8b", "llama3.1-405b"
ALPHA, THRESHOLD, MOST_RUNS = 0.05, 0.6, 500
TIERS = ("cheap", "premium")


def runs_of(name: str) -> list[TrafficRun]:
    """What the cascade of the two models does with each example of a recording."""
    return [_run(row) for row in read(HOME / f"{name}.jsonl.gz") if CHEAP in row.answers and PREMIUM in row.answers]


def _run(row: Example) -> TrafficRun:
    cheap, premium = row.answers[CHEAP], row.answers[PREMIUM]
    logprob = cheap.get("logprob")
    confidence = exp(logprob) if logprob is not None else float(next(iter(cheap["verdicts"].values())))
    answers = [cheap] if confidence >= THRESHOLD else [cheap, premium]
    latencies, costs = [a.get("latency_s") for a in answers], [a.get("cost_usd") for a in answers]
    return TrafficRun(
        form=form_features(text_of(row.to_prompt().messages)),
        confidence=confidence,
        tier=len(answers) - 1,
        escalated=len(answers) > 1,
        refused=False,
        latency_s=None if None in latencies else sum(latencies),
        cost_usd=None if None in costs else sum(costs),
    )


def drifted(tracker: TrafficTracker) -> list[str]:
    """The checks that show a drift."""
    return [check.name for check in tracker.results() if check.state is DriftState.DRIFTED]


def stream(healthy: Sequence[TrafficRun], other: Sequence[TrafficRun], seed: int) -> tuple[bool, int | None, list[str]]:
    """Whether there was an alarm before the turn, else the runs until one after it, and by which checks."""
    rng = random.Random(seed)
    rows = list(healthy)
    rng.shuffle(rows)
    half = len(rows) // 2
    lines = [run.to_line() for run in rows[:half]]
    tracker = TrafficTracker(TrafficProfile.from_lines(lines), TIERS, ALPHA, seed=seed)
    for run in rows[half:]:
        tracker.add(run)
    if drifted(tracker):
        return True, None, drifted(tracker)
    for n in range(1, MOST_RUNS + 1):
        tracker.add(rng.choice(other))
        if checks := drifted(tracker):
            return False, n, checks
    return False, None, []


def clean(healthy: Sequence[TrafficRun], seed: int, runs: int) -> bool:
    """Whether a long stream that is drawn like the profile, from the same source, ever alarms."""
    rng = random.Random(seed)
    profile = TrafficProfile.from_lines([rng.choice(healthy).to_line() for _ in range(900)])
    tracker = TrafficTracker(profile, TIERS, ALPHA, seed=seed)
    for _ in range(runs):
        tracker.add(rng.choice(healthy))
    return bool(drifted(tracker))


def main() -> int:
    """Measures and compares with the targets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=40, help="streams for each task that follows (default 40)")
    parser.add_argument("--clean", type=int, default=60, help="streams without a turn (default 60)")
    parser.add_argument("--runs", type=int, default=5_000, help="runs of each of those (default 5000)")
    args = parser.parse_args()
    if not (HOME / "mmlu.jsonl.gz").is_file():
        print(json.dumps({"drift": {"recordings": f"left out: {HOME} has none"}}))
        return 0
    begin, mmlu = perf_counter(), runs_of("mmlu")
    results: dict[str, Any] = {}
    ok: dict[str, bool] = {}
    early = total = 0
    for name in ("triviaqa", "gsm8k"):
        other = runs_of(name)
        outcomes = [stream(mmlu, other, seed) for seed in range(args.streams)]
        delays = [n for was_early, n, _ in outcomes if not was_early]
        early, total = early + sum(was_early for was_early, _, _ in outcomes), total + len(outcomes)
        seen = [n for n in delays if n is not None]
        first: dict[str, int] = {}
        for _, n, checks in outcomes:
            for check in checks if n is not None else ():
                first[check] = first.get(check, 0) + 1
        results[name] = {"median_runs": median(seen), "max_runs": max(seen), "missed": delays.count(None), "first": first}
        ok[name] = None not in delays
    alarms = sum(clean(mmlu, seed, args.runs) for seed in range(args.clean))
    results["alarms_before_the_turn"] = {"alarms": early, "streams": total}
    results["clean"] = {"alarms": alarms, "streams": args.clean, "runs": args.runs}
    ok["false_alarms"] = early <= ALPHA * total and alarms <= ALPHA * args.clean
    results["seconds"] = round(perf_counter() - begin, 1)
    print(json.dumps({"drift": {**results, "alpha": ALPHA, "ok": ok}}))
    return 0 if all(ok.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
