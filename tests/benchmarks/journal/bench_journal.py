"""What a journal adds to a run, how many records it sustains, how many runs `full` commits; JSON, fails on a missed target.

The disk is the machine's own: SQLite files in the temporary folder, fsync as it comes.
"""

import asyncio
import json
import statistics
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from cascade import Answer, Cascade, Policy, Prompt, ScriptedModel, Usage
from cascade.journal.journal import Journal
from cascade.journal.open_store import open_store
from cascade.journal.record import PendingRecord
from cascade.journal.store import SqlStore
from cascade.policy.journal_config import JournalSpec

SCHEMA = {"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"]}
GOOD = Answer('{"answer": 42}', mean_logprob=-0.01, finish_reason="stop", cost_usd=1e-5, usage=Usage(100, 10))
PROMPT = Prompt.of("What is 6 * 7? Reply in JSON.", schema=SCHEMA)
ROUNDS, RUNS = 15, 2_000
RECORDS = 60_000
FULL_RUNS, AT_ONCE = 6_000, 200


def make(journal: Any = None) -> Cascade:
    """One tier with the schema and rules judges, as in bench_overhead."""
    tier = {"name": "t", "model": "m", "accept_at": 0.0, "judges": ["schema", "rules"]}
    model = ScriptedModel("m", [GOOD], keep_calls=False)
    return Cascade(Policy.model_validate({"tiers": [tier]}), models={"m": model}, journal=journal)


def journal_of(cascade: Cascade) -> Journal:
    """The cascade's journal."""
    assert cascade._journal is not None
    return cascade._journal


async def per_run_us(cascade: Cascade) -> tuple[float, float]:
    """Microseconds of one run, by the clock and by the CPU of all threads, the mean of RUNS, all written at the end."""
    cpu, start = process_time(), perf_counter()
    for _ in range(RUNS):
        await cascade.arun(PROMPT)
    if cascade._journal is not None:
        cascade._journal.flush()
    return (perf_counter() - start) / RUNS * 1e6, (process_time() - cpu) / RUNS * 1e6


async def added(url: str) -> dict[str, float]:
    """What the journal adds where runs follow each other without a pause, from interleaved rounds.

    Of each side the fastest round counts: whatever else the machine does can only add to it. ``added_us`` is CPU, the
    writer's included, which an idle second core would take off the clock's.
    """
    bare, journaled = [], []
    async with make() as without, make(url) as with_one:
        for cascade in (without, with_one):
            await per_run_us(cascade)
        for _ in range(ROUNDS):
            bare.append(await per_run_us(without))
            journaled.append(await per_run_us(with_one))
    (bare_us, bare_cpu), (kept_us, kept_cpu) = (map(min, zip(*side, strict=True)) for side in (bare, journaled))
    return {
        "without_us": bare_us,
        "batched_us": kept_us,
        "added_us": kept_cpu - bare_cpu,
        "added_clock_us": kept_us - bare_us,
        "added_clock_median_us": statistics.median(k[0] - b[0] for k, b in zip(journaled, bare, strict=True)),
        "ratio": kept_us / bare_us,
    }


async def paced(journal: str | None) -> list[float]:
    """Microseconds of each of 2,000 runs that come one a millisecond, as in a service: what its callers feel."""
    took = []
    async with make(journal) as cascade:
        await cascade.arun(PROMPT)
        for _ in range(2_000):
            await asyncio.sleep(0.001)
            start = perf_counter()
            await cascade.arun(PROMPT)
            took.append((perf_counter() - start) * 1e6)
    return sorted(took)


async def sustained(url: str) -> dict[str, float]:
    """Records a second where runs end as fast as a loop can end them, till all are committed; their CPU, all threads."""
    async with make(url) as cascade:
        result = await cascade.arun(PROMPT)
        journal, ladder = journal_of(cascade), cascade._runtime.compile("default")
        journal.flush()
        began, cpu = perf_counter(), process_time()
        for _ in range(RECORDS):
            run: PendingRecord = journal.begin("run", "default", ladder, PROMPT)
            run.attempts.extend(result.attempts)
            await journal.end(run, result)
        journal.flush()
        took, cpu = perf_counter() - began, process_time() - cpu
    store: SqlStore = open_store(url, create=False)
    assert store.execute("SELECT COUNT(*) FROM cascade_runs") == [(RECORDS + 1,)]
    store.close()
    return {"records_per_s": RECORDS / took, "cpu_us_a_record": cpu / RECORDS * 1e6}


async def full(url: str) -> float:
    """Runs a second with `full`, AT_ONCE at a time."""
    async with make(JournalSpec.model_validate({"url": url, "durability": "full"})) as cascade:

        async def worker() -> None:
            for _ in range(FULL_RUNS // AT_ONCE):
                await cascade.arun(PROMPT)

        await cascade.arun(PROMPT)
        start = perf_counter()
        await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
        return FULL_RUNS / (perf_counter() - start)


async def measure(folder: Path) -> dict[str, float]:
    """Every figure, each in a journal of its own."""
    added_us = await added(f"sqlite:///{folder}/added.db")
    without, batched = await paced(None), await paced(f"sqlite:///{folder}/paced.db")
    for name, times in (("paced_without", without), ("paced_batched", batched)):
        added_us[f"{name}_p50_us"], added_us[f"{name}_p99_us"] = times[len(times) // 2], times[len(times) * 99 // 100]
    added_us["paced_added_us"] = added_us["paced_batched_p50_us"] - added_us["paced_without_p50_us"]
    added_us.update(await sustained(f"sqlite:///{folder}/sustained.db"))
    added_us["full_runs_per_s_at_200"] = await full(f"sqlite:///{folder}/full.db")
    return added_us


def main() -> int:
    """Measures and compares with the targets."""
    with tempfile.TemporaryDirectory() as folder:
        results = asyncio.run(measure(Path(folder)))
    targets = {"added_us": 40, "records_per_s": 10_000, "full_runs_per_s_at_200": 1_000}
    ok = {name: results[name] <= 40 if name == "added_us" else results[name] >= least for name, least in targets.items()}
    rounded = {k: round(v, 2) for k, v in results.items()}
    print(json.dumps({"journal": {**rounded, "targets": targets, "n": ROUNDS * RUNS, "ok": ok}}))
    return 0 if all(ok.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
