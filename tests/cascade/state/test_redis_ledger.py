"""Budgets and key rates in a real Redis server, which is killed, hung and emptied in the middle."""

import asyncio
import logging
import time
from contextlib import suppress
from typing import Any

import pytest

from cascade.costs.budget import LimitReached, MemoryLedger
from cascade.errors import StateError
from cascade.resilience.store_health import FailRule, StoreHealth
from cascade.state import leased_ledger, redis_ledger
from cascade.state.redis_ledger import RedisLedger
from tests.redis_server import RedisServer

DAY = "2026-01-31 policy default"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter pauses than in service."""
    monkeypatch.setattr(redis_ledger, "PING_S", 0.2)
    monkeypatch.setattr(redis_ledger, "GRACE_S", 1.0)
    monkeypatch.setattr(leased_ledger, "_RETRY_S", 0.2)


def ledger(server: RedisServer, fail: FailRule = "closed", **settings: Any) -> RedisLedger:
    """A ledger with a connection of its own, as another process would have."""
    return RedisLedger(server.url, StoreHealth(f"redis://127.0.0.1:{server.port}/0", fail), **settings)


async def until(condition: Any, what: str) -> None:
    """Waits until something holds."""
    for _ in range(400):
        outcome = condition()
        if await outcome if asyncio.iscoroutine(outcome) else outcome:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(what)


async def spent_becomes(one: RedisLedger, scope: str, usd: float) -> None:
    """Waits until so much is spent and reserved."""

    async def same() -> bool:
        try:
            return await one.spent(scope) == pytest.approx(usd)
        except StateError:
            return False

    await until(same, f"{scope} is not {usd}")


async def test_it_holds_back_settles_and_refuses(server: RedisServer) -> None:
    """The same as the ledger in memory, in every step."""
    both: list[Any] = [MemoryLedger(), ledger(server)]
    seen = []
    for one in both:
        steps: list[Any] = []
        first = await one.reserve({DAY: 1.0, "all": 5.0}, 0.6)
        steps.append((await one.spent(DAY), await one.spent("all"), await one.spent("other")))
        with pytest.raises(LimitReached, match="budget of") as caught:
            await one.reserve({"all": 5.0, DAY: 1.0}, 0.5)
        steps.append((caught.value.reason, str(caught.value), caught.value.waits))
        await one.settle(first, 0.25)
        steps.append((await one.spent(DAY), await one.spent("all")))
        second = await one.reserve({DAY: 1.0}, 0.5)
        await one.settle(second, None)  # unknown: the estimate counts
        steps.append(await one.spent(DAY))
        seen.append(steps)
    both[1].close()
    for memory, redis in zip(*seen, strict=True):
        assert redis == (
            pytest.approx(memory) if not isinstance(memory, tuple) or not isinstance(memory[0], str) else memory
        )


async def test_two_processes_share_a_budget_and_hardly_anything_is_left(server: RedisServer) -> None:
    """2,000 requests through two ledgers: the limit is never passed, and at most 5 % of it is left unused."""
    two = [ledger(server), ledger(server)]
    spent = [0.0, 0.0]

    async def client(i: int) -> None:
        for _ in range(125):
            try:
                reservation = await two[i % 2].reserve({DAY: 1.0}, 0.002)
            except LimitReached:
                await asyncio.sleep(0)
                continue
            await two[i % 2].settle(reservation, 0.0012)
            spent[i % 2] += 0.0012

    await asyncio.gather(*map(client, range(16)))
    for one in two:
        one.close()
    assert 0.95 <= sum(spent) <= 1.0 + 1e-9
    assert min(spent) > 0.1
    last = ledger(server)
    assert await last.spent(DAY) == pytest.approx(sum(spent))
    last.close()


async def test_a_run_within_its_block_asks_nothing_of_the_server(server: RedisServer) -> None:
    """Reservations from a block go on while the server hangs."""
    one = ledger(server, idle_s=60.0)
    await one.settle(await one.reserve({DAY: 100.0}, 0.01), 0.01)
    server.hang()
    try:
        began = time.monotonic()
        for _ in range(50):
            await one.settle(await one.reserve({DAY: 100.0}, 0.01), 0.01)
        assert time.monotonic() - began < 1.0
    finally:
        server.go_on()
    await until(lambda: not one.health.away, "the server is not back")
    one.close()
    other = ledger(server)
    assert await other.spent(DAY) == pytest.approx(0.51)
    other.close()


async def test_closed_refuses_while_the_server_is_away(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """At once, with one line when it goes and one when it is back; the event loop is not held up."""
    one = ledger(server)
    caplog.set_level(logging.WARNING)
    await one.settle(await one.reserve({DAY: 1.0}, 0.01), 0.01)
    await spent_becomes(one, DAY, 0.01)
    server.kill()
    await until(lambda: one.health.away, "nobody noticed")
    began = time.monotonic()
    for _ in range(100):
        with pytest.raises(StateError, match="unavailable"):
            await one.reserve({"2026-01-31 other": 1.0}, 0.5)
    assert time.monotonic() - began < 1.0
    assert one.health.refused == 100
    server.start()
    await until(lambda: not one.health.away, "it is not back")
    gone, back = [m for m in caplog.messages if "shared state is" in m]
    assert gone.startswith("shared state is unavailable; requests under shared limits are refused: store=redis://127.0.0.1:")
    assert "fail=closed error=" in gone
    assert back.startswith("shared state is back")
    one.close()


async def test_a_server_that_hangs_delays_no_other_work(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that needs it waits for a bounded time; the event loop goes on, and the next ones fail at once."""
    monkeypatch.setattr(redis_ledger, "TIMEOUT_S", 0.3)
    one = ledger(server)
    await one.spent(DAY)
    server.hang()
    try:
        ticks, began = 0, time.monotonic()
        waiting = asyncio.ensure_future(one.reserve({DAY: 1.0}, 0.5))
        while not waiting.done():
            await asyncio.sleep(0.01)
            ticks += 1
        assert isinstance(waiting.exception(), StateError)
        assert time.monotonic() - began < 3.0
        assert ticks > 20
        with pytest.raises(StateError):
            await one.take_token("k", 1.0, 10.0)
    finally:
        server.go_on()
    await until(lambda: not one.health.away, "it is not back")
    await one.settle(await one.reserve({DAY: 1.0}, 0.5), 0.5)
    one.close()


async def test_open_keeps_the_limit_alone_while_the_server_is_away(server: RedisServer) -> None:
    """Over what was known to be spent; what was spent meanwhile counts once the server is back, also without its data."""
    one, other = ledger(server, "open"), ledger(server, "open")
    for each in (one, other):
        await each.settle(await each.reserve({DAY: 1.0}, 0.2), 0.2)
        await spent_becomes(each, DAY, 0.2 if each is one else 0.4)
    await until(lambda: not one.waiting and not other.waiting, "blocks are still held")
    await spent_becomes(one, DAY, 0.4)
    server.kill()
    await until(lambda: one.health.away and other.health.away, "nobody noticed")
    admitted = 0
    for _ in range(20):
        try:
            await one.settle(await one.reserve({DAY: 1.0}, 0.1), 0.1)
            admitted += 1
        except LimitReached:
            pass
    assert 6 <= admitted <= 8  # it knew of 0.2 to 0.4 that were spent
    assert one.health.unshared == admitted
    server.start()
    await until(lambda: not one.health.away and not other.health.away, "it is not back")
    await spent_becomes(other, DAY, 0.4 + 0.1 * admitted)
    with pytest.raises((LimitReached, StateError)):
        await other.reserve({DAY: 1.0}, 0.7)
    one.close()
    other.close()


async def test_a_server_that_lost_its_data_learns_it_again_before_it_grants(server: RedisServer) -> None:
    """Two processes spent 0.45 each of 1.0: after the loss nobody gets more than what is left."""
    two = [ledger(server), ledger(server)]
    for one in two:
        await one.settle(await one.reserve({DAY: 1.0}, 0.45), 0.45)
    await spent_becomes(two[0], DAY, 0.9)
    server.kill()
    server.start()
    outcomes: list[str] = []
    ends = time.monotonic() + 2.5
    while time.monotonic() < ends:
        for one in two:
            try:
                await one.settle(await one.reserve({DAY: 1.0}, 0.2), 0.2)
                outcomes.append("granted")
            except (LimitReached, StateError) as error:
                outcomes.append(type(error).__name__)
        await asyncio.sleep(0.05)
    assert "granted" not in outcomes
    assert outcomes[-1] == "LimitReached"  # no longer restoring
    await spent_becomes(two[0], DAY, 0.9)
    for one in two:
        one.close()


async def test_a_server_that_flaps_passes_no_limit(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It dies again and again, each time with its data: two processes spend no more than the limit."""
    monkeypatch.setattr(redis_ledger, "GRACE_S", 0.5)
    caplog.set_level(logging.WARNING)
    two, flaps, spent, is_over = [ledger(server), ledger(server)], 3, 0.0, False

    async def spend(one: RedisLedger) -> None:
        nonlocal spent
        while not is_over:
            with suppress(StateError, LimitReached):
                await one.settle(await one.reserve({DAY: 1.0}, 0.002), 0.002)
                spent += 0.002
            await asyncio.sleep(0.005)

    async def usable() -> bool:
        with suppress(StateError, LimitReached):
            await two[0].settle(await two[0].reserve({"2026-01-31 other": 1e6}, 0.01), 0.01)
            return not two[1].health.away
        return False

    tasks = [asyncio.create_task(spend(one)) for one in two]
    for _ in range(flaps):
        await until(lambda: usable(), "it is not back")
        server.kill()
        await until(lambda: all(one.health.away for one in two), "nobody noticed")
        server.start()
    await until(lambda: usable(), "it is not back")
    await until(lambda: spent > 0.9, "the limit was not used")
    await asyncio.sleep(0.3)
    is_over = True
    await asyncio.gather(*tasks)
    assert 0.9 < spent < 1.0 + 1e-9
    assert len([m for m in caplog.messages if m.startswith("shared state is unavailable")]) <= 2 * 2 * flaps
    assert [one.health.away for one in two] == [False, False]
    for one in two:
        one.close()


async def test_an_answer_that_is_lost_counts_nothing_twice(server: RedisServer) -> None:
    """The connection breaks after the server has done its work: the step is repeated, with the same outcome."""
    one = ledger(server, idle_s=0.2)
    await one.spent(DAY)
    run = redis_ledger.RedisConnection.run
    broken: list[str] = []

    def lossy(self: Any, script: str, *rest: Any) -> Any:
        answer = run(self, script, *rest)
        if script in ("TAKE", "ENTER") and broken.count(script) < 2:
            broken.append(script)
            raise ConnectionError("lost")
        return answer

    redis_ledger.RedisConnection.run = lossy  # type: ignore[method-assign]
    try:
        for _ in range(3):
            while True:
                try:
                    reservation = await one.reserve({DAY: 1.0}, 0.1)
                    break
                except StateError:
                    await asyncio.sleep(0.1)
            await one.settle(reservation, 0.1)
        await until(lambda: {"TAKE", "ENTER"} == set(broken), "nothing was lost")
        await spent_becomes(one, DAY, 0.3)
    finally:
        redis_ledger.RedisConnection.run = run  # type: ignore[method-assign]
        one.close()


async def test_what_a_dead_process_held_expires(server: RedisServer) -> None:
    """A block that nobody renews is free again."""
    dead = ledger(server, expire_s=1.0)
    await dead.reserve({DAY: 1.0}, 0.9)
    dead.report = lambda **_: None  # type: ignore[method-assign]  # as if it were gone
    other = ledger(server)
    with pytest.raises(LimitReached):
        await other.reserve({DAY: 1.0}, 0.5)

    async def free() -> bool:
        try:
            await other.settle(await other.reserve({DAY: 1.0}, 0.5), 0.0)
        except LimitReached:
            return False
        return True

    await until(free, "it never expired")
    other.close()


async def test_a_rate_is_one_bucket_for_all(server: RedisServer) -> None:
    """What two processes admit is the bucket and what it gained, to a token; also after its data was lost."""
    two = [ledger(server), ledger(server)]

    async def admitted(seconds: float) -> int:
        count, ends = 0, time.monotonic() + seconds
        while time.monotonic() < ends:
            for one in two:
                with suppress(StateError):
                    count += await one.take_token("k", 0.05, 20.0) == 0.0
            await asyncio.sleep(0.005)
        return count

    began = time.monotonic()
    count = await admitted(1.0)
    allowed = 20 + (time.monotonic() - began) * 20
    assert 0.9 * allowed - 2 <= count <= allowed + 1
    server.kill()
    server.start()
    count += await admitted(1.5)
    assert count <= 20 + (time.monotonic() - began) * 20 + 1
    for one in two:
        one.close()


async def test_a_password_is_needed_and_shown_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    """With the right one it works; with a wrong one the error and the log name the server only."""
    from tests.redis_server import missing

    if reason := missing():
        pytest.skip(reason)
    server = RedisServer("hidden-word")
    try:
        one = ledger(server)
        await one.settle(await one.reserve({DAY: 1.0}, 0.1), 0.1)
        one.close()
        wrong = RedisLedger(server.url.replace("hidden", "wrong"), StoreHealth("redis://127.0.0.1"))
        with pytest.raises(StateError) as caught:
            await wrong.reserve({DAY: 1.0}, 0.1)
        assert "word" not in f"{caught.value!r} {caplog.text} {wrong.__dict__['health']!r}"
        wrong.close()
    finally:
        server.close()
