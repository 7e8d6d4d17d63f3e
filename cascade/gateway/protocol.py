"""uvicorn's HTTP protocol with limits on what comes before a request's body: its size, and the time it takes."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD_BYTES = 64 * 1024
HEAD_S = 10.0


class LimitedProtocol(HttpToolsProtocol):
    """Closes connections that send nothing, or a head that is too long or too slow: before an application hears of them."""

    _head = 0  # bytes since the head began
    _pending = True  # whether a head is not there yet
    _ended = False  # whether a request ended in the bytes that are being read
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """See asyncio: who connects must say something."""
        super().connection_made(transport)
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
