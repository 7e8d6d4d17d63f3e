"""The clients and the upstream of a gateway in one thread that costs next to nothing: sockets, epoll, ready-made bytes.

A client and an upstream on asyncio take 0.25 ms of processor time a request, which on two cores two workers lack. Here it
is 0.04 ms. Both sides speak real HTTP/1.1 on connections that stay open.
"""

import json
import select
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter

from tests.benchmarks.bench_gateway import request_of
from tests.wire_server import chat

_LENGTH = b"content-length:"


@dataclass(slots=True)
class _Connection:
    """One socket, and what has come of the message that is being read."""

    socket: socket.socket
    is_client: bool
    buffer: bytes = b""
    sent_at: float = 0.0


@dataclass(slots=True, kw_only=True)
class Measured:
    """What one measurement saw: how long it took, and the seconds from each request to its response."""

    seconds: float
    latencies: list[float] = field(default_factory=list)


class WireLoad:
    """Listens as the upstream from the start; it serves while ``ask`` runs."""

    def __init__(self) -> None:
        body = json.dumps(chat("42")).encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self._answer = head.encode() + body
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listener.setblocking(False)
        self.port = int(self._listener.getsockname()[1])
        self._epoll = select.epoll()
        self._epoll.register(self._listener, select.EPOLLIN)
        self._connections: dict[int, _Connection] = {}

    def ask(self, port: int, requests: int, connections: int, warm_up: int = 4) -> Measured:
        """Sends requests to a gateway, each connection another one as soon as it has its response.

        Args:
            port: The gateway's.
            requests: How many are measured.
            connections: How many are under way at once.
            warm_up: Requests of each connection before the clock starts; the gateway opens its own connections in them.
        """
        clients = [self._open(port) for _ in range(connections)]
        request = request_of(port)
        self._run(clients, request, warm_up * connections)
        result = self._run(clients, request, requests)
        for client in clients:
            self._drop(client)
        return result

    def close(self) -> None:
        """Closes everything."""
        for connection in list(self._connections.values()):
            self._drop(connection)
        self._epoll.close()
        self._listener.close()

    def _run(self, clients: Sequence[_Connection], request: bytes, requests: int) -> Measured:
        began = perf_counter()
        latencies: list[float] = []
        connections, poll, listener = self._connections, self._epoll.poll, self._listener.fileno()
        left = requests - len(clients)
        for client in clients:
            client.sent_at = perf_counter()
            client.socket.sendall(request)
        while len(latencies) < requests:
            for descriptor, _ in poll(30):
                if descriptor == listener:
                    self._accept()
                    continue
                connection = connections[descriptor]
                if not self._has_message(connection):
                    continue
                if not connection.is_client:
                    connection.socket.sendall(self._answer)
                    continue
                now = perf_counter()
                latencies.append(now - connection.sent_at)
                if left > 0:
                    left -= 1
                    connection.sent_at = now
                    connection.socket.sendall(request)
        return Measured(seconds=perf_counter() - began, latencies=latencies)

    def _has_message(self, connection: _Connection) -> bool:
        """Reads; whether a whole request or response is there."""
        data = connection.socket.recv(65536)
        if not data:
            if connection.is_client:
                raise ConnectionError("the gateway closed a connection")
            self._drop(connection)
            return False
        data = connection.buffer + data
        end = data.find(b"\r\n\r\n") + 4
        if end >= 4:
            at = data[:end].lower().find(_LENGTH) + len(_LENGTH)
            if len(data) >= end + int(data[at : data.index(b"\r\n", at)]):
                if connection.is_client and not data.startswith(b"HTTP/1.1 200"):
                    raise ConnectionError(f"the gateway answered {data[:200]!r}")
                connection.buffer = b""
                return True
        connection.buffer = data
        return False

    def _open(self, port: int) -> _Connection:
        return self._add(socket.create_connection(("127.0.0.1", port)), is_client=True)

    def _accept(self) -> None:
        self._add(self._listener.accept()[0], is_client=False)

    def _add(self, one: socket.socket, *, is_client: bool) -> _Connection:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = self._connections[one.fileno()] = _Connection(one, is_client)
        self._epoll.register(one, select.EPOLLIN)
        return connection

    def _drop(self, connection: _Connection) -> None:
        self._epoll.unregister(connection.socket)
        del self._connections[connection.socket.fileno()]
        connection.socket.close()
