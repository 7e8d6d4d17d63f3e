"""A process that sends a worker's requests and outlives it: what is under way when the worker is killed is answered still.

``python -m evals.engines.sender FOLDER`` listens on a socket in the folder, and returns once it does, leaving a process of
its own behind. That process keeps each reply, also on the disk, until the command has it; it ends when it is told to, or
when no worker has been connected for a while.
"""

import asyncio
import os
import pickle
import shutil
import socket
import sys
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from cascade.errors import CascadeError
from cascade.models.factory import build
from cascade.models.protocol import Model, ModelError
from judges import Usage

from .calls import Call, Custody, Fault, Outcome, Outcomes

SOCKET = "socket"
IDLE_S = 60.0  # without a worker; another takes a dead one's place within seconds
_LINGER_S = 0.002  # after the first reply, so that replies that arrive together are handed over together
_UNAUTHORIZED = 401


class Sender:
    """Sends requests, many at once, and keeps each reply until the command has it.

    Args:
        folder: Where replies are stored; those of a sender before this one are read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.identity = uuid.uuid4().hex
        self._models: dict[str, Model] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._outcomes: dict[int, bytes] = {}
        self._not_collected: set[int] = set()
        self._seen: set[int] = set()
        self._any_outcome = asyncio.Event()
        self._worker = 0
        for file in folder.iterdir():
            # What was cut off by a kill is not there under such a name.
            if file.name.isdecimal():
                self._outcomes[int(file.name)] = file.read_bytes()
        self._seen.update(self._outcomes)

    async def attach(self, numbers: Sequence[int]) -> Custody:
        """What has become of these calls; from now on replies go to whoever asks this."""
        self._worker += 1
        self._not_collected.clear()
        return Custody(
            sender=self.identity,
            worker=self._worker,
            outcomes={number: self._outcomes[number] for number in numbers if number in self._outcomes},
            under_way=[number for number in numbers if number in self._tasks],
        )

    async def send(self, calls: Sequence[Call], received: Sequence[int]) -> None:
        """Begins to send requests; a call that was sent before is not sent again.

        Args:
            calls: The requests.
            received: The numbers of earlier calls whose replies the command has.
        """
        self._forget(received)
        for call in calls:
            if call.number not in self._seen:
                self._seen.add(call.number)
                self._tasks[call.number] = asyncio.create_task(self._answer(call))

    async def collect(self, worker: int, wait_s: float) -> Outcomes:
        """The replies since the last call; waits for one so many seconds. A worker that was replaced gets none."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._any_outcome.wait(), wait_s)
            await asyncio.sleep(_LINGER_S)
        if worker != self._worker:
            return {}
        numbers, self._not_collected = self._not_collected, set()
        self._any_outcome.clear()
        return {number: self._outcomes[number] for number in numbers if number in self._outcomes}

    async def close(self) -> None:
        """Drops the requests under way, closes the connections, removes the folder."""
        self._any_outcome.set()  # ends a collect
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for model in self._models.values():
            await model.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            self.folder.parent.rmdir()

    async def _answer(self, call: Call) -> None:
        outcome: Outcome
        try:
            if call.name not in self._models:
                self._models[call.name] = build(call.name, call.spec)
            outcome = tuple(await self._models[call.name].answer(call.prompt, call.request))
        except ModelError as error:
            outcome = Fault.of(error)
        except CascadeError as error:  # its key is not in the worker's environment
            outcome = _fault(call, f"a worker cannot use it: {error}", _UNAUTHORIZED, Usage())
        except Exception as error:
            outcome = _fault(call, f"{call.name}: the worker failed with {type(error).__name__}", None, None)
        data = pickle.dumps(outcome, pickle.HIGHEST_PROTOCOL)
        self._store(call.number, data)
        self._outcomes[call.number] = data
        self._not_collected.add(call.number)
        del self._tasks[call.number]
        self._any_outcome.set()

    def _store(self, number: int, data: bytes) -> None:
        """Puts a reply into the folder; a full disk only means that a kill of this process would lose it."""
        with suppress(OSError):
            half = self.folder / f"{number}.half"
            with open(half, "wb", buffering=0, opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                file.write(data)
            os.replace(half, self.folder / str(number))

    def _forget(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            if self._outcomes.pop(number, None) is not None:
                with suppress(OSError):
                    os.unlink(self.folder / str(number))


def _fault(call: Call, message: str, status: int | None, usage: Usage | None) -> Fault:
    return Fault(
        message=message, model=call.name, retryable=False, status=status, usage=usage, retry_after_s=None, kind="other"
    )


async def serve(listener: socket.socket, folder: Path, idle_s: float = IDLE_S) -> None:
    """Serves until ``close``, or until no worker has been connected for ``idle_s`` seconds.

    Each connection carries one method's name with its arguments, pickled, and back what it returns. ``hold`` returns
    nothing: a worker keeps such a connection for as long as it lives.
    """
    sender, over, holders = Sender(folder), asyncio.Event(), 0
    idle = asyncio.get_running_loop().call_later(idle_s, over.set)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal holders, idle
        with suppress(ConnectionError):
            method, arguments = pickle.loads(await reader.readexactly(int.from_bytes(await reader.readexactly(8))))
            if method == "hold":
                idle.cancel()
                holders += 1
                with suppress(ConnectionError):
                    await reader.read()
                holders -= 1
                if not holders:
                    idle = asyncio.get_running_loop().call_later(idle_s, over.set)
            else:
                writer.write(pickle.dumps(await getattr(sender, method)(*arguments), pickle.HIGHEST_PROTOCOL))
                await writer.drain()
                if method == "close":
                    over.set()
            writer.close()

    server = await asyncio.start_unix_server(answer, sock=listener)
    await over.wait()
    server.close()
    if folder.exists():
        await sender.close()


def start(folder: Path) -> None:
    """Listens in the folder, and goes on in a process of its own; the one that calls this returns, or exits with it."""
    path = folder / SOCKET
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(64)
    if os.fork():
        return
    os.setsid()  # what ends the worker with its process group, or its children, spares this process
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stderr.fileno())
    asyncio.run(serve(listener, folder))
    os._exit(0)


def message(method: str, *arguments: Any) -> bytes:
    """A call as it travels to the sender."""
    data = pickle.dumps((method, arguments), pickle.HIGHEST_PROTOCOL)
    return len(data).to_bytes(8) + data


def exchange(folder: Path, method: str, *arguments: Any) -> Any:
    """Calls a method of the sender that listens in the folder. Raises ConnectionError, FileNotFoundError: there is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(folder / SOCKET))
        connection.sendall(message(method, *arguments))
        with connection.makefile("rb") as file:
            reply = file.read()
    if not reply:
        raise ConnectionResetError("the sender ended")
    return pickle.loads(reply)


if __name__ == "__main__":
    start(Path(sys.argv[1]))
