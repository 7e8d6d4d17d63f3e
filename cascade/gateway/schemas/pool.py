"""Compiles clients' schemas and validates against them in worker processes, which can be killed.

How long that takes is up to the client: a schema of a few kilobytes can take minutes. A thread would not help, since
jsonschema holds the interpreter's lock. What is known to be small is done in the event loop, which is faster.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from cascade.gateway.errors import ApiError, bad_request
from cascade.gateway.response import dump
from judges.schema import InvalidSchemaError, checker
from judges.schema.cache import ByteBoundedCache
from judges.schema.offload import Outcome, is_small

from .process import HEADER

LIMIT_S = 2.0
START_S = 30.0
MAX_WAITING = 64
_MOST_WAITS = 5
_VALID = ""
_CACHE_BYTES = 2**20
_INHERITED = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "SYSTEMROOT", "TMPDIR")  # no API keys


class SchemaPool:
    """Worker processes for schemas, started when they are first needed.

    Args:
        workers: Most processes.
        limit_s: Seconds of CPU time that one schema may take to compile, or one answer to validate.
    """

    def __init__(self, workers: int = 2, limit_s: float = LIMIT_S) -> None:
        self._limit_s, self._waiting = limit_s, 0
        self._idle: list[_Worker] = []
        self._slots = asyncio.Semaphore(workers)
        # What is wrong with a schema, by its JSON text; _VALID: nothing.
        self._problems: ByteBoundedCache[str] = ByteBoundedCache(1024, _CACHE_BYTES)

    async def check(self, schema: Mapping[str, Any], name: str) -> None:
        """Checks that a value is a JSON Schema.

        Args:
            schema: The value, within the bounds of ``bounds``.
            name: The field for the error.

        Raises:
            ApiError: 400 where it is not a schema, or takes too long to compile; 503 where too many schemas wait.
        """
        text = dump(schema)
        problem = self._problems.get(text)
        if problem is None:
            problem = await self._problem(schema, text)
            self._problems.put(text, problem, len(text) + 100)
        if problem != _VALID:
            raise bad_request(f"is not a JSON Schema that can be used: {problem}", name)

    async def _problem(self, schema: Mapping[str, Any], text: bytes) -> str:
        if is_small(schema):
            try:
                checker(schema)
            except InvalidSchemaError as error:
                return str(error)[:300]
            return _VALID
        response = await self._call(b'{"schema":%s}' % text)
        if response is None:
            return f"it takes more than {self._limit_s:g} s to compile; simplify it"
        return response["problem"] or _VALID

    async def validate(self, schema: Mapping[str, Any], text: str, options: Mapping[str, Any]) -> Outcome:
        """Validates an answer; see ``judges.schema.offload``.

        Raises:
            InvalidSchemaError: The schema is not valid.
            ApiError: 503 where too many validations wait.
        """
        request = b'{"schema":%s,"text":%s,"options":%s}' % (dump(schema), dump(text), dump(options))
        response = await self._call(request)
        if response is None:
            return Outcome("$: the validation took too long")
        if response["problem"] is not None:
            raise InvalidSchemaError(response["problem"])
        del response["problem"]
        return Outcome(**response)

    async def _call(self, request: bytes) -> Any:
        """A worker's response; None where it took too long."""
        if self._waiting >= MAX_WAITING:
            raise ApiError(503, "too many schemas are being processed; try again", code="overloaded", retry_after_s=1)
        self._waiting += 1
        try:
            async with self._slots:
                worker = self._idle.pop() if self._idle else await _Worker.start()
                try:
                    response = await worker.call(request, self._limit_s)
                except BaseException:  # also when cancelled: its response would be taken for the next request's
                    worker.kill()
                    raise
                self._idle.append(worker)
        except (TimeoutError, OSError, EOFError):
            return None
        finally:
            self._waiting -= 1
        return json.loads(response)

    async def aclose(self) -> None:
        """Ends the processes."""
        while self._idle:
            self._idle.pop().kill()


class _Worker:
    """One process, and the socket to it."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process, self._reader, self._writer = process, reader, writer

    @classmethod
    async def start(cls) -> "_Worker":
        """Starts a process and waits until it has loaded its modules."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.to_thread(_spawn, theirs.fileno())
        try:
            reader, writer = await asyncio.open_connection(sock=ours)
            worker = cls(process, reader, writer)
            async with asyncio.timeout(START_S):
                await reader.readexactly(5)
        except BaseException:
            process.kill()
            ours.close()
            await asyncio.to_thread(process.wait)
            raise
        return worker

    async def call(self, request: bytes, limit_s: float) -> bytes:
        """Sends a request and waits for the response. Raises TimeoutError, OSError, EOFError.

        The limit is one of CPU time, which a busy machine does not change; without /proc, and for at most ``_MOST_WAITS``
        times as long, it is one of the clock.
        """
        began = _cpu_s(self._process.pid)
        exchange = asyncio.ensure_future(self._exchange(request))
        try:
            for _ in range(_MOST_WAITS):
                done, _ = await asyncio.wait((exchange,), timeout=limit_s)
                if done:
                    return exchange.result()
                now = _cpu_s(self._process.pid)
                if began is None or now is None or now - began >= 0.9 * limit_s:
                    break
            raise TimeoutError
        finally:
            exchange.cancel()

    async def _exchange(self, request: bytes) -> bytes:
        self._writer.write(HEADER.pack(len(request)))
        self._writer.write(request)
        await self._writer.drain()
        (length,) = HEADER.unpack(await self._reader.readexactly(HEADER.size))
        return await self._reader.readexactly(length)

    def kill(self) -> None:
        """Kills the process."""
        self._process.kill()
        self._writer.close()
        self._process.wait()  # SIGKILL takes milliseconds


def _cpu_s(pid: int) -> float | None:
    """The CPU time that a process has used; None where the system does not say."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return None


def _spawn(descriptor: int) -> "subprocess.Popen[bytes]":
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    command = [sys.executable, "-m", "cascade.gateway.schemas.process", str(descriptor)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(descriptor,), env=environment)
