"""What a day's budget that processes share adds to a run, in SQLite, Redis and Postgres (where installed); JSON.

Two cascades with the same journal run in turn, one of them under a budget a day. Of each side the fastest round counts.
"""

import asyncio
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from cascade import Answer, Cascade, Prompt, ScriptedModel, Usage
from cascade.policy.schema import PolicyFile
from tests.redis_server import RedisServer, missing

ROUNDS, RUNS = 9, 1_000
TARGET_US = 60
ANSWER = Answer("4", finish_reason="stop", usage=Usage(5, 10))
PROMPT = Prompt.of("What is 2 + 2?")


def make(url: str, budget: float | None, state: str | None = None) -> Cascade:
    """One tier, with or without a budget a day, which is kept in the journal or in a shared state."""
    policy: dict[str, Any] = {"tiers": [{"model": "m", "accept_at": 0.0, "judges": ["rules"]}]}
    if budget is not None:
        policy["budget_usd_per_day"] = budget
    price = {"input_per_mtok": 1, "output_per_mtok": 4}
    model = {"provider": "openai", "max_tokens": 100, "price": price}
    data = {"models": {"m": model}, "policies": {"default": policy}}
    if state is not None:
        data["state"] = {"url": state}
    file = PolicyFile.model_validate(data)
    return Cascade(file, models={"m": ScriptedModel("m", [ANSWER], keep_calls=False)}, journal=url)


async def per_run_us(cascade: Cascade) -> tuple[float, float]:
    """Microseconds of one run, by the clock and by the CPU of all threads."""
    cpu, start = process_time(), perf_counter()
    for _ in range(RUNS):
        await cascade.arun(PROMPT)
    return (perf_counter() - start) / RUNS * 1e6, (process_time() - cpu) / RUNS * 1e6


async def added(url: str, state: str | None = None) -> dict[str, float]:
    """What the budget adds, from interleaved rounds."""
    without, under = [], []
    async with make(url, None) as free, make(url, 1000.0, state) as bounded:
        for cascade in (free, bounded):
            await per_run_us(cascade)
        for _ in range(ROUNDS):
            without.append(await per_run_us(free))
            under.append(await per_run_us(bounded))
    (free_us, free_cpu), (bounded_us, bounded_cpu) = (map(min, zip(*side, strict=True)) for side in (without, under))
    return {
        "without_us": free_us,
        "under_a_budget_us": bounded_us,
        "added_us": bounded_us - free_us,
        "added_median_us": statistics.median(b[0] - a[0] for a, b in zip(without, under, strict=True)),
        "added_cpu_us": bounded_cpu - free_cpu,
    }


@contextmanager
def postgres() -> Iterator[str | None]:
    """A database on a server of its own; None where no server is installed."""
    from tests.workers import postgres_server

    if postgres_server.missing():
        yield None
        return
    server = postgres_server.PostgresServer()
    try:
        yield server.url()
    finally:
        server.close()


def main() -> int:
    """Measures and compares with the target."""
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        results["sqlite"] = asyncio.run(added(f"sqlite:///{Path(folder) / 'j.db'}"))
        if missing() is None:
            redis = RedisServer()
            try:
                results["redis"] = asyncio.run(added(f"sqlite:///{Path(folder) / 'r.db'}", redis.url))
            finally:
                redis.close()
    with postgres() as url:
        if url is not None:
            results["postgres"] = asyncio.run(added(url))
    ok = all(one["added_us"] <= TARGET_US for one in results.values())
    rounded = {name: {k: round(v, 1) for k, v in one.items()} for name, one in results.items()}
    print(json.dumps({"budget": {**rounded, "target_us": TARGET_US, "n": ROUNDS * RUNS, "ok": ok}}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
