"""Budgets that processes share."""

import asyncio
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cascade import Answer, BudgetError, Cascade, JournalError, Usage
from cascade.costs.budget import LimitReached, MemoryLedger
from cascade.errors import StateError
from cascade.journal.ledger import SqlLedger
from cascade.journal.open_store import open_store
from cascade.journal.sqlite import SqliteStore
from cascade.models.scripted import ScriptedModel
from cascade.policy.schema import PolicyFile
from tests.workers import warm_python

ROOT = Path(__file__).parents[3]
DAY = "2026-01-31 policy default"


def ledger(url: str, **settings: Any) -> SqlLedger:
    """A ledger with a connection of its own."""
    return SqlLedger(partial(open_store, url), **settings)


async def until(one: SqlLedger, scope: str, usd: float) -> None:
    """Waits until so much is spent and reserved."""
    for _ in range(200):
        if (spent := await one.spent(scope)) == pytest.approx(usd):
            return
        await asyncio.sleep(0.05)
    assert spent == pytest.approx(usd)


async def test_it_holds_back_settles_and_refuses(url: str) -> None:
    """The same as the ledger in memory, in every step."""
    both: list[Any] = [MemoryLedger(), ledger(url)]
    seen = []
    for one in both:
        steps: list[Any] = []
        first = await one.reserve({DAY: 1.0, "all": 5.0}, 0.6)
        steps.append((await one.spent(DAY), await one.spent("all"), await one.spent("other")))
        with pytest.raises(LimitReached, match="budget of") as caught:
            await one.reserve({"all": 5.0, DAY: 1.0}, 0.5)
        steps.append((caught.value.reason, str(caught.value)))
        steps.append((await one.spent(DAY), await one.spent("all")))
        await one.settle(first, 0.25)
        steps.append((await one.spent(DAY), await one.spent("all")))
        second = await one.reserve({DAY: 1.0}, 0.5)
        await one.settle(second, None)  # unknown: the estimate counts
        free = await one.reserve({DAY: 1.0}, 0.1)
        await one.settle(free, 0.0)
        steps.append((await one.spent(DAY), await one.spent("all")))
        full = await one.reserve({DAY: 1.0}, 0.25)
        await one.settle(full, 0.25)
        with pytest.raises(LimitReached):
            await one.reserve({DAY: 1.0}, 0.0)
        seen.append(steps)
    both[1].close()
    assert seen[0][1] == seen[1][1]
    assert [[pytest.approx(x) for x in s] for s in seen[0] if isinstance(s[0], float)] == [
        list(s) for s in seen[1] if isinstance(s[0], float)
    ]


async def test_it_is_kept_over_restarts(url: str) -> None:
    """Another process, later in the day, finds what was spent."""
    one = ledger(url)
    await one.settle(await one.reserve({DAY: 1.0}, 0.5), 0.5)
    one.close()
    two = ledger(url)
    assert await two.spent(DAY) == 0.5
    with pytest.raises(LimitReached):
        await two.reserve({DAY: 1.0}, 0.6)
    two.close()


SPENDER = """
import asyncio, json, random, sys
from functools import partial
from cascade.costs.budget import LimitReached
from cascade.journal.ledger import SqlLedger
from cascade.journal.open_store import open_store
from cascade.journal.sqlite import SqliteStore

async def main():
    ledger, rng = SqlLedger(partial(open_store, sys.argv[1], full=False)), random.Random(int(sys.argv[2]))
    spent, most = [], 0.0
    async def task():
        nonlocal most
        while True:
            try:
                reservation = await ledger.reserve({"day": 1.0, "all": 100.0}, 0.004)
            except LimitReached:
                return
            most = max(most, await ledger.spent("day"))
            await asyncio.sleep(rng.random() / 200)
            usd = rng.choice([0.004, 0.001, 0.0, 0.002])
            await ledger.settle(reservation, usd)
            spent.append(usd)
    await asyncio.gather(*(task() for _ in range(64)))
    ledger.close()
    print(json.dumps([sum(spent), most]))

asyncio.run(main())
"""


def test_64_tasks_in_each_of_4_processes_never_pass_a_budget(url: str) -> None:
    """Neither in the sum, nor at any moment with what is held back; and all of it can be spent."""
    open_store(url).close()
    processes = [
        warm_python.Popen([sys.executable, "-c", SPENDER, url, str(i)], stdout=subprocess.PIPE, cwd=ROOT) for i in range(4)
    ]
    outputs = [json.loads(p.communicate(timeout=120)[0]) for p in processes]
    total = sum(spent for spent, _ in outputs)
    assert total <= 1.0 + 1e-9
    assert total > 0.99 - 256 * 0.004 / 4
    assert max(most for _, most in outputs) <= 1.0 + 1e-9

    async def spend() -> float:
        one = ledger(url)
        try:
            return await one.spent("day")
        finally:
            one.close()

    assert asyncio.run(spend()) == pytest.approx(total)


def test_what_a_dead_process_held_back_expires(url: str) -> None:
    """Till then it counts, as it may have been spent."""
    code = (
        "import asyncio, sys, time; from functools import partial\n"
        "from cascade.journal.ledger import SqlLedger; from cascade.journal.open_store import open_store\n"
        "async def main():\n"
        "    await SqlLedger(partial(open_store, sys.argv[1]), expire_s=1.5).reserve({'day': 1.0}, 0.8)\n"
        "    print('held', flush=True); time.sleep(60)\n"
        "asyncio.run(main())"
    )
    process = warm_python.Popen([sys.executable, "-c", code, url], stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()

    async def go() -> None:
        one = ledger(url)
        with pytest.raises(LimitReached):
            await one.reserve({"day": 1.0}, 0.5)
        for _ in range(60):
            if await one.spent("day") == 0.0:
                break
            await asyncio.sleep(0.05)
        reservation = await one.reserve({"day": 1.0}, 0.5)
        await one.settle(reservation, 0.5)
        assert await one.spent("day") == 0.5
        one.close()

    asyncio.run(go())


async def test_a_cancelled_caller_holds_nothing_back(url: str) -> None:
    """Whenever it is cancelled, no reservation remains, and settled amounts stay settled."""
    one, rng = ledger(url), random.Random(3)
    await one.spent("day")

    async def task() -> None:
        reservation = await one.reserve({"day": 100.0}, 1.0)
        await one.settle(reservation, 0.0)

    for _ in range(60):
        running = asyncio.create_task(task())
        await asyncio.sleep(rng.random() * 0.002)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    # Those cancelled between the two keep theirs until it expires: that is the engine's to settle.
    await asyncio.sleep(0.2)
    held = await one.spent("day")
    assert held <= 60
    # Where it waits for the database, nothing is reserved for it.
    cancelled = asyncio.create_task(one.reserve({"other day": 100.0}, 1.0))
    await asyncio.sleep(0)
    cancelled.cancel()
    (outcome,) = await asyncio.gather(cancelled, return_exceptions=True)
    assert isinstance(outcome, asyncio.CancelledError)
    await until(one, "other day", 0.0)
    assert one._grants == {}  # callers choose tags, and each value of one is a scope
    await until(one, "day", held)
    one.close()


async def test_a_ledger_out_of_reach_refuses(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing could show that a budget is kept; what was already asked still gets its answer."""
    one = ledger(url)
    reservation = await one.reserve({"day": 1.0}, 0.1)

    def broken(self: Any) -> Any:
        raise JournalError("no connection")

    one._session._reach = broken.__get__(one._session)  # type: ignore[method-assign]
    with pytest.raises(StateError):
        await one.reserve({"day": 1.0}, 0.1)
    await one.settle(reservation, 0.1)
    for _ in range(100):
        if "shared state is unavailable; requests under shared limits are refused: store=journal" in caplog.text:
            break
        await asyncio.sleep(0.05)
    else:
        raise AssertionError(caplog.text)
    # What was spent is entered as soon as it can be.
    del one._session._reach
    other = ledger(url)
    await until(other, "day", 0.1)
    other.close()
    one.close()


def service(url: str | None, usd: float) -> Cascade:
    """A service with a budget a day, each of whose requests costs one cent."""
    file = PolicyFile.model_validate(
        {
            "models": {
                "m": {"provider": "openai", "max_tokens": 10, "price": {"input_per_mtok": 0, "output_per_mtok": 1000}}
            },
            "policies": {"default": {"tiers": [{"model": "m", "accept_at": 0}], "budget_usd_per_day": usd}},
        }
    )
    answer = Answer("hi", finish_reason="stop", usage=Usage(5, 10))
    return Cascade(file, models={"m": ScriptedModel("m", [answer])}, journal=url)


def _spend(make: Callable[[], Cascade], runs: int) -> int:
    async def go() -> int:
        async with make() as c:
            outcomes = await asyncio.gather(*(c.arun("hi") for _ in range(runs)), return_exceptions=True)
        assert all(isinstance(o, BudgetError) for o in outcomes if isinstance(o, BaseException))
        return sum(not isinstance(o, BaseException) for o in outcomes)

    return asyncio.run(go())


def test_a_cascades_day_is_the_journals(url: str) -> None:
    """Two services with one journal share the day's budget; without a journal each has its own."""
    assert [_spend(partial(service, url, 0.1), 8) for _ in range(2)] == [8, 2]
    assert [_spend(partial(service, None, 0.1), 8) for _ in range(2)] == [8, 8]


def test_a_forked_child_has_a_ledger_of_its_own(url: str) -> None:
    """Its thread and connection are not the parent's; the money is, also where the parent has closed before it begins."""
    code = (
        "import asyncio, os, sys; from tests.cascade.journal.test_ledger import service\n"
        "c = service(sys.argv[1], 1.0)\n"
        "asyncio.run(c.arun('a'))\n"
        "closed = os.pipe()\n"
        "pid = os.fork()\n"
        "if not pid: os.read(closed[0], 1)\n"
        "asyncio.run(c.arun('b'))\n"
        "asyncio.run(c.aclose())\n"
        "if pid: os.write(closed[1], b'.'); assert os.waitpid(pid, 0)[1] == 0"
    )
    done = warm_python.run([sys.executable, "-c", code, url], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr

    async def spend() -> float:
        one = ledger(url)
        try:
            return await one.spent(f"{time.strftime('%Y-%m-%d', time.gmtime())} policy default")
        finally:
            one.close()

    assert asyncio.run(spend()) == pytest.approx(0.03)


async def test_a_reservation_is_renewed_while_its_request_lives(url: str) -> None:
    """However long that takes; once settled it is renewed no more."""
    one, other = ledger(url, expire_s=0.3), ledger(url, expire_s=0.3)
    reservation = await one.reserve({"day": 1.0}, 0.9)
    for _ in range(12):
        await asyncio.sleep(0.1)
        with pytest.raises(LimitReached):
            await other.reserve({"day": 1.0}, 0.9)
    await one.settle(reservation, 0.9)
    await until(other, "day", 0.9)
    one.close()
    other.close()


async def test_a_clock_that_jumps_frees_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases use a monotonic clock, so that a change of the system time frees nothing in any process."""
    one, other = ledger(url), ledger(url)
    reservation = await one.reserve({"day": 1.0}, 0.9)
    real = time.time
    for seconds in (901.0, -901.0, 1e7):
        monkeypatch.setattr(time, "time", lambda seconds=seconds: real() + seconds)
        with pytest.raises(LimitReached):
            await other.reserve({"day": 1.0}, 0.9)
    await one.settle(reservation, 0.9)
    await until(other, "day", 0.9)
    one.close()
    other.close()


async def test_a_restart_of_the_machine_ends_its_leases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The monotonic clock begins anew, so that the moment at which a lease expires means nothing any more."""
    url = f"sqlite:///{tmp_path / 'j.db'}"
    monkeypatch.setattr(SqliteStore, "lease_prefix", "before.")
    one = ledger(url)
    await one.reserve({"day": 1.0}, 0.9)
    one.close()
    monkeypatch.setattr(SqliteStore, "lease_prefix", "after.")
    two = ledger(url)
    assert await two.spent("day") == 0.0
    await two.reserve({"day": 1.0}, 0.9)
    two.close()


def never_exceeded(url: str, requests: int, seed: int) -> None:
    """Requests with honest costs, of which some outlive their leases or fail, over ledgers that are closed and opened."""
    draw = random.Random(seed)
    limit, billed, refused = 0.3, 0.0, 0

    async def go() -> None:
        nonlocal billed, refused
        ledgers = [ledger(url, expire_s=1.0) for _ in range(3)]

        async def one(i: int) -> None:
            nonlocal billed, refused
            mine = ledgers[i % 3]
            usd = draw.choice([0.01, 0.05])
            try:
                reservation = await mine.reserve({"day": limit}, usd)
            except LimitReached:
                refused += 1
                return
            if draw.random() < 10 / requests:
                await asyncio.sleep(draw.uniform(0.1, 2.0))
            paid = draw.choice([0.0, 0.1, 0.5, 1.0]) * usd * draw.random() * 100 / requests
            billed += paid
            await mine.settle(reservation, paid)
            assert await mine.spent("day") <= limit + 1e-9

        for start in range(0, requests, 50):
            await asyncio.gather(*(one(i) for i in range(start, min(requests, start + 50))))
            if draw.random() < 0.3:
                ledgers[0].close()
                ledgers[0] = ledger(url, expire_s=1.0)
        await until(ledgers[1], "day", billed)  # as soon as the others have returned what they took in advance
        for each in ledgers:
            each.close()

    asyncio.run(go())
    assert billed <= limit + 1e-9
    assert 0 < refused < requests


def test_no_generated_requests_exceed_a_budget(url: str) -> None:
    """The short version of the test below."""
    never_exceeded(url, 300, 1)


@pytest.mark.slow
def test_ten_thousand_generated_requests_never_exceed_a_budget(url: str) -> None:
    """In ledgers that live as long as a service's do."""
    never_exceeded(url, 10_000, 2)
