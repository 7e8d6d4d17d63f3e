"""Two replicas as two processes, with one key over real HTTP: its limits are one, also when their store is killed."""

import asyncio
import json
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cascade.costs.budget import today
from cascade.engine.plan import period_scope
from cascade.gateway.auth.key_file import KeyFile
from cascade.resilience.store_health import StoreHealth
from cascade.state.redis_ledger import RedisLedger
from tests.cascade.gateway.serve.test_server import process
from tests.cascade.journal.conftest import postgres_url
from tests.redis_server import RedisServer
from tests.wire_server import Reply, WireServer, chat
from tests.workers.postgres_server import PostgresServer, missing

__all__ = ["postgres_url"]

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="kills servers")
TOKENS = 5  # in each answer; twice as many are reserved


@dataclass(kw_only=True)
class Outcome:
    """What became of the requests.

    Attributes:
        answered: The run's id, by replica.
        refused: Responses by their error's code.
        at: When each was answered, in seconds since the first request.
    """

    answered: list[tuple[int, str]] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    at: list[float] = field(default_factory=list)


def policies(folder: Path, base_url: str, usd: float, journal: str, state: str | None, rule: str = "closed") -> Path:
    """A replica's policy file: one model, whose answers cost ``usd`` each."""
    price = {"input_per_mtok": 0, "output_per_mtok": usd / TOKENS * 1e6}
    model = {"provider": "openai", "model": "m", "base_url": base_url, "api_key_env": "UPSTREAM_API_KEY", "price": price}
    file: dict[str, Any] = {
        "journal": {"url": journal, "durability": "full"},
        "models": {"m": {**model, "max_tokens": 2 * TOKENS}},
        "policies": {"default": {"tiers": [{"model": "m", "accept_at": 0.0}]}},
    }
    if state is not None:
        file["state"] = {"url": state, "fail": rule}
    folder.mkdir()
    path = folder / "policies.yaml"
    path.write_text(json.dumps(file), encoding="utf-8")
    return path


async def ask(urls: list[str], key: str, requests: int, pause_s: float, disturb: Callable[[], object] | None) -> Outcome:
    """Requests from 16 clients, alternately to each replica; ``disturb`` runs in the middle, in a thread."""
    outcome, began, left = Outcome(), time.monotonic(), iter(range(requests))
    disturbance: list[asyncio.Future[object]] = []

    async def client() -> None:
        headers = {"authorization": f"Bearer {key}"}
        async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
            for number in left:
                if disturb is not None and number == requests // 4:
                    disturbance.append(asyncio.ensure_future(asyncio.to_thread(disturb)))
                replica = number % len(urls)
                response = await http.post(f"{urls[replica]}/v1/route", json={"prompt": "What is 17 * 3?"})
                body = response.json()
                if response.status_code == 200:
                    outcome.answered.append((replica, body["run_id"]))
                    outcome.at.append(time.monotonic() - began)
                    continue
                code = body["error"]["code"]
                outcome.refused[code] = outcome.refused.get(code, 0) + 1
                await asyncio.sleep(0.1 if response.status_code == 503 else pause_s)

    await asyncio.gather(*(client() for _ in range(16)))
    await asyncio.gather(*disturbance)
    return outcome


def run(
    tmp_path: Path,
    journals: list[str],
    state: str | None,
    *,
    requests: int,
    usd: float,
    per_minute: float | None = None,
    pause_s: float = 0.0,
    rule: str = "closed",
    disturb: Callable[[], object] | None = None,
) -> tuple[Outcome, str]:
    """Asks two replicas, and gives what became of it and what they logged. Every returned run is in its journal."""
    keys = tmp_path / "keys.db"
    _, key = KeyFile(keys).create("app", usd_per_day=1.0, per_minute=per_minute)
    with WireServer() as upstream, ExitStack() as stack:
        upstream.reply = Reply(chat("51", usage={"completion_tokens": TOKENS, "total_tokens": 10 + TOKENS}))
        running, urls = [], []
        for i, journal in enumerate(journals):
            path = policies(tmp_path / str(i), f"{upstream.base_url}/v1", usd, journal, state, rule)
            options = ("--policy-file", str(path), "--keys", str(keys))
            one, url, _ = stack.enter_context(process(*options, UPSTREAM_API_KEY="k"))
            running.append(one)
            urls.append(url)
        outcome = asyncio.run(ask(urls, key, requests, pause_s, disturb))
        log = ""
        for one in running:
            one.terminate()
            log += one.communicate(timeout=30)[1]
        assert len(upstream.received) == len(outcome.answered)  # nothing was paid for that was not returned
    return outcome, log


def recorded(folder: Path) -> set[str]:
    """The runs in a replica's own journal."""
    with closing(sqlite3.connect(folder / "j.db")) as journal:
        return {run_id for (run_id,) in journal.execute("SELECT run_id FROM cascade_runs")}


def own_journals(tmp_path: Path) -> list[str]:
    """A journal for each of the two replicas."""
    return [f"sqlite:///{tmp_path / str(i) / 'j.db'}" for i in range(2)]


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A server of its own, which a test may kill."""
    if reason := missing():
        pytest.skip(reason)
    one = PostgresServer()
    yield one
    one.close()


def assert_used(outcome: Outcome, usd: float) -> None:
    """The dollar of the day is never passed, and at most 5 % of it is left."""
    spent = len(outcome.answered) * usd
    assert 0.95 <= spent <= 1.0 + 1e-9, (spent, outcome.refused)


def assert_rate(outcome: Outcome, per_minute: float) -> None:
    """At no time more was answered than the bucket of ten seconds held and gained."""
    for count, at in enumerate(sorted(outcome.at), start=1):
        assert count <= per_minute / 60 * (10 + at) + 1


def restart(one: RedisServer | PostgresServer, pause_s: float) -> Callable[[], None]:
    """Kills the server, and starts another one: Redis without its data, Postgres with what it had committed."""

    def disturb() -> None:
        one.kill()
        time.sleep(pause_s)
        one.start()

    return disturb


def test_a_store_that_is_killed_passes_no_limit_and_loses_no_run(tmp_path: Path, redis: RedisServer) -> None:
    """In Redis, which comes back empty: 503 meanwhile, then the rest of the dollar and not a cent more."""
    outcome, log = run(
        tmp_path, own_journals(tmp_path), redis.url, requests=800, usd=0.005, pause_s=0.01, disturb=restart(redis, 1.0)
    )
    assert_used(outcome, 0.005)
    assert outcome.refused["insufficient_quota"] > 0
    assert outcome.refused.get("state_unavailable", 0) > 0
    assert log.count("shared state is unavailable; requests under shared limits are refused") == 2
    assert log.count("shared state is back") == 2
    for replica in range(2):
        runs = {run_id for one, run_id in outcome.answered if one == replica}
        assert len(runs) > 10
        assert runs <= recorded(tmp_path / str(replica))


def test_two_replicas_share_a_day_in_postgres(tmp_path: Path, postgres_url: str) -> None:
    """In the journal's database, without a word of it in the policy file."""
    outcome, _ = run(tmp_path, [postgres_url] * 2, None, requests=350, usd=0.005, pause_s=0.01)
    assert_used(outcome, 0.005)
    assert outcome.refused.keys() == {"insufficient_quota"}


@pytest.mark.slow
@pytest.mark.parametrize("store", ["redis", "postgres"])
def test_4000_requests_of_a_key_of_60_a_minute_and_a_dollar_a_day(
    tmp_path: Path, store: str, request: pytest.FixtureRequest
) -> None:
    """Neither limit is passed; of the dollar, and of the rate until it is spent, at most 5 % are left unused."""
    if store == "redis":
        journals, state = own_journals(tmp_path), request.getfixturevalue("redis").url
    else:
        journals, state = [request.getfixturevalue("postgres_url")] * 2, None
    outcome, _ = run(tmp_path, journals, state, requests=4_000, usd=0.02, per_minute=60, pause_s=0.25)
    assert_used(outcome, 0.02)
    assert_rate(outcome, 60)
    assert len(outcome.answered) >= 0.95 * min(50, 10 + max(outcome.at)) - 1


@pytest.mark.slow
@pytest.mark.parametrize("store", ["redis", "postgres"])
@pytest.mark.parametrize("rule", ["closed", "open"])
def test_4000_requests_while_the_store_is_killed(
    tmp_path: Path, store: str, rule: str, request: pytest.FixtureRequest
) -> None:
    """Closed: never passed, at most 5 % left unused. Open: no request fails for it; each replica keeps the limit alone."""
    if store == "redis":
        one = request.getfixturevalue("redis")
        journals, state, disturb = own_journals(tmp_path), one.url, restart(one, 2.0)
    else:
        cluster = request.getfixturevalue("own_postgres")
        journals = own_journals(tmp_path)
        state, disturb = cluster.url(), restart(cluster, 2.0)
    outcome, log = run(
        tmp_path, journals, state, requests=4_000, usd=0.0005, per_minute=60_000, pause_s=0.005, rule=rule, disturb=disturb
    )
    spent = len(outcome.answered) * 0.0005
    assert log.count("shared state is unavailable") >= 1
    assert log.count("shared state is back") >= 1
    if rule == "closed":
        assert_used(outcome, 0.0005)
    else:
        assert 0.95 <= spent <= 2.0
        assert "state_unavailable" not in outcome.refused
    for replica in range(2):
        assert {run_id for one, run_id in outcome.answered if one == replica} <= recorded(tmp_path / str(replica))


@pytest.mark.slow
def test_a_rolling_restart_of_replicas_fails_no_request(tmp_path: Path, redis: RedisServer) -> None:
    """Each leaves the balancer before it gets SIGTERM, and its successor enters once it listens; the budget goes on."""
    keys, usd = tmp_path / "keys.db", 0.0001
    _, key = KeyFile(keys).create("app", usd_per_day=1.0, per_minute=600_000)
    answered: list[tuple[int, str]] = []
    failures: list[str] = []
    with WireServer() as upstream, ExitStack() as stack:
        upstream.reply = Reply(chat("51", usage={"completion_tokens": TOKENS, "total_tokens": 10 + TOKENS}), delay_s=0.05)
        paths = [
            policies(tmp_path / str(i), f"{upstream.base_url}/v1", usd, journal, redis.url)
            for i, journal in enumerate(own_journals(tmp_path))
        ]

        def start(replica: int) -> tuple[Any, str]:
            options = ("--policy-file", str(paths[replica]), "--keys", str(keys))
            running, url, _ = stack.enter_context(process(*options, UPSTREAM_API_KEY="k"))
            return running, url

        replicas = dict(enumerate(map(start, range(2))))
        stopped = False

        async def client(number: int) -> None:
            headers = {"authorization": f"Bearer {key}"}
            async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
                while not stopped:
                    number += 1
                    replica, (_, url) = list(replicas.items())[number % len(replicas)]
                    try:
                        response = await http.post(f"{url}/v1/route", json={"prompt": "What is 17 * 3?"})
                    except httpx2.HTTPError as error:
                        failures.append(type(error).__name__)
                        continue
                    if response.status_code == 200:
                        answered.append((replica, response.json()["run_id"]))
                    else:
                        failures.append(response.text)

        def roll() -> None:
            for replica in range(2):
                running, _ = replicas.pop(replica)
                time.sleep(0.5)  # a balancer's view is late
                running.terminate()
                running.communicate(timeout=30)
                assert running.returncode == 0
                replicas[replica] = start(replica)

        async def load() -> None:
            nonlocal stopped
            clients = [asyncio.ensure_future(client(i)) for i in range(6)]
            await asyncio.to_thread(roll)
            await asyncio.sleep(1.0)
            stopped = True
            await asyncio.gather(*clients)

        asyncio.run(load())
        for running, _ in replicas.values():
            running.terminate()
            running.communicate(timeout=30)
    assert failures == []
    assert len(answered) > 50
    for replica in range(2):
        assert {run_id for one, run_id in answered if one == replica} <= recorded(tmp_path / str(replica))

    async def spent() -> float:
        ledger = RedisLedger(redis.url, StoreHealth("redis"))
        try:
            scope = period_scope(today(), f"key {key.split('-')[2]}")
            return await ledger.spent(scope)
        finally:
            ledger.close()

    assert asyncio.run(spent()) == pytest.approx(len(answered) * usd)
