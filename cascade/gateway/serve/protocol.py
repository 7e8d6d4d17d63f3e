"""uvicorn's HTTP protocol with limits on what comes before a request's body, and answers in one piece."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD_BYTES = 64 * 1024
HEAD_S = 10.0


class _Joined:
    """A transport that keeps the head of an answer back until its body comes: one system call, and one packet, for both."""

    __slots__ = ("_head", "_transport", "write")

    def __init__(self, transport: Any) -> None:
        self._transport, self._head = transport, b""
        self.write = self._first

    def _first(self, data: bytes) -> None:
        if data.startswith(b"HTTP/1.1 2"):
            self._head, self.write = data, self._second
        else:
            self._transport.write(data)

    def _second(self, data: bytes) -> None:
        self.write = self._first
        head, self._head = self._head, b""
        self._transport.write(head + data)

    def flush(self) -> None:
        """Sends a head that no body followed, as in the answer to HEAD."""
        if self._head:
            self._second(b"")

    def close(self) -> None:
        """See asyncio."""
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class LimitedProtocol(HttpToolsProtocol):
    """Closes connections that send nothing, or a head that is too long or too slow: before an application hears of them."""

    _head = 0  # bytes since the head began
    _pending = True  # whether a head is not there yet
    _ended = False  # whether a request ended in the bytes that are being read
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """See asyncio: who connects must say something."""
        super().connection_made(_Joined(transport))  # type: ignore[arg-type]
        self.timeout_keep_alive_task = self.loop.call_later(HEAD_S, self.timeout_keep_alive_handler)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._ended = False
        super().data_received(data)
        if not self._pending or self._ended:  # how much of these bytes follows the request's end nobody says
            return
        self._head += len(data)
        if self._head > MOST_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The head of the request is too long.")
        elif self._timer is None and self._head:
            self._timer = self.loop.call_later(HEAD_S, self._too_slow)

    def on_headers_complete(self) -> None:
        """See httptools."""
        self._pending, self._head = False, 0
        self._stop()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """See httptools."""
        self._pending = self._ended = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """See uvicorn."""
        self.transport.flush()  # type: ignore[attr-defined]
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._stop()
        super().connection_lost(exc)

    def _too_slow(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.close()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
