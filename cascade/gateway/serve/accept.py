"""Accepts connections on a socket that several workers share, so that each of them gets about as many."""

import asyncio
import mmap
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_ENTRY = struct.Struct("qd")  # the number of connections, and the time of the last heartbeat
_CLOSED = 2**62  # of a worker that accepts nothing
_PAUSE_S = 0.001  # in which a worker with fewer connections accepts the next one
_EXHAUSTED_S = 0.5  # until more connections are accepted, after the process ran out of descriptors


class ConnectionCounts:
    """How many connections each worker has, and the time of its last heartbeat, in memory that all workers share.

    Args:
        path: The file behind the memory; it is created with ``workers`` entries.
        workers: The number of workers.
    """

    def __init__(self, path: Path, workers: int) -> None:
        if not path.exists():
            path.write_bytes(_ENTRY.pack(_CLOSED, 0.0) * workers)
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _ENTRY.size * workers)
        self._workers = workers

    def set(self, worker: int, connections: int | None) -> None:
        """Sets a worker's number; None: it accepts nothing, so that no worker waits for it."""
        number = _CLOSED if connections is None else connections
        struct.pack_into("q", self._memory, _ENTRY.size * worker, number)

    def beat(self, worker: int, now: float) -> None:
        """Records a worker's heartbeat, by the machine's monotonic clock; 0.0: it has not begun."""
        struct.pack_into("d", self._memory, _ENTRY.size * worker + 8, now)

    def last_beat(self, worker: int) -> float:
        """The time of a worker's last heartbeat; 0.0: none yet."""
        beat: float = _ENTRY.unpack_from(self._memory, _ENTRY.size * worker)[1]
        return beat

    def fewest(self, but: int) -> int | None:
        """The fewest connections of any other worker that accepts; None where there is none."""
        numbers = (n for i, (n, _) in enumerate(_ENTRY.iter_unpack(self._memory[:])) if i != but and n < _CLOSED)
        return min(numbers, default=None)


@dataclass(slots=True, kw_only=True, eq=False)
class Acceptor:
    """Accepts on one socket; a worker with more connections than another leaves it the next one for a millisecond.

    Args:
        listener: The listening socket, which does not block.
        worker: The worker's number.
        counts: All workers' connections.
        connections: How many this worker has.
        protocol: Makes the protocol of a connection.
        tls: The TLS context; None: plain HTTP.
    """

    listener: socket.socket
    worker: int
    counts: ConnectionCounts
    connections: Callable[[], int]
    protocol: Callable[[], asyncio.Protocol]
    tls: Any = None
    _loop: asyncio.AbstractEventLoop = field(init=False)
    _paused: asyncio.TimerHandle | None = field(init=False, default=None)
    _opening: set[asyncio.Task[Any]] = field(init=False, default_factory=set)

    def start(self) -> None:
        """Starts to accept."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self.listener.fileno(), self._accept_in_turn)
        self.count()

    def stop(self) -> None:
        """Accepts nothing more; other workers accept the connections that wait in the socket's queue."""
        self._loop.remove_reader(self.listener.fileno())
        if self._paused is not None:
            self._paused.cancel()
        self.counts.set(self.worker, None)

    def count(self) -> int:
        """Publishes how many connections this worker has, those included that are being opened."""
        number = self.connections() + len(self._opening)
        self.counts.set(self.worker, number)
        return number

    def _accept_in_turn(self) -> None:
        fewest, mine = self.counts.fewest(self.worker), self.count()
        if fewest is not None and mine > fewest + fewest // 32:
            self._pause(_PAUSE_S)
        else:
            self._accept()

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self.listener.fileno())
        self._paused = self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        self._paused = None
        self._loop.add_reader(self.listener.fileno(), self._accept_in_turn)
        self._accept()  # the others have had the time to accept it; they may be busy

    def _accept(self) -> None:
        try:
            connection, _ = self.listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError:
            self._pause(_EXHAUSTED_S)
            return
        connection.setblocking(False)
        if connection.family != getattr(socket, "AF_UNIX", None):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._opening.add(task := self._loop.create_task(self._open(connection)))
        task.add_done_callback(self._opening.discard)
        self.count()

    async def _open(self, connection: socket.socket) -> None:
        # The client has left at once, or its TLS handshake has failed: that is no error of the server.
        with suppress(OSError):
            await self._loop.connect_accepted_socket(self.protocol, connection, ssl=self.tls)
