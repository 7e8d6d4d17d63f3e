"""What a client reads where something fails: its shape, and nothing that only concerns the operator."""

import json
import socket
import sqlite3
import threading
import time

import httpx2
import pytest

from cascade.gateway.limits import Limits
from cascade.journal.sqlite import SqliteStore
from tests.cascade.gateway.auth.test_keys import eventually
from tests.cascade.gateway.conftest import POLICIES, Running, Serve
from tests.cascade.gateway.test_limits import SCRIPTED, WIRED
from tests.wire_server import Reply, WireServer, chat

SECRET = "organisation org-4711 at http://10.0.0.7:8080/internal"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 429, 500, 503])
@pytest.mark.parametrize("stream", [False, True])
def test_a_providers_text_goes_to_the_log_alone(
    running: Running, upstream: WireServer, caplog: pytest.LogCaptureFixture, status: int, stream: bool
) -> None:
    """The client gets a code and the id under which the log has the text."""
    upstream.reply = Reply({"error": {"message": SECRET, "type": SECRET, "code": SECRET}}, status=status)
    response = running.chat(stream=stream)
    assert response.status_code in (400, 429, 502)
    for word in ("org-4711", "10.0.0.7", "internal"):
        assert word not in response.text
        assert word not in str(response.headers)
    run_id = response.json()["error"]["cascade"]["run_id"]
    assert run_id in caplog.text
    assert response.json()["error"]["code"]


def test_a_model_that_cannot_be_reached(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """Its address stays here."""
    running = serve(POLICIES.format(url="http://127.0.0.1:9"))
    response = running.chat()
    assert response.status_code == 502
    assert "127.0.0.1" not in response.text
    assert response.json()["error"]["cascade"]["run_id"] in caplog.text


def test_a_run_that_hangs_when_the_gateway_stops(serve: Serve, upstream: WireServer) -> None:
    """Is answered with a 503 in the interface's shape; a stream ends with an error event."""
    upstream.reply = Reply(chat("too late"), delay_s=30)
    running = serve(WIRED.format(url=upstream.base_url), limits=Limits(shutdown_s=1))
    responses: dict[str, httpx2.Response] = {}

    def ask(name: str, path: str, **fields: object) -> None:
        body = {"model": "default", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}], **fields}
        responses[name] = running.post(path, body)

    threads = [
        threading.Thread(target=ask, args=("openai", "/v1/chat/completions")),
        threading.Thread(target=ask, args=("anthropic", "/v1/messages")),
    ]
    for thread in threads:
        thread.start()
    eventually(lambda: running.gateway.active.in_flight == 2)
    running.stop()
    for thread in threads:
        thread.join()
    assert [responses[name].status_code for name in ("openai", "anthropic")] == [503, 503]
    assert responses["openai"].json()["error"]["code"] == "shutting_down"
    assert responses["anthropic"].json()["error"]["type"] == "overloaded_error"
    assert responses["openai"].headers["retry-after"]


def test_not_ready_while_the_journal_cannot_be_written(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk takes the gateway out of service until records can be written again; nothing is lost."""
    running = serve("journal: {url: sqlite:///j.db}" + SCRIPTED)
    assert httpx2.get(f"{running.url}/readyz").status_code == 200

    def full(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(SqliteStore, "write", full)
        assert running.chat().status_code == 200
        eventually(lambda: httpx2.get(f"{running.url}/readyz").status_code == 503)
        error = httpx2.get(f"{running.url}/readyz").json()["error"]
        assert (error["code"], "journal" in error["message"]) == ("not_ready", True)
        assert httpx2.get(f"{running.url}/healthz").status_code == 200
    eventually(lambda: httpx2.get(f"{running.url}/readyz").status_code == 200)


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "null"},
        {"origin": "http://localhost:1"},
        {"origin": "http://127.0.0.1:1"},
        {"origin": "http://localhost.evil.example"},
        {"origin": "http://evil.example@localhost"},
        {"host": "localhost:8000@evil.example"},
        {"host": "evil.example"},
        {"host": "localhost:x"},
        {"host": "[::1].evil.example"},
    ],
)
@pytest.mark.parametrize("path", ["/healthz", "/v1/models", "/metrics", "/dashboard"])
def test_pages_of_other_sites_are_rejected(serve: Serve, headers: dict[str, str], path: str) -> None:
    """Without keys, nothing that a browser says comes from another site or another port of this machine is served."""
    response = httpx2.get(serve(SCRIPTED).url + path, headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) in [(403, "wrong_host"), (403, "wrong_origin")]


def test_the_gateways_own_page_is_served(serve: Serve) -> None:
    """By each of this machine's names."""
    running = serve(SCRIPTED)
    for host in (f"localhost:{running.port}", f"127.0.0.1:{running.port}", f"[::1]:{running.port}", "LOCALHOST"):
        headers = {"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}
        assert httpx2.get(f"{running.url}/dashboard", headers=headers).status_code == 200
    assert httpx2.get(f"{running.url}/dashboard", headers={"sec-fetch-site": "none"}).status_code == 200


CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
GET = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n"


@pytest.mark.parametrize(
    "content",
    [
        CHAT + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        CHAT + b"content-length: 5\r\ncontent-length: 6\r\n\r\n12345",
        CHAT + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        GET + b"bad header: x\r\n\r\n",
        GET + b" folded: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\nhost: localhost\n\n",
    ],
)
def test_smuggling_is_rejected(serve: Serve, content: bytes) -> None:
    """What two servers could read in two ways is read in none; what follows it is not a request."""
    running = serve(SCRIPTED)
    with socket.create_connection(("127.0.0.1", running.port), timeout=2) as connection:
        connection.sendall(content + b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n")
        response, began = b"", time.monotonic()
        try:
            while time.monotonic() < began + 2 and (data := connection.recv(65536)):
                response += data
        except OSError:
            pass
    assert b'"object":"list"' not in response
    assert b"HTTP/1.1 200" not in response


@pytest.mark.parametrize("path", ["/dashboard/../../keys.py", "/dashboard/%2e%2e/%2e%2e/app.py", "/dashboard//etc/passwd"])
def test_traversal(serve: Serve, path: str) -> None:
    """Only the page's own files are served."""
    running = serve(SCRIPTED)
    with socket.create_connection(("127.0.0.1", running.port), timeout=2) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
        response = b""
        while data := connection.recv(65536):
            response += data
    assert json.loads(response.partition(b"\r\n\r\n")[2])["error"]["code"] == "not_found"
