"""A client that goes away at each of many points of a run: the run ends, is recorded, and holds nothing back."""

import json
import socket
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.cascade.gateway.conftest import Running, Serve
from tests.wire_server import Received, Reply, WireServer, chat, chat_events

POLICIES = """
journal: {{url: "sqlite:///{folder}/j.db", durability: full}}
models:
  small: {{provider: openai, model: small, base_url: "{url}/v1", price: {{input_per_mtok: 1, output_per_mtok: 1}},
    retry: {{attempts: 2, max_backoff_s: 20}}}}
  judge: {{provider: openai, model: judge, base_url: "{url}/v1", price: {{input_per_mtok: 1, output_per_mtok: 1}}}}
  large: {{provider: openai, model: large, base_url: "{url}/v1", price: {{input_per_mtok: 1, output_per_mtok: 1}}}}
policies:
  default:
    budget_usd_per_day: 100
    tiers:
      - {{name: cheap, model: small, accept_at: 0.9, judges: [{{use: verifier, model: judge}}]}}
      - {{name: premium, model: large, accept_at: 0.0}}
"""
WORDS = "word " * 40


class Scene:
    """The providers of one run: ``held`` is the model that keeps its answer back, ``status`` what the small one says."""

    def __init__(self, held: str = "", *, status: int = 200, streams: bool = False) -> None:
        self.held, self.status, self.streams = held, status, streams
        self.reached = threading.Event()

    def __call__(self, received: Received) -> Reply:
        model = received.body["model"]
        if model == self.held:
            self.reached.set()
            if self.streams:
                return Reply(events=chat_events(chat(WORDS)), gap_s=0.2)
            return Reply(chat("late"), delay_s=20)
        if model == "small" and self.status != 200:
            self.reached.set()
            return Reply({"error": {"message": "down"}}, status=self.status, headers={"retry-after": "15"})
        body = chat("no" if model == "judge" else WORDS)
        return Reply(events=chat_events(body)) if received.body.get("stream") else Reply(body)


def request(running: Running, *, stream: bool) -> bytes:
    """A chat completion as it stands on the wire."""
    message = [{"role": "user", "content": "What is 17 * 3?"}]
    body = json.dumps({"model": "default", "messages": message, "stream": stream}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{running.port}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def reached(client: socket.socket, scene: Scene) -> None:
    """Until the provider that holds its answer back has the request."""
    assert scene.reached.wait(20)


def backing_off(client: socket.socket, scene: Scene) -> None:
    """Until the provider has failed and the pause before the next try has begun."""
    reached(client, scene)
    time.sleep(0.3)


def read_until(mark: bytes) -> Callable[[socket.socket, Scene], None]:
    """Until the response has come so far."""

    def wait(client: socket.socket, _: Scene) -> None:
        data = b""
        while mark not in data:
            data += client.recv(65536)

    return wait


def at_once(client: socket.socket, _: Scene) -> None:
    """Without waiting."""


POINTS = {
    "in the request's head": (Scene(), False, 40, at_once, None),
    "in the request's body": (Scene(), False, -20, at_once, None),
    "right after the request": (Scene("small"), False, None, at_once, "any"),
    "while the first tier answers": (Scene("small"), False, None, reached, "cancelled"),
    "in the pause before another try": (Scene(status=503), False, None, backing_off, "cancelled"),
    "while a judge asks its model": (Scene("judge"), False, None, reached, "cancelled"),
    "while the last tier answers": (Scene("large"), False, None, reached, "cancelled"),
    "while the first tier streams": (Scene("small", streams=True), True, None, reached, "cancelled"),
    "before the first token": (Scene("judge"), True, None, reached, "cancelled"),
    "between two tokens": (Scene("large", streams=True), True, None, read_until(b'"content":"word'), "cancelled"),
    "after the answer, before it is read": (Scene(), False, None, read_until(b"HTTP/1.1 200"), "answered"),
}


def recorded(folder: Path) -> list[str]:
    """Whether each recorded run was answered or cancelled, in their order."""
    with closing(sqlite3.connect(folder / "j.db")) as connection:
        reasons = connection.execute("SELECT reason FROM cascade_runs ORDER BY id").fetchall()
    return [reason if reason == "cancelled" else "answered" for (reason,) in reasons]


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("point", POINTS)
def test_a_run_ends_with_its_client(serve: Serve, upstream: WireServer, tmp_path: Path, point: str, reset: bool) -> None:
    """Nothing stays under way or reserved, the journal says what became of the run, and the next client is answered."""
    scene, stream, sent, wait, reason = POINTS[point]
    scene.reached.clear()
    upstream.reply = scene
    running = serve(POLICIES.format(url=upstream.base_url, folder=tmp_path))
    client = socket.create_connection(("127.0.0.1", running.port), 20)
    client.sendall(request(running, stream=stream)[:sent])
    wait(client, scene)
    if reset:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()

    def is_over() -> bool:
        return running.gateway.load.requests == 0 and running.gateway.active.in_flight == 0

    until(lambda: is_over() and (reason in (None, "any") or len(recorded(tmp_path)) == 1))
    # A run whose client left at once may not have begun, and may find the next client's providers.
    outcomes = [[], ["cancelled"], ["answered"]] if reason == "any" else [[] if reason is None else [reason]]
    assert recorded(tmp_path) in outcomes
    upstream.reply = Scene()
    assert running.chat().status_code == 200
    until(lambda: sorted(recorded(tmp_path)) in [sorted([*outcome, "answered"]) for outcome in outcomes])


def until(done: Callable[[], bool]) -> None:
    """Waits until something holds."""
    ends = time.monotonic() + 20
    while not done():
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.01)
