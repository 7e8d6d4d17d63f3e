"""Two processes on one journal over midnight UTC, with clocks that differ: each day's budget is its own and is kept."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cascade.journal.ledger import SqlLedger
from cascade.journal.open_store import open_store
from cascade.resilience.store_health import StoreHealth
from cascade.state.leased_ledger import LeasedLedger
from cascade.state.redis_ledger import RedisLedger
from tests.redis_server import RedisServer
from tests.workers import warm_python

ROOT = Path(__file__).parents[3]
LIMIT = 0.2  # USD; each request costs one cent
SPENDER = """
import asyncio, json, random, sys, time
from cascade import Answer, BudgetError, Cascade, Usage
from cascade.costs import budget
from cascade.policy.schema import PolicyFile

url, skew, seed = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
midnight = 20_000 * 86_400.0  # 2024-10-04
rng = random.Random(seed)
budget.time = lambda: midnight - 2 * 86_400.0

class Slow:
    name = "m"
    async def answer(self, prompt, request):
        await asyncio.sleep(rng.uniform(0.0, 0.3))  # some runs begin on one day and end on the next
        return [Answer("hi", finish_reason="stop", usage=Usage(5, 10), model="m")]
    async def close(self):
        pass

state = {"state": {"url": sys.argv[5]}} if sys.argv[5:] else {}
file = PolicyFile.model_validate({
    **state,
    "models": {"m": {"provider": "openai", "max_tokens": 10, "price": {"input_per_mtok": 0, "output_per_mtok": 1000}}},
    "policies": {"default": {"tiers": [{"model": "m", "accept_at": 0}], "budget_usd_per_day": float(sys.argv[4])}},
})

async def main():
    answered = []
    async with Cascade(file, models={"m": Slow()}, journal=url) as service:
        await service.arun("the day before, so that everything is loaded and connected")
        print("ready", flush=True)
        started = float(sys.stdin.readline())
        budget.time = lambda: midnight - 0.7 + skew + (time.time() - started)
        async def one():
            try:
                result = await service.arun("hi")
            except BudgetError:
                return
            answered.append(result.run_id)
        running = []
        while time.time() < started + 1.4:
            running.append(asyncio.ensure_future(one()))
            await asyncio.sleep(0.025)
        await asyncio.gather(*running)
    print(json.dumps(answered))

asyncio.run(main())
"""


def over_midnight(url: str, make_ledger: Callable[[], LeasedLedger[Any]], *state: str) -> None:
    """One sees the new day 0.3 s earlier: no day's budget is exceeded, all of it can be spent, every run is there."""
    open_store(url).close()
    processes = [
        warm_python.Popen(
            [sys.executable, "-c", SPENDER, url, str(skew), str(seed), str(LIMIT), *state],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True,
        )
        for seed, skew in enumerate((0.0, 0.3))
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    started = f"{time.time()}\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(started)
        process.stdin.flush()
    answered = [run_id for process in processes for run_id in json.loads(process.communicate(timeout=60)[0])]
    assert [process.returncode for process in processes] == [0, 0]

    async def spent(day: str) -> float:
        ledger = make_ledger()
        try:
            return await ledger.spent(f"{day} policy default")
        finally:
            ledger.close()

    days = [asyncio.run(spent(day)) for day in ("2024-10-03", "2024-10-04")]
    assert 0 < days[0] <= LIMIT + 1e-9
    assert days[1] == pytest.approx(LIMIT)
    assert len(answered) == pytest.approx(sum(days) / 0.01)
    store = open_store(url)
    recorded = [record.run_id for _, record in store.last(1000) if record.run_id in set(answered)]
    store.close()
    assert sorted(recorded) == sorted(answered)


def test_two_processes_over_midnight(url: str) -> None:
    """With the budget in the journal's database."""
    over_midnight(url, lambda: SqlLedger(partial(open_store, url)))


def test_two_processes_over_midnight_with_a_shared_state(tmp_path: Path, redis: RedisServer) -> None:
    """With the budget in Redis."""
    url = f"sqlite:///{tmp_path / 'j.db'}"
    over_midnight(url, lambda: RedisLedger(redis.url, StoreHealth("redis")), redis.url)
