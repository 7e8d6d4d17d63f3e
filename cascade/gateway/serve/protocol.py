"""uvicorn's HTTP protocol with bounds on everything that a client can send in addition to a request's body.

It closes the connection on a head, trailers or chunk sizes that are too long, on a head that is too slow, on a body that
nobody reads, and where there are too many connections.
"""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from cascade.gateway.errors import ApiError, openai_shape
from cascade.gateway.response import dump

MAX_HEAD_BYTES = 64 * 1024
MAX_PIPELINED_BYTES = 64 * 1024
MAX_PIPELINED = 16
MAX_OVERHEAD = 8  # bytes of chunk sizes for each byte of a body
MAX_DISCARDED_BYTES = 256 * 1024  # of a body that nobody reads, before the connection is reset
HEAD_S = 10.0
FLUSH_S = 30.0  # for a client to take the rest of a response once the connection is to be closed
LINGER_S = 1.0  # until the connection closes on a client that still sends
HALF_CLOSED_S = 0.5  # a client that has left looks the same as one that has only finished sending

_TARGET = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")
_TOO_MANY = dump(openai_shape(ApiError(503, "too many connections; try again", code="overloaded")))
_OVERLOADED = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n"
    b"connection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(_TOO_MANY), _TOO_MANY)
)


@dataclass(slots=True, eq=False)
class _ResponseTransport:
    """Joins a response's head with its body, for one system call and one packet, and says when the connection closes."""

    _transport: Any
    _protocol: "LimitedProtocol"
    _head: bytes = b""
    write: Callable[[bytes], None] = field(init=False)

    def __post_init__(self) -> None:
        self.write = self._write_head

    def _write_head(self, data: bytes) -> None:
        if data.startswith(b"HTTP/1.1 1"):
            self._write_chunk(data)
            return
        if self._protocol.closes_after_response() and b"\r\nconnection: close\r\n" not in data:
            data = data[:-2] + b"connection: close\r\n\r\n"
        self._head, self.write = data, self._write_body

    def _write_body(self, data: bytes) -> None:
        head, self._head = self._head, b""
        self.write = self._write_chunk
        self._write_chunk(head + data)

    def _write_chunk(self, data: bytes) -> None:
        # A client may leave while its response is written; uvloop raises an error for a closed transport.
        if not self._transport.is_closing():
            self._transport.write(data)

    def end_response(self) -> None:
        """Sends a head without a body, as in the response to HEAD; the next data is another head."""
        if self._head:
            self._write_body(b"")
        self.write = self._write_head

    def close(self) -> None:
        """See asyncio."""
        self.end_response()
        if not self._protocol.linger():
            self._transport.close()
            if self._transport.get_write_buffer_size():  # a client that does not read would keep it for ever
                self._protocol.loop.call_later(FLUSH_S, self._transport.abort)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class LimitedProtocol(HttpToolsProtocol):
    """One connection.

    - The head of a request, and whatever else is not its body, is bounded in every state. Trailers are dropped: no field
      that follows the head can take the place of a header.
    - A request with two Host headers, or with a target on another host, is rejected.
    - After a response to a request whose body was not read, the connection closes.
    - Pipelined requests are answered in turn; a client that leaves cancels all of them.
    - At most ``max_connections`` are open. The one that has been idle for longest gives way to a new one.
    """

    max_connections = 1000
    draining = False  # each response closes its connection, so that the client's next request opens one elsewhere

    _body_bytes = 0  # of the request that is being received
    _all_body_bytes = 0  # of the connection
    _other_bytes = 0  # of that request: head, chunk sizes, trailers
    _pipelined_bytes = 0
    _discarded_bytes = 0
    _receiving_head = True
    _message_ended = False  # in the data that is being parsed
    _lingering = False
    _running: RequestResponseCycle | None = None
    _timer: asyncio.TimerHandle | None = None
    _idle_since = 0.0

    def connection_made(self, transport: Any) -> None:
        """See asyncio: a client that connects must send something."""
        super().connection_made(_ResponseTransport(transport, self))  # type: ignore[arg-type]
        self._idle_since = self.loop.time()
        if len(self.connections) > self.max_connections and not self._make_room():
            transport.write(_OVERLOADED)
            transport.close()
            return
        self.timeout_keep_alive_task = self.loop.call_later(HEAD_S, self.timeout_keep_alive_handler)

    def _make_room(self) -> bool:
        """Closes the connection that has been idle for longest; False where all are in use."""
        idle = [other for other in self.connections if isinstance(other, LimitedProtocol) and other.is_idle()]
        idle.remove(self)
        if not idle:
            return False
        min(idle, key=lambda other: other._idle_since).transport.abort()
        return True

    def is_idle(self) -> bool:
        """Whether no request is being processed."""
        return self.cycle is None or self.cycle.response_complete

    def closes_after_response(self) -> bool:
        """Whether the rest of the current request's body will not be read, or the server is being replaced."""
        running = self._running
        if running is not None and self.draining and not self.pipeline:
            running.keep_alive = False
        return running is not None and (running.more_body or not running.keep_alive)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if self._lingering or self.transport.is_closing():
            self._discarded_bytes += len(data)
            if self._discarded_bytes > MAX_DISCARDED_BYTES:
                self.transport.abort()
            return
        body_bytes, self._message_ended = self._all_body_bytes, False
        if self.pipeline:
            self._pipelined_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self.pipeline:
            waiting = max(self._pipelined_bytes, sum(len(cycle.body) for cycle, _ in self.pipeline))
            if waiting > MAX_PIPELINED_BYTES or len(self.pipeline) > MAX_PIPELINED:
                self.send_400_response("Too many pipelined requests.")
                return
            # uvicorn stops reading, so that it would not see that the client leaves; the bytes are bounded instead.
            self.flow.resume_reading()
        if self._message_ended:  # it is unknown how many of these bytes follow the end of the request
            return
        self._other_bytes += len(data) - (self._all_body_bytes - body_bytes)
        if self._other_bytes > MAX_HEAD_BYTES + MAX_OVERHEAD * self._body_bytes:
            self.send_400_response("The head, the trailers or the chunk sizes of the request are too long.")
        elif self._receiving_head and self._timer is None and self._other_bytes:
            self._timer = self.loop.call_later(HEAD_S, self._too_slow)

    def send_400_response(self, msg: str) -> None:
        """See uvicorn; a response that is being sent is cut off, since the client could take this for a part of it."""
        if self.is_idle():
            super().send_400_response(msg)
        else:
            self.transport.abort()

    def on_headers_complete(self) -> None:
        """See httptools."""
        self._receiving_head = False
        self._other_bytes = self._body_bytes = 0
        self._stop_timer()
        problem = self._head_problem()
        if problem is not None:
            self.send_400_response(problem)
        if self.transport.is_closing():
            return
        idle = self.is_idle()
        super().on_headers_complete()
        self.headers = []  # all that follows are trailers, which must not become headers of the request
        if idle:
            self._running = self.cycle

    def _head_problem(self) -> str | None:
        hosts = [value for name, value in self.headers if name == b"host"]
        if len(hosts) > 1:
            return "The request has more than one Host header."
        target = None if self.url.startswith(b"/") else _TARGET.match(self.url)
        if target is not None and [target[1].lower()] != [host.lower() for host in hosts]:
            return "The request's target is on another host than its Host header."
        return None

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        self._body_bytes += len(body)
        self._all_body_bytes += len(body)
        if self.cycle is not None and not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        """See httptools."""
        self._receiving_head = self._message_ended = True
        self._other_bytes = self._body_bytes = 0
        if self.cycle is not None and not self.transport.is_closing():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """See uvicorn."""
        running, self._running = self._running, None
        self._idle_since = self.loop.time()
        self.transport.end_response()  # type: ignore[attr-defined]
        if running is not None and running.more_body:
            self._start_lingering()
            return
        waiting = self.pipeline[-1][0] if self.pipeline else None
        super().on_response_complete()
        if waiting is not None:
            self._running, self._pipelined_bytes = waiting, 0

    def linger(self) -> bool:
        """Starts to close the connection to a client that is still sending; False where it is not."""
        running = self._running
        if running is not None and running.more_body and running.response_complete:
            self._start_lingering()
        return self._lingering

    def _start_lingering(self) -> None:
        """Ends the response and reads on for a second: closing at once could destroy the response on its way."""
        if self._lingering or self.transport.is_closing():
            return
        self._lingering = True
        self._stop_timer()
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._timer = self.loop.call_later(LINGER_S, self.transport.abort)

    def eof_received(self) -> bool:  # type: ignore[override]
        """See asyncio: a request that arrived whole is answered if that takes no time; then its client counts as gone."""
        if self.is_idle() or self._lingering or self.cycle.more_body:
            return False
        self._stop_timer()
        self.cycle.keep_alive = False
        self._timer = self.loop.call_later(HALF_CLOSED_S, self.transport.abort)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio: cancels every request of the connection, not only the latest."""
        self._stop_timer()
        for cycle in (self._running, *(cycle for cycle, _ in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)

    def _too_slow(self) -> None:
        self._timer = None
        if not self.is_idle():
            return  # the response closes the connection, or the keep-alive timer does
        if not self.transport.is_closing():
            self.transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
