"""What a client can do to a connection: trailers, pipelines, bodies that nobody reads, silence."""

import socket
import threading
import time
from contextlib import ExitStack, suppress

import httpx2
import pytest

from cascade.gateway.limits import Limits
from cascade.gateway.serve import protocol
from tests.cascade.gateway.auth.test_keys import eventually
from tests.cascade.gateway.conftest import Running, Serve
from tests.cascade.gateway.test_limits import SCRIPTED, WIRED, raw
from tests.wire_server import Reply, WireServer, chat, chat_events

BODY = b'{"model":"default","messages":[{"role":"user","content":"hi"}]}'
HEALTH = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
LAST = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"


def post(*headers: str, path: str = "/v1/chat/completions", host: str = "localhost") -> bytes:
    """The head of a request."""
    lines = [f"POST {path} HTTP/1.1", f"host: {host}", "content-type: application/json", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def chunked(body: bytes, trailers: bytes = b"") -> bytes:
    """A body in one chunk."""
    return b"%x\r\n%s\r\n0\r\n%s\r\n" % (len(body), body, trailers)


def status(response: bytes) -> int:
    """The status of the first response; 0: none."""
    return int(response.split(b" ")[1]) if response.startswith(b"HTTP/1.1 ") else 0


def status_of(running: Running, content: bytes) -> int:
    """The status of the first response to what is sent on a connection of its own; 0: none."""
    response = b""
    with socket.create_connection(("127.0.0.1", running.port), timeout=5) as connection, suppress(ConnectionError):
        connection.sendall(content)
        while b"\r\n" not in response and (piece := connection.recv(65536)):
            response += piece
    return status(response)


@pytest.mark.parametrize(
    ("head", "trailers", "expected"),
    [
        (post("transfer-encoding: chunked", host="evil.example"), b"host: localhost\r\n", 403),
        (post("transfer-encoding: chunked", "origin: http://evil.example"), b"origin: http://localhost\r\n", 403),
        (post("transfer-encoding: chunked").replace(b"application/json", b"text/plain"),
         b"content-type: application/json\r\n", 415),
        (post("transfer-encoding: chunked"), b"host: evil.example\r\nsec-fetch-site: cross-site\r\n", 200),
    ],
)  # fmt: skip
def test_trailers_are_no_headers(serve: Serve, head: bytes, trailers: bytes, expected: int) -> None:
    """Nothing that comes after the head replaces a header, also where everything arrives in one packet."""
    assert status_of(serve(SCRIPTED), head + chunked(BODY, trailers)) == expected


def test_a_key_in_a_trailer_is_none(serve: Serve, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """A proxy in front does not see trailers, so that they cannot authenticate anybody."""
    from cascade.gateway.auth.key_file import KeyFile

    keys = KeyFile(tmp_path / "k.db")
    _, secret = keys.create("ana")
    running = serve(SCRIPTED, key_store=keys)
    trailers = b"authorization: Bearer " + secret.encode() + b"\r\n"
    assert status_of(running, post("transfer-encoding: chunked") + chunked(BODY, trailers)) == 401


@pytest.mark.parametrize(
    "request_bytes",
    [
        HEALTH.replace(b"\r\n\r\n", b"\r\nhost: evil.example\r\n\r\n"),
        HEALTH.replace(b"\r\n\r\n", b"\r\nHost: localhost\r\n\r\n"),
        HEALTH.replace(b"/healthz", b"http://evil.example/healthz"),
        HEALTH.replace(b"/healthz", b"http://evil@localhost/healthz"),
        HEALTH.replace(b"localhost", b"localhost:8000@evil.example"),
        HEALTH.replace(b"localhost", b"evil.example"),
        HEALTH.replace(b"host: localhost\r\n", b""),
    ],
)
def test_an_unclear_host_is_rejected(serve: Serve, request_bytes: bytes) -> None:
    """Two hosts, a target elsewhere, no host, and what only begins with this machine's name."""
    assert status_of(serve(SCRIPTED), request_bytes) in (400, 403)


def test_an_absolute_target_of_this_host(serve: Serve) -> None:
    """HTTP requires every server to accept it."""
    assert status_of(serve(SCRIPTED), HEALTH.replace(b"/healthz", b"http://localhost/healthz")) == 200


@pytest.mark.parametrize("head", [
    b"GET /healthz HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n",
    post("content-length: 1000000").replace(b"application/json", b"text/plain"),
])  # fmt: skip
def test_a_body_that_nobody_reads_closes_the_connection(serve: Serve, head: bytes) -> None:
    """The response announces the close and arrives whole; an occasional byte does not keep the connection open."""
    running = serve(SCRIPTED)
    with socket.create_connection(("127.0.0.1", running.port), timeout=5) as connection:
        connection.sendall(head)
        response = b""
        began = time.monotonic()
        while data := connection.recv(65536):
            response += data
        assert b"\r\nconnection: close\r\n" in response
        assert b"}" in response
        with suppress(OSError):
            while time.monotonic() < began + 5:
                connection.sendall(b"x")
                time.sleep(0.05)
        assert time.monotonic() < began + 4


@pytest.mark.parametrize("unit", [b"a: " + b"b" * 1000 + b"\r\n", b"a:b\r\n", b"x"])
@pytest.mark.parametrize("before", [
    post("transfer-encoding: chunked") + b"%x\r\n%s\r\n0\r\n" % (len(BODY), BODY),
    post("transfer-encoding: chunked") + b"1;",
    post("transfer-encoding: chunked") + b"0000",
    b"GET /healthz HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n0\r\n",
    b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n",
    b"GET /",
])  # fmt: skip
def test_what_is_no_body_is_bounded_in_every_state(serve: Serve, before: bytes, unit: bytes) -> None:
    """Trailers, chunk extensions and heads without end: the connection closes before much was sent."""
    running = serve(SCRIPTED)
    sent = 0
    with socket.create_connection(("127.0.0.1", running.port), timeout=5) as connection:
        connection.sendall(before)
        block = unit * (8192 // len(unit))
        try:
            while sent < 8 * 2**20:
                connection.sendall(block)
                sent += len(block)
        except OSError:
            pass
    assert sent < 8 * 2**20


def test_a_client_that_pipelines_and_leaves_cancels_all(serve: Serve, upstream: WireServer) -> None:
    """A second request in the pipeline does not keep the first from being cancelled."""
    upstream.reply = Reply(chat("late"), delay_s=20)
    running = serve(WIRED.format(url=upstream.base_url))
    request = post(f"content-length: {len(BODY)}") + BODY
    with socket.create_connection(("127.0.0.1", running.port)) as connection:
        connection.sendall(request + request)
        eventually(lambda: running.gateway.active.in_flight == 1)
    eventually(lambda: running.gateway.active.in_flight == 0)
    eventually(lambda: running.gateway.load.requests == 0)


def test_pipelined_requests_are_answered_in_turn(serve: Serve) -> None:
    """A few of them; not thousands."""
    running = serve(SCRIPTED)
    assert raw(running, HEALTH * 4 + LAST).count(b"HTTP/1.1 200") == 5
    request = post(f"content-length: {len(BODY)}") + BODY
    assert raw(running, request * 3 + LAST).count(b"HTTP/1.1 200") == 4
    assert raw(running, HEALTH * 5000, 2.0).count(b"HTTP/1.1 200") < 5000


def test_a_pipeline_is_bounded(serve: Serve, upstream: WireServer) -> None:
    """What waits behind a run takes no more memory than a head does."""
    upstream.reply = Reply(chat("late"), delay_s=20)
    running = serve(WIRED.format(url=upstream.base_url))
    large = post("content-length: 10000000") + b"x" * 9_000_000
    with socket.create_connection(("127.0.0.1", running.port), timeout=5) as connection:
        connection.sendall(post(f"content-length: {len(BODY)}") + BODY)
        eventually(lambda: running.gateway.active.in_flight == 1)
        with pytest.raises(OSError):  # noqa: PT011 - reset or broken pipe
            connection.sendall(large)
    eventually(lambda: running.gateway.active.in_flight == 0)


def test_silent_connections_give_way(serve: Serve) -> None:
    """Whoever holds every connection that the gateway allows holds none against a client that has something to ask."""
    running = serve(SCRIPTED, limits=Limits(connections=20))
    with ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(socket.create_connection(("127.0.0.1", running.port)))
        for _ in range(30):
            assert httpx2.get(f"{running.url}/healthz").status_code == 200


def test_connections_in_use_do_not_give_way(serve: Serve, upstream: WireServer) -> None:
    """Where all connections are in use, a new one gets an error response."""
    upstream.reply = Reply(chat("late"), delay_s=1)
    running = serve(WIRED.format(url=upstream.base_url), limits=Limits(connections=3))
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(running.chat().status_code)) for _ in range(3)]
    for thread in threads:
        thread.start()
    eventually(lambda: running.gateway.active.in_flight == 3)
    with socket.create_connection(("127.0.0.1", running.port), timeout=5) as connection:
        response = connection.recv(65536)
    assert status(response) == 503
    assert b'"code":"overloaded"' in response
    for thread in threads:
        thread.join()
    assert statuses == [200] * 3


def test_a_half_closed_request_is_answered(serve: Serve) -> None:
    """As of a client that says with the end of its side that its request is complete."""
    running = serve(SCRIPTED)
    request = post(f"content-length: {len(BODY)}") + BODY
    for content in (HEALTH, request):
        with socket.create_connection(("127.0.0.1", running.port), timeout=5) as connection:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            response = b""
            while data := connection.recv(65536):
                response += data
        assert status(response) == 200


def test_a_client_that_leaves_is_no_error(serve: Serve, upstream: WireServer, caplog: pytest.LogCaptureFixture) -> None:
    """Whenever it leaves, the log has no traceback."""
    running = serve(WIRED.format(url=upstream.base_url))
    request = post(f"content-length: {len(BODY)}") + BODY
    streamed = BODY[:-1] + b',"stream":true}'
    stream = post(f"content-length: {len(streamed)}") + streamed
    for delay in (0.0, 0.005, 0.01, 0.02, 0.03, 0.05):
        upstream.reply = Reply(chat("x" * 100_000), delay_s=0.02)
        for content in (request, stream, HEALTH, post("content-length: 1000") + b"x"):
            connection = socket.create_connection(("127.0.0.1", running.port))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # leaves with a reset
            connection.sendall(content)
            time.sleep(delay)
            connection.close()
    eventually(lambda: running.gateway.load.requests == 0)
    assert "Traceback" not in caplog.text
    assert "a request failed" not in caplog.text


def test_bytes_between_a_response_and_the_next_request(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start the clock of a head again: half a request keeps no connection."""
    monkeypatch.setattr(protocol, "HEAD_S", 0.5)
    running: Running = serve(SCRIPTED)
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", running.port), timeout=8) as connection:
        connection.sendall(HEALTH)
        assert connection.recv(65536)
        connection.sendall(b"GET")
        assert connection.recv(65536) == b""
    assert time.monotonic() - began < 4


@pytest.mark.parametrize(
    ("head", "unit"),
    [
        (b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: ", b"y"),
        (b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n", b"x: y\r\n"),
        (b"", b"\r\n"),
        (b"", b"G"),
        (post("content-length: 10000"), b""),
        (post("content-length: 10000"), b" "),
        (post("transfer-encoding: chunked"), b"1\r\n \r\n"),
        (post("transfer-encoding: chunked") + b"1;", b"x"),
        (post("transfer-encoding: chunked") + chunked(BODY)[:-2], b"x: y\r\n"),
    ],
    ids=["value", "headers", "blank lines", "method", "no body", "body", "chunks", "extension", "trailers"],
)
def test_a_byte_now_and_then_keeps_no_connection(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, head: bytes, unit: bytes
) -> None:
    """Heads, bodies and trailers have one deadline each, which no further byte moves."""
    monkeypatch.setattr(protocol, "HEAD_S", 0.6)
    monkeypatch.setattr(protocol, "LINGER_S", 0.2)
    running = serve(SCRIPTED, limits=Limits(body_s=0.6))
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", running.port), timeout=5) as connection, suppress(OSError):
        connection.sendall(head)
        connection.settimeout(0.05)
        while time.monotonic() < began + 6:
            connection.sendall(unit)
            with suppress(TimeoutError):
                if not connection.recv(65536):
                    break
    assert time.monotonic() - began < 5
    assert httpx2.get(f"{running.url}/healthz").status_code == 200
    eventually(lambda: running.gateway.load.requests == 0)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_does_not_read(
    serve: Serve, upstream: WireServer, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """Its response is kept for a limited time."""
    monkeypatch.setattr(protocol, "FLUSH_S", 0.3)
    whole = chat("x" * 12_000_000)
    upstream.reply = Reply(events=chat_events(whole)) if stream else Reply(whole)
    running = serve(WIRED.format(url=upstream.base_url), limits=Limits(run_s=1.5))
    body = BODY[:-1] + b',"stream":%s}' % (b"true" if stream else b"false")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        connection.settimeout(10)
        connection.connect(("127.0.0.1", running.port))
        connection.sendall(post(f"content-length: {len(body)}", "connection: close") + body)
        assert connection.recv(10).startswith(b"HTTP/1.1")
        eventually(lambda: running.gateway.load.requests == 0)
        time.sleep(0.6)
        received = 0
        with suppress(OSError):
            while data := connection.recv(1_000_000):
                received += len(data)
    assert received < 12_000_000
