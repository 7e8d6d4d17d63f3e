"""What a request may take, what all together may, and how the gateway changes and stops."""

import socket
import threading
from pathlib import Path

import httpx2
import pytest

from cascade.gateway.limits import Limits
from cascade.gateway.serve import protocol
from cascade.journal.open_store import open_store
from cascade.journal.store import Filter
from tests.cascade.gateway.auth.test_keys import eventually
from tests.cascade.gateway.conftest import Running, Serve
from tests.wire_server import Reply, WireServer, chat

SCRIPTED = """
models: {m: {provider: scripted, answers: ["one"]}}
policies: {default: {tiers: [{model: m, accept_at: 0.0}]}}
"""
WIRED = """
journal: {{url: sqlite:///j.db}}
models: {{m: {{provider: openai, model: m, base_url: "{url}/v1", retry: {{attempts: 1}}}}}}
policies: {{default: {{tiers: [{{model: m, accept_at: 0.0}}]}}}}
"""


def raw(running: Running, content: bytes, wait: float = 5.0) -> bytes:
    """What comes back on a connection of its own, until it is closed or ``wait`` seconds are over."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=wait) as connection:
        connection.sendall(content)
        got = b""
        try:
            while piece := connection.recv(65536):
                got += piece
        except TimeoutError:
            got += b"(still open)"
        except ConnectionError:
            got += b"(reset)"
        return got


def test_a_body_that_is_too_large(serve: Serve) -> None:
    """Is refused by what its header says, or once it has become too large; the gateway keeps nothing of it."""
    running = serve(SCRIPTED, limits=Limits(body_bytes=10_000))
    assert running.chat(user="x", stop="y").status_code == 200
    assert running.chat(messages=[{"role": "user", "content": "x" * 20_000}]).status_code == 413

    def pieces():  # type: ignore[no-untyped-def]
        for _ in range(100):
            yield b" " * 1000

    refused = httpx2.post(
        f"{running.url}/v1/chat/completions", content=pieces(), headers={"content-type": "application/json"}
    )
    assert refused.status_code == 413, refused.text
    assert running.gateway.load.held_bytes == 0


def test_a_body_that_comes_too_slowly(serve: Serve) -> None:
    """Is not waited for."""
    running = serve(SCRIPTED, limits=Limits(body_s=0.3))
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n"
    )
    assert b"408" in raw(running, head + b"\r\n{").split(b"\r\n")[0]
    eventually(lambda: running.gateway.load.requests == 0)
    assert running.gateway.load.held_bytes == 0


def test_a_head_that_is_too_long_or_too_slow(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that never get to a request are closed, and one that says nothing, too."""
    monkeypatch.setattr(protocol, "HEAD_S", 0.5)
    running = serve(SCRIPTED)
    start = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n"
    assert b"still open" not in raw(running, start + b"x: " + b"y" * 70_000)
    assert raw(running, start) == b""
    assert raw(running, b"") == b""
    assert raw(running, start + b"\r\n", 1.0).startswith(b"HTTP/1.1 200")


def test_a_large_body_is_no_long_head(serve: Serve) -> None:
    """However much arrives at once, and however often on one connection."""
    running = serve(SCRIPTED)
    with httpx2.Client() as client:
        for _ in range(20):
            body = {"model": "default", "messages": [{"role": "user", "content": "x" * 200_000}]}
            assert client.post(f"{running.url}/v1/chat/completions", json=body).status_code == 200


def test_an_answer_that_takes_too_long(serve: Serve, upstream: WireServer) -> None:
    """Is not waited for, whatever the policy says, and what was asked is cancelled."""
    upstream.reply = Reply(chat("too late"), delay_s=20)
    running = serve(WIRED.format(url=upstream.base_url), limits=Limits(run_s=0.3))
    assert running.chat().status_code == 504
    eventually(lambda: running.gateway.active.in_flight == 0)


def test_too_many_at_once(serve: Serve, upstream: WireServer) -> None:
    """Are turned away with a 503 that says when to come again; those that were let in are answered."""
    upstream.reply = Reply(chat("late"), delay_s=0.8)
    running = serve(WIRED.format(url=upstream.base_url), limits=Limits(concurrent=3))
    replies: list[httpx2.Response] = []
    threads = [threading.Thread(target=lambda: replies.append(running.chat())) for _ in range(8)]
    for thread in threads:
        thread.start()
    eventually(lambda: running.gateway.load.shed == 5)
    assert [httpx2.get(running.url + path).status_code for path in ("/healthz", "/metrics")] == [200, 200]
    for thread in threads:
        thread.join()
    assert sorted(r.status_code for r in replies) == [200] * 3 + [503] * 5
    for reply in replies:
        if reply.status_code == 503:
            assert int(reply.headers["retry-after"]) >= 1
            assert reply.json()["error"]["code"] == "overloaded"
    assert running.gateway.load.shed == 5
    assert running.chat().status_code == 200


def test_too_much_at_once(serve: Serve, upstream: WireServer) -> None:
    """Bodies that are held together are bounded, too, and given back."""
    upstream.reply = Reply(chat("late"), delay_s=0.8)
    running = serve(WIRED.format(url=upstream.base_url), limits=Limits(held_bytes=50_000))
    big = [{"role": "user", "content": "x" * 30_000}]
    first = threading.Thread(target=lambda: running.chat(messages=big))
    first.start()
    eventually(lambda: running.gateway.load.held_bytes > 30_000)
    assert running.chat(messages=big).status_code == 503
    first.join()
    assert running.chat(messages=big).status_code == 200
    eventually(lambda: running.gateway.load.held_bytes == 0)


def test_stopping_answers_what_is_under_way(serve: Serve, upstream: WireServer, tmp_path: Path) -> None:
    """A request that began is answered and recorded before the gateway is gone."""
    upstream.reply = Reply(chat("in time"), delay_s=0.7)
    running = serve(WIRED.format(url=upstream.base_url))
    replies: list[httpx2.Response] = []
    asking = threading.Thread(target=lambda: replies.append(running.chat()))
    asking.start()
    eventually(lambda: bool(upstream.received))
    running.stop()
    asking.join()
    assert replies[0].json()["choices"][0]["message"]["content"] == "in time"
    assert [r.reason for r in records(tmp_path)] == ["last_tier"]


def test_stopping_records_what_it_cuts_off(serve: Serve, upstream: WireServer, tmp_path: Path) -> None:
    """What takes longer than the gateway waits is cancelled, and its record says so."""
    upstream.reply = Reply(chat("too late"), delay_s=30)
    running = serve(WIRED.format(url=upstream.base_url), limits=Limits(shutdown_s=1))
    failed: list[BaseException | int] = []

    def ask() -> None:
        try:
            failed.append(running.chat().status_code)
        except httpx2.HTTPError as error:
            failed.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    eventually(lambda: bool(upstream.received))
    running.stop()
    asking.join()
    assert failed != [200]
    assert [r.reason for r in records(tmp_path)] == ["cancelled"]


def records(folder: Path):  # type: ignore[no-untyped-def]
    """What the journal holds."""
    store = open_store(f"sqlite:///{folder}/j.db", create=False)
    records = list(store.read(Filter()))
    store.close()
    return records
