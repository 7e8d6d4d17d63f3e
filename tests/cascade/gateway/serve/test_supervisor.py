"""Several workers on one port: supervised, replaced, restarted one by one."""

import asyncio
import json
import os
import random
import signal
import sqlite3
import sys
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx2
import pytest

import cascade
from cascade.gateway.auth.key_file import KeyFile
from cascade.gateway.serve.accept import ConnectionCounts
from tests.cascade.gateway.serve.test_server import ROOT, process
from tests.cascade.gateway.test_health import value
from tests.workers import warm_python

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the workers in /proc")

FILE = """
journal: {url: sqlite:///j.db, durability: full}
models: {m: {provider: scripted, answers: ["51"]}}
policies: {default: {tiers: [{model: m, accept_at: 0.0}]}}
"""
QUESTION = {"prompt": "What is 17 * 3?"}


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    """A policy file whose runs are recorded before they are answered."""
    path = tmp_path / "policies.yaml"
    path.write_text(FILE)
    return path


def children(pid: int) -> list[int]:
    """The workers that a process has started and that live: each has a session of its own."""
    with suppress(FileNotFoundError, ProcessLookupError):
        started = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return [child for child in started if os.getsid(child) == child]
    return []


def alive(pid: int) -> bool:
    """Whether a process lives."""
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def wait_until(condition: object, seconds: float = 120.0) -> None:
    """Waits until a function returns something true."""
    ends = time.monotonic() + seconds
    assert callable(condition)
    while not condition():
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.05)


class Load:
    """Clients with connections that stay open, who ask on and on."""

    def __init__(self, url: str, clients: int = 12) -> None:
        self.url, self.clients = url, clients
        self.run_ids: list[str] = []
        self.failures: Counter[str] = Counter()
        self.stopped = False

    async def client(self) -> None:
        """Asks until it is stopped; a lost connection is counted and replaced."""
        async with httpx2.AsyncClient(base_url=self.url, timeout=60) as http:
            while not self.stopped:
                try:
                    response = await http.post("/v1/route", json=QUESTION)
                    if response.status_code == 200:
                        self.run_ids.append(response.json()["run_id"])
                    else:
                        self.failures[str(response.status_code)] += 1
                except httpx2.HTTPError as error:
                    self.failures[type(error).__name__] += 1
                await asyncio.sleep(0.01)

    async def during(self, disturb: object) -> None:
        """Asks while ``disturb`` runs in a thread, and a little longer: on a slow machine, until enough was answered."""
        assert callable(disturb)
        tasks = [asyncio.ensure_future(self.client()) for _ in range(self.clients)]
        await asyncio.sleep(0.5)
        await asyncio.to_thread(disturb)
        await asyncio.sleep(0.5)
        for _ in range(300):
            if len(self.run_ids) > 50:
                break
            await asyncio.sleep(0.1)
        self.stopped = True
        await asyncio.gather(*tasks)


def recorded(folder: Path) -> list[str]:
    """The runs in the journal."""
    connection = sqlite3.connect(folder / "j.db")
    try:
        return [run_id for (run_id,) in connection.execute("SELECT run_id FROM cascade_runs")]
    finally:
        connection.close()


def test_workers_share_a_port_and_their_metrics(policies: Path, tmp_path: Path) -> None:
    """Connections are spread over all; any worker states the sums; a signal ends everything."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    arguments = ("--policy-file", str(policies), "--workers", "2")
    with process(*arguments, TMPDIR=str(folder)) as (running, url, output):
        assert output.rstrip().endswith(f"/v1 serves {policies} with 2 workers")
        workers = children(running.pid)
        assert len(workers) == 2
        load = Load(url)
        asyncio.run(load.during(lambda: time.sleep(0.5)))
        assert not load.failures
        (shared,) = folder.glob("cascade-gateway-*")
        numbers = [path for path in shared.iterdir() if path.name.startswith("counter_")]
        assert len(numbers) == 2, "only one worker was asked"
        wait_until(lambda: value(httpx2.get(f"{url}/metrics").text, "cascade_runs_total") == len(load.run_ids))
        running.send_signal(signal.SIGTERM)
        _, err = running.communicate(timeout=30)
    assert (running.returncode, err) == (0, "")
    assert not any(map(alive, workers))
    assert not list(folder.iterdir())
    assert sorted(recorded(tmp_path)) == sorted(load.run_ids)


def test_every_worker_shows_the_breakers_of_all(tmp_path: Path) -> None:
    """A breaker that one worker has opened: in the readiness, the dashboard and the metrics of either."""
    (tmp_path / "policies.yaml").write_text("""
models: {m: {provider: openai, model: m, base_url: "http://127.0.0.1:9/v1", retry: {attempts: 1},
             breaker: {cooldown_s: 600}}}
policies: {default: {tiers: [{model: m}]}}
""")
    arguments = ("--policy-file", str(tmp_path / "policies.yaml"), "--workers", "2")
    with process(*arguments, TMPDIR=str(tmp_path)) as (_, url, _), ExitStack() as stack:
        clients = [stack.enter_context(httpx2.Client(base_url=url, timeout=30)) for _ in range(8)]
        workers = [client.get("/readyz") for client in clients]  # connections are spread over both
        assert {worker.json().get("open_breakers") for worker in workers} == {None}
        for _ in range(25):
            assert clients[0].post("/v1/route", json=QUESTION).status_code in (502, 503)
        seen = set()
        for client in clients:
            assert client.get("/readyz").json()["open_breakers"] == 1
            assert value(client.get("/metrics").text, "cascade_breaker_state", 'model="m"') == 2
            with client.stream("GET", "/dashboard/events") as events:
                data = next(line.removeprefix("data: ") for line in events.iter_lines() if line.startswith("data: "))
            (model,) = json.loads(data)["models"]
            assert (model["breaker"], model["breakers"]) == ("open", {"open": 1, "closed": 1})
            seen.add(model["requests"] > 0)
        assert seen == {True, False}, "only one worker was asked"


def test_a_rolling_restart_under_load_fails_no_request(policies: Path, tmp_path: Path) -> None:
    """SIGHUP replaces every worker; open connections are closed only with a response that says so."""
    with process("--policy-file", str(policies), "--workers", "2", TMPDIR=str(policies.parent)) as (running, url, _):
        before = children(running.pid)
        load = Load(url)

        def restart() -> None:
            running.send_signal(signal.SIGHUP)
            wait_until(lambda: not any(map(alive, before)), 60)

        asyncio.run(load.during(restart))
        after = children(running.pid)
    assert not load.failures
    assert len(after) == 2
    assert not set(before) & set(after)
    assert sorted(recorded(tmp_path)) == sorted(load.run_ids)
    assert len(load.run_ids) > 50


def kill_often(policies: Path, kills: int, *, workers: int = 2, pause_s: float = 0.3) -> Load:
    """Kills random workers under load, and checks that only their requests fail and that no returned run is lost.

    Args:
        policies: The policy file; its journal is next to it.
        kills: How many are killed.
        workers: How many there are.
        pause_s: From one to the next, in seconds, beyond the time until all are there again.

    Returns:
        The load, with what was answered and what failed.
    """
    rng = random.Random(1)
    arguments = ("--policy-file", str(policies), "--workers", str(workers))
    with process(*arguments, TMPDIR=str(policies.parent)) as (running, url, _):
        load = Load(url)

        def kill() -> None:
            for _ in range(kills):
                wait_until(lambda: len(children(running.pid)) == workers, 60.0)
                victim = rng.choice(children(running.pid))
                os.kill(victim, signal.SIGKILL)
                wait_until(lambda victim=victim: not alive(victim))
                time.sleep(pause_s)

        asyncio.run(load.during(kill))
        wait_until(lambda: len(children(running.pid)) == workers, 60.0)
        assert httpx2.post(f"{url}/v1/route", json=QUESTION, timeout=30).status_code == 200
    assert sum(load.failures.values()) <= kills * load.clients
    assert not [name for name in load.failures if name.isdigit()]
    rows = Counter(recorded(policies.parent))
    assert all(rows[run_id] == 1 for run_id in load.run_ids)
    assert len(load.run_ids) > 50
    return load


def test_a_killed_worker_is_replaced_and_no_returned_run_is_lost(policies: Path) -> None:
    """A hundred of them in tests/benchmarks/workers/bench_worker_kills.py."""
    kill_often(policies, 3)


def test_a_worker_that_hangs_is_replaced(policies: Path) -> None:
    """One whose loop stands still is killed and named in the log; the other serves meanwhile, and stays."""
    arguments = ("--policy-file", str(policies), "--workers", "2")
    with process(*arguments, CASCADE_HUNG_WORKER_S="2") as (running, url, _):
        wait_until(lambda: len(children(running.pid)) == 2)
        hung, other = children(running.pid)
        time.sleep(0.5)  # a sign of life
        os.kill(hung, signal.SIGSTOP)
        wait_until(lambda: not alive(hung))
        wait_until(lambda: len(children(running.pid)) == 2)
        assert other in children(running.pid)
        assert httpx2.post(f"{url}/v1/route", json=QUESTION, timeout=30).status_code == 200
        running.send_signal(signal.SIGTERM)
        _, err = running.communicate(timeout=30)
    assert "a worker hangs and is killed" in err
    assert f"worker_pid={hung}" in err
    assert "a worker ended and is replaced" in err


def test_workers_end_with_their_supervisor(policies: Path) -> None:
    """Even where it is killed: they are left no port, no folder and no parent."""
    with process("--policy-file", str(policies), "--workers", "2", TMPDIR=str(policies.parent)) as (running, _, _):
        workers = children(running.pid)
        running.kill()
        running.wait(10)
        wait_until(lambda: not any(map(alive, workers)))
    assert not list(policies.parent.glob("cascade-gateway-*"))


def test_workers_share_rates_and_budgets_without_a_journal(tmp_path: Path) -> None:
    """A key's rate and a policy's day are those of the gateway, not of each worker."""
    path = tmp_path / "policies.yaml"
    path.write_text(
        "models: {m: {provider: scripted, answers: ['51'], price: {input_per_mtok: 1000000, output_per_mtok: 0}}}\n"
        "policies: {default: {tiers: [{model: m, accept_at: 0.0}]},"
        " tight: {budget_usd_per_day: 300, tiers: [{model: m, accept_at: 0.0}]}}\n"
    )
    _, secret = KeyFile(tmp_path / "cascade-keys.db").create("ana", per_minute=60)
    _, other = KeyFile(tmp_path / "cascade-keys.db").create("bob")

    async def ask(url: str, key: str, policy: str, times: int) -> Counter[int]:
        statuses: Counter[int] = Counter()

        async def once() -> None:
            async with httpx2.AsyncClient(base_url=url, headers={"x-api-key": key}, timeout=60) as http:
                statuses[(await http.post("/v1/route", json={**QUESTION, "policy": policy})).status_code] += 1

        await asyncio.gather(*(once() for _ in range(times)))
        return statuses

    with process("--policy-file", str(path), "--workers", "2", TMPDIR=str(tmp_path)) as (_, url, _):
        began = time.monotonic()
        limited = asyncio.run(ask(url, secret, "default", 60))
        seconds = time.monotonic() - began
        spent = asyncio.run(ask(url, other, "tight", 60))
    admitted = 60 - limited[429]
    assert 10 <= admitted <= 10 + seconds + 1
    with cascade.Cascade(path) as alone:
        for affordable in range(60):  # noqa: B007 - the number of runs that one process affords
            try:
                alone.run(QUESTION["prompt"], policy="tight")
            except cascade.BudgetError:
                break
    assert spent == {200: affordable, 429: 60 - affordable}
    assert affordable > 2


def test_a_gateway_whose_workers_cannot_start_ends(policies: Path, tmp_path: Path) -> None:
    """With status 2, and a line that says so."""
    command = [sys.executable, "-m", "cascade", "serve", "--policy-file", str(policies), "--port", "0", "--workers", "2"]
    broken = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "nowhere" / "nothing")}
    done = warm_python.run(command, cwd=ROOT, env=broken, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "a worker did not start" in done.stderr


def test_the_fewest_connections_are_those_of_workers_that_accept(tmp_path: Path) -> None:
    """A worker that stopped accepting does not delay new connections."""
    counts = ConnectionCounts(tmp_path / "counts", 3)
    assert counts.fewest(0) is None
    counts.set(1, 7)
    ConnectionCounts(tmp_path / "counts", 3).set(2, 5)
    assert counts.fewest(0) == 5
    counts.set(2, None)
    assert counts.fewest(0) == 7
    assert counts.fewest(1) is None
