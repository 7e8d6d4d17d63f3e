"""The worker beside a process that sends requests: it starts that process, and carries calls to it and outcomes back.

A worker that is killed leaves its sender at work. The worker that takes its place finds it, with every reply since, so
that no request is sent twice.
"""

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from . import sender
from .calls import Call, Custody, Outcomes

_START_S = 60.0
_LONGEST_TOP = 40  # characters: the address of a socket has at most 104


class ModelWorker:
    """Carries calls to a sender, and outcomes back in the order in which they arrive.

    Args:
        run: The name of the caller's run, the same for all of its workers.
        place: This worker's number among them. A worker that takes another's place gets its number, and its sender.

    Raises:
        OSError: The sender does not start.
    """

    def __init__(self, run: str, place: int) -> None:
        self.folder = folder_of(run, place)
        self._number = 0
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._held = _hold(self.folder)
        except (ConnectionError, FileNotFoundError):
            _start(self.folder)
            self._held = _hold(self.folder)

    async def process_id(self) -> int:
        """The worker's process."""
        return os.getpid()

    async def node(self) -> str:
        """Ray's name of the machine."""
        return str(import_module("ray").get_runtime_context().get_node_id())

    async def attach(self, numbers: Sequence[int]) -> Custody:
        """What has become of the calls that the worker before this one had sent."""
        custody: Custody = await self._exchange("attach", numbers)
        self._number = custody.worker
        return custody

    async def send(self, calls: Sequence[Call], received: Sequence[int]) -> None:
        """See Sender."""
        await self._exchange("send", calls, received)

    async def collect(self, wait_s: float) -> Outcomes:
        """See Sender."""
        outcomes: Outcomes = await self._exchange("collect", self._number, wait_s)
        return outcomes

    async def close(self) -> None:
        """Ends the sender, which drops the requests under way."""
        with suppress(ConnectionError, FileNotFoundError):
            await self._exchange("close")
        self._held.close()

    async def _exchange(self, method: str, *arguments: Any) -> Any:
        return await asyncio.to_thread(sender.exchange, self.folder, method, *arguments)


def folder_of(run: str, place: int) -> Path:
    """Where a sender listens and stores replies, on each machine."""
    top = tempfile.gettempdir()
    return Path(top if len(top) <= _LONGEST_TOP else "/tmp") / f"cascade-{os.getuid()}-{run}" / str(place)


def _hold(folder: Path) -> socket.socket:
    """A connection by which the sender knows that its worker lives."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(str(folder / sender.SOCKET))
        connection.sendall(sender.message("hold"))
    except BaseException:
        connection.close()
        raise
    return connection


def _start(folder: Path) -> None:
    """Starts a sender; returns once it listens."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    started = subprocess.run(
        [sys.executable, "-m", "evals.engines.sender", str(folder)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, env=environment, timeout=_START_S, check=False, start_new_session=True,
    )  # fmt: skip
    if started.returncode:
        last = (started.stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"])[-1]
        raise OSError(f"the process that sends requests did not start: {last}")
