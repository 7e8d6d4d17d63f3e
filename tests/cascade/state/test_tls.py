"""A Redis server behind TLS: which certificates are accepted, and what the error of a refused one says.

The certificates next to this file, and the one of the gateway's tests, have the same key and were made for tests alone.
"""

import asyncio
import logging
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from cascade.errors import StateError
from cascade.resilience.store_health import StoreHealth
from cascade.state.redis_ledger import RedisLedger
from tests.redis_server import RedisServer

FOLDER = Path(__file__).with_name("tls")
LOCALHOST, EXPIRED, ELSEWHERE = (
    Path(__file__).parents[1] / "gateway" / "serve" / "localhost.pem", FOLDER / "expired.pem", FOLDER / "elsewhere.pem",
)  # fmt: skip
KEY = LOCALHOST.with_name("localhost-key.pem")
DAY = "2026-01-31 policy default"


@contextmanager
def tls(server: RedisServer, certificate: Path | None) -> Iterator[int]:
    """A port that shows the certificate and passes what it gets to the server; None: without TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate or LOCALHOST, KEY)
    listener = socket.create_server(("127.0.0.1", 0))

    def copy(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)

    opened: list[socket.socket] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                with suppress(OSError):
                    opened.append(client)
                    client = client if certificate is None else context.wrap_socket(client, server_side=True)
                    upstream = socket.create_connection(("127.0.0.1", server.port))
                    for pair in ((client, upstream), (upstream, client)):
                        threading.Thread(target=copy, args=pair, daemon=True).start()
                    opened.extend((client, upstream))

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        for one in (listener, *opened):
            one.close()


async def reserve(url: str) -> float:
    """Reserves and settles under the limits of the server at a URL; what is spent then."""
    one = RedisLedger(url, StoreHealth("rediss://127.0.0.1"))
    try:
        await one.settle(await one.reserve({DAY: 1.0}, 0.25), 0.25)
        return await one.spent(DAY)
    finally:
        one.close()


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_certificate_that_is_right(server: RedisServer, scheme: str, host: str) -> None:
    """Of a known authority, with the host's name, or its address."""
    with tls(server, LOCALHOST) as port:
        assert asyncio.run(reserve(f"{scheme}://{host}:{port}/0?ssl_ca_certs={LOCALHOST}")) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("certificate", "authority", "message"),
    [
        (LOCALHOST, None, "certificate is refused: self-signed certificate; name its authority in the URL"),
        (LOCALHOST, ELSEWHERE, "certificate is refused: self-signed certificate; name its authority in the URL"),
        (EXPIRED, EXPIRED, "certificate is refused: certificate has expired"),
        (ELSEWHERE, ELSEWHERE, r"certificate is refused: Hostname mismatch.*; write the name that the certificate has"),
        (None, LOCALHOST, r"error=(TimeoutError|.no TLS connection)"),
    ],
    ids=["no authority", "another authority", "expired", "another name", "no TLS"],
)
def test_what_is_wrong_is_said(
    server: RedisServer,
    caplog: pytest.LogCaptureFixture,
    certificate: Path | None,
    authority: Path | None,
    message: str,
) -> None:
    """In the log, where the outage begins, without the password of the URL; the request is refused."""
    caplog.set_level(logging.WARNING)
    query = "" if authority is None else f"?ssl_ca_certs={authority}"
    with tls(server, certificate) as port, pytest.raises(StateError, match="unavailable") as caught:
        asyncio.run(reserve(f"rediss://:hidden-word@localhost:{port}/0{query}"))
    assert "hidden-word" not in f"{caught.value} {caplog.text}"
    (line,) = [line for line in caplog.messages if "shared state is unavailable" in line]
    assert re.search(message, line)


def test_a_file_of_authorities_that_is_not_there(server: RedisServer) -> None:
    """An error, not a connection without a check."""
    with tls(server, LOCALHOST) as port, pytest.raises(StateError, match="unavailable"):
        asyncio.run(reserve(f"rediss://localhost:{port}/0?ssl_ca_certs=/no/such/file"))
