"""No request of at most 1 MB holds the event loop for long or leaves much memory behind."""

import asyncio
import gc
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cascade.gateway.auth.key_file import KeyFile
from cascade.gateway.schemas.pool import SchemaPool
from tests import machine
from tests.cascade.gateway.conftest import Running, Serve
from tests.cascade.gateway.hostile import ASK, Hostile, requests
from tests.cascade.gateway.serve.test_server import process

STALL_S = 0.1
ONCE = {  # what once held the loop for seconds
    "schema: list of types", "schema: more types", "schema: long pattern", "schema: many patterns", "body: long name",
    "body: tools",
}  # fmt: skip
KEPT_BYTES = 64 * 2**20
SCHEMA = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}, "required": ["a"]}
FORMAT = {"name": "a", "schema": SCHEMA}
GOOD: dict[str, dict[str, Any]] = {  # one of each route, with a schema: what a gateway in service has loaded
    "/v1/chat/completions": {
        "model": "default",
        "messages": ASK,
        "response_format": {"type": "json_schema", "json_schema": FORMAT},
    },
    "/v1/messages": {"model": "default", "messages": ASK, "max_tokens": 50},
    "/v1/responses": {"model": "default", "input": "What is 17 * 3?", "text": {"format": {"type": "json_schema", **FORMAT}}},
    "/v1/gate": {"prompt": "What is 17 * 3?", "answer": '{"a": [1]}', "schema": SCHEMA},
}
POLICIES = """
journal: {url: sqlite:///j.db}
models:
  small: {provider: scripted, answers: ['{"a": [1, 2]}'], price: {input_per_mtok: 1, output_per_mtok: 2}}
  large: {provider: scripted, answers: ['{"a": [1, 2]}'], price: {input_per_mtok: 1, output_per_mtok: 2}}
policies:
  default:
    tiers:
      - {name: cheap, model: small, accept_at: 0.9, judges: [schema, rules]}
      - {name: premium, model: large, accept_at: 0.0, judges: [schema, rules, self_consistency]}
"""


class Stalls:
    """The CPU time that an event loop spends between two of its turns: what the machine does beside it does not count."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def watch(self) -> None:
        """Measures until it is cancelled."""
        last = time.thread_time()
        while True:
            await asyncio.sleep(0.002)
            now = time.thread_time()
            self.longest, last = max(self.longest, now - last), now


@contextmanager
def watched(running: Running) -> Iterator[Stalls]:
    """The longest stall of a gateway's event loop within the block."""
    stalls = Stalls()
    watching = asyncio.run_coroutine_threadsafe(stalls.watch(), running.loop)
    try:
        yield stalls
    finally:
        watching.cancel()


def send(url: str, request: Hostile, key: str | None = None) -> int:
    """The status of the response."""
    headers = {"content-type": "application/json"} | ({"x-api-key": key} if key else {})
    return httpx2.post(url + request.path, content=request.body, headers=headers, timeout=120).status_code


def stall(running: Running, request: Hostile, key: str | None = None) -> float:
    """How long a request holds the loop, in CPU time of a machine as fast as the reference."""
    with watched(running) as stalls:
        status = send(running.url, request, key)
    assert status in (200, 400, 401, 404, 409, 413, 422, 500, 503), (status, request.name)
    return stalls.longest if stalls.longest <= STALL_S else stalls.longest / machine.slowness()


def check(running: Running, family: list[Hostile], key: str | None = None) -> None:
    """Sends each of them, and names those that held the loop."""
    slow = {}
    httpx2.post(f"{running.url}/v1/chat/completions", json={"model": "default", "messages": ASK})
    gc.freeze()  # a collection of what the tests hold is none of the gateway's
    for request in family:
        longest = [stall(running, request, key)]
        while longest[-1] > STALL_S and len(longest) < 3:  # a loop that is held is held every time
            longest.append(stall(running, request, key))
        if longest[-1] > STALL_S:
            slow[f"{request.path} {request.name}"] = [round(seconds, 3) for seconds in longest]
    assert not slow


@pytest.fixture(scope="module")
def family() -> list[Hostile]:
    """All hostile requests, made once."""
    return requests()


def test_some_hostile_requests(serve: Serve, family: list[Hostile]) -> None:
    """A sample of the family, with what once held the loop for seconds."""
    check(serve(POLICIES), [r for r in family if r.name in ONCE] + random.Random(7).sample(family, 25))


def test_hostile_requests_with_and_without_a_key(serve: Serve, tmp_path: Path, family: list[Hostile]) -> None:
    """Where keys are required, neither a client that has one nor one that has none holds the loop."""
    keys = KeyFile(tmp_path / "k.db")
    _, secret = keys.create("ana")
    running, sample = serve(POLICIES, key_store=keys), random.Random(3).sample(family, 5)
    for key in (secret, None, "csc_" + "x" * 20_000):
        check(running, sample, key)
    assert {send(running.url, request) for request in sample} == {401}
    assert [request.name for request in sample if min(stall(running, request) for _ in range(3)) > STALL_S] == []


@pytest.mark.slow
def test_all_hostile_requests(serve: Serve, family: list[Hostile]) -> None:
    """The whole family."""
    check(serve(POLICIES), family)


def memory(pid: int) -> int:
    """Resident bytes of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize(("earlier", "count"), [(0, 25), pytest.param(25, 400, marks=pytest.mark.slow)])
def test_memory_after_hostile_requests(tmp_path: Path, earlier: int, count: int, family: list[Hostile]) -> None:
    """What they took is given back, also after many different large ones.

    What any traffic loads does not count; nor does, for many of them, what the allocator keeps for reuse after the first.
    """
    path = tmp_path / "policies.yaml"
    path.write_text(POLICIES)
    sample = random.Random(11).sample(family, min(count, len(family)))
    with process("--policy-file", str(path)) as (running, url, _):
        for route, body in GOOD.items():
            assert send(url, Hostile("good", route, (json.dumps(body).encode(),))) == 200, route
        for request in sample[:earlier]:
            send(url, request)
        before = memory(running.pid)
        for request in sample[earlier:]:
            send(url, request)
        assert memory(running.pid) - before < KEPT_BYTES
        assert httpx2.get(f"{url}/healthz").status_code == 200


class Pinger:
    """Another client, which asks for /healthz all the time, and how long it waits for each response, by the wall clock."""

    def __init__(self, url: str) -> None:
        self._url, self._done = url, threading.Event()
        self._waits: list[tuple[float, float]] = []  # when it asked, and for how long it waited
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with httpx2.Client(base_url=self._url, timeout=120) as client:
            while not self._done.is_set():
                began = time.monotonic()
                assert client.get("/healthz").status_code == 200
                self._waits.append((began, time.monotonic() - began))
                time.sleep(0.001)

    def __enter__(self) -> "Pinger":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def longest_during(self, request: Callable[[], object]) -> float:
        """The longest wait while a request was being answered."""
        began = time.monotonic()
        request()
        ended = time.monotonic()
        while not self._waits or self._waits[-1][0] < ended:  # the one under way counts, too
            time.sleep(0.002)
        waits = [wait for start, wait in self._waits if start + wait >= began and start <= ended]
        return max(waits, default=0.0)


def slowness() -> float:
    """How many seconds this machine takes at the moment for a second of CPU time: 1.0 where it does nothing else."""
    wall, cpu = time.monotonic(), time.thread_time()
    while time.thread_time() < cpu + 0.02:
        pass
    return (time.monotonic() - wall) / 0.02


@pytest.mark.parametrize("count", [7, pytest.param(400, marks=pytest.mark.slow)])
def test_what_another_client_sees(tmp_path: Path, count: int, family: list[Hostile]) -> None:
    """A server that answers a hostile request answers /healthz at most 100 ms later than beside a good request.

    A machine that does other work stretches both, which is measured. A loop that is held is held every time: one try below
    the limit is enough.
    """
    path = tmp_path / "policies.yaml"
    path.write_text(POLICIES)
    sample = [r for r in family if r.name in ONCE and "chat" in r.path]
    sample += random.Random(5).sample(family, min(count, len(family)) - len(sample))
    good = Hostile("good", "/v1/chat/completions", (json.dumps({"model": "default", "messages": ASK}).encode(),))
    slow = {}
    with process("--policy-file", str(path)) as (_, url, _), Pinger(url) as pinger:
        send(url, good)
        for request in sample:
            waits = []
            for _ in range(5):
                benign, before = pinger.longest_during(partial(send, url, good)), slowness()
                wait = pinger.longest_during(partial(send, url, request)) - benign
                waits.append(wait / max(before, slowness()))
                if waits[-1] <= STALL_S:
                    break
            if min(waits) > STALL_S:
                slow[f"{request.path} {request.name}"] = [round(wait, 3) for wait in waits]
    assert not slow


def test_several_at_once_do_not_hold_others(serve: Serve, family: list[Hostile], monkeypatch: pytest.MonkeyPatch) -> None:
    """While six clients send schemas that never end, another one is answered, whatever time a schema may take."""
    monkeypatch.setattr("cascade.gateway.state.SchemaPool", partial(SchemaPool, limit_s=0.25))
    running = serve(POLICIES)
    running.chat()
    gc.freeze()
    slow = [r for r in family if r.name == "schema: exponential references, answer: nested lists"] * 6
    longest: list[float] = []
    while not longest or (longest[-1] > STALL_S and len(longest) < 3):  # a loop that is held is held every time
        threads = [threading.Thread(target=send, args=(running.url, request)) for request in slow]
        with watched(running) as stalls:
            for thread in threads:
                thread.start()
            for _ in range(20):
                assert httpx2.get(f"{running.url}/healthz", timeout=20).status_code == 200
                assert running.chat().status_code == 200
            for thread in threads:
                thread.join()
        longest.append(stalls.longest / machine.slowness())
    assert longest[-1] <= STALL_S, longest
