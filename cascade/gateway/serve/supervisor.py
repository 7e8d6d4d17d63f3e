"""``cascade serve --workers N``: starts the workers, replaces those that die, restarts them one by one on SIGHUP."""

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from cascade.errors import CascadeError
from cascade.gateway.environment import number_of
from cascade.gateway.limits import Limits
from cascade.util.log_events import Event

from .accept import ConnectionCounts
from .log_format import Log

log = logging.getLogger("cascade.gateway")

READY = b"ready\n"
WORKER = "CASCADE_INTERNAL_WORKER"
"""The environment variable that makes a process a worker: its number, how many there are, the folder that they share."""
COUNTS, LEDGER = "connections", "ledger.db"
_READY_S = 120.0
_STOP_S = Limits().shutdown_s + 15.0
_HEALTHY_S = 10.0  # a worker that dies sooner is replaced after a pause, which doubles
_FIRST_PAUSE_S, _MAX_PAUSE_S = 0.5, 30.0
_METRICS = "PROMETHEUS_MULTIPROC_DIR"
_HUNG, _HUNG_S = "CASCADE_HUNG_WORKER_S", 30  # without a heartbeat, which is sent every 0.1 s


@dataclass(slots=True, kw_only=True, eq=False)
class Supervisor:
    """The workers of one gateway.

    Args:
        options: The command line of a worker, after ``cascade serve``.
        workers: How many there are.
        listeners: The sockets that they accept on; they stay open in this process, so that no connection is lost while
            a worker is replaced.
        folder: What the workers share: their metrics, their numbers of connections.
    """

    options: Sequence[str]
    workers: int
    listeners: Sequence[socket.socket]
    folder: Path
    _current: dict[int, asyncio.subprocess.Process] = field(default_factory=dict)
    _watching: set[asyncio.Task[None]] = field(default_factory=set)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _restarting: asyncio.Lock = field(default_factory=asyncio.Lock)
    _counts: ConnectionCounts = field(init=False)
    _failures: int = 0  # workers in a row that died soon after their start

    def __post_init__(self) -> None:
        self._counts = ConnectionCounts(self.folder / COUNTS, self.workers)

    async def run(self, ready: str, output: Log) -> int:
        """Serves until a signal stops it.

        Args:
            ready: The message to write once all workers serve.
            output: Where to write it.

        Returns:
            The exit status: 0, or 2 where a worker could not start at first.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._restart_soon)
        try:
            started = await asyncio.gather(*(self._replace(slot) for slot in range(self.workers)))
            if not all(started):
                return 0 if self._stopping.is_set() else 2
            output.say(ready)
            self._keep(asyncio.ensure_future(self._end_hung_workers(number_of(_HUNG, 86_400, _HUNG_S))))
            await self._stopping.wait()
            return 0
        finally:
            self._stopping.set()
            await self._stop_all()

    def stop(self) -> None:
        """Stops the gateway."""
        self._stopping.set()

    def _restart_soon(self) -> None:
        self._keep(asyncio.ensure_future(self.restart()))

    def _keep(self, task: "asyncio.Task[None]") -> None:
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    async def restart(self) -> None:
        """Replaces the workers one by one; each serves until its successor does, and ends once its requests are answered.

        Where a new worker cannot start, the old ones stay.
        """
        async with self._restarting:
            log.warning(Event("restarting the workers one by one", workers=self.workers))
            for slot in range(self.workers):
                previous = self._current.get(slot)
                if self._stopping.is_set() or not await self._replace(slot):
                    return
                if previous is not None:
                    await self._end(previous, signal.SIGHUP)
            log.warning("all workers are restarted")

    async def _replace(self, slot: int) -> bool:
        """Starts a worker and puts it into the slot once it serves. Returns whether it does."""
        process = await self._start(slot)
        stopping = asyncio.ensure_future(self._stopping.wait())
        assert process.stdout is not None
        reading = asyncio.ensure_future(process.stdout.readline())
        done, pending = await asyncio.wait((stopping, reading), timeout=_READY_S, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        if reading not in done or reading.result() != READY:
            if not self._stopping.is_set():
                log.error(Event("a worker did not start", worker=slot, worker_pid=process.pid, status=process.returncode))
            await self._end(process, signal.SIGTERM)
            return False
        self._current[slot] = process
        self._counts.beat(slot, 0.0)  # the heartbeat of its predecessor does not count for it
        self._keep(asyncio.ensure_future(self._watch(slot, process)))
        return True

    async def _end_hung_workers(self, after_s: float) -> None:
        """Kills workers whose event loop is blocked; ``_watch`` replaces them."""
        while not self._stopping.is_set():
            for slot, process in list(self._current.items()):
                beat = self._counts.last_beat(slot)
                silent_s = monotonic() - beat
                if beat and silent_s > after_s and process.returncode is None:
                    self._counts.beat(slot, 0.0)
                    log.error(Event("a worker hangs and is killed", worker=slot, worker_pid=process.pid, seconds=silent_s))
                    with suppress(ProcessLookupError):
                        process.kill()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), min(1.0, after_s / 4))

    async def _start(self, slot: int) -> asyncio.subprocess.Process:
        descriptors = [listener.fileno() for listener in self.listeners]
        fds = [part for descriptor in descriptors for part in ("--fd", str(descriptor))]
        pipe = asyncio.subprocess.PIPE  # standard input is closed when this process ends, however it ends
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cascade", "serve", *self.options, *fds, "--stop-on-eof"),
            stdin=pipe,
            stdout=pipe,
            pass_fds=descriptors,
            env={_METRICS: str(self.folder), **os.environ, WORKER: f"{slot}/{self.workers}/{self.folder}"},
            start_new_session=True,  # Ctrl+C is sent to this process alone, which then stops the workers
        )

    async def _watch(self, slot: int, process: asyncio.subprocess.Process) -> None:
        """Replaces a worker that ends by itself."""
        began = asyncio.get_running_loop().time()
        status = await process.wait()
        self._forget(process.pid)
        if self._current.get(slot) is not process or self._stopping.is_set():
            return
        self._counts.set(slot, None)
        log.error(Event("a worker ended and is replaced", worker=slot, worker_pid=process.pid, status=status))
        lived = asyncio.get_running_loop().time() - began
        self._failures = 0 if lived > _HEALTHY_S else self._failures + 1
        while not self._stopping.is_set():
            if self._failures > 1:
                pause = min(_FIRST_PAUSE_S * 2.0 ** (self._failures - 2), _MAX_PAUSE_S)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), pause)
            if self._current.get(slot) is not process or await self._replace(slot):
                return  # a restart may have replaced it meanwhile
            self._failures += 1

    def _forget(self, pid: int) -> None:
        """Removes a worker's gauges from the metrics; its counters stay in the sums."""
        with suppress(ImportError, OSError):
            from prometheus_client.multiprocess import mark_process_dead

            mark_process_dead(pid, os.environ.get(_METRICS, str(self.folder)))  # type: ignore[no-untyped-call]

    async def _end(self, process: asyncio.subprocess.Process, number: signal.Signals) -> None:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.send_signal(number)
        try:
            async with asyncio.timeout(_STOP_S):
                await process.wait()
        except TimeoutError:
            log.error(Event("a worker did not stop and is killed", worker_pid=process.pid))
            process.kill()
            await process.wait()

    async def _stop_all(self) -> None:
        for listener in self.listeners:
            listener.close()
        await asyncio.gather(*(self._end(process, signal.SIGTERM) for process in self._current.values()))
        for task in list(self._watching):
            task.cancel()


def supervise(args: argparse.Namespace, listeners: Sequence[socket.socket], ready: str, output: Log) -> int:
    """Runs ``cascade serve --workers N``; policies and keys were checked before.

    Args:
        args: The command line.
        listeners: The sockets to serve on.
        ready: The message to write once all workers serve.
        output: Where to write it.

    Returns:
        The exit status.

    Raises:
        CascadeError: The system has no signals for it (Windows).
    """
    if not hasattr(signal, "SIGHUP"):
        raise CascadeError("--workers needs Unix; start several gateways behind a proxy instead")
    for listener in listeners:
        listener.set_inheritable(True)

    async def main(folder: Path) -> int:
        supervisor = Supervisor(options=worker_options(args), workers=args.workers, listeners=listeners, folder=folder)
        if args.stop_on_eof:
            from .listener import on_end_of_input

            loop = asyncio.get_running_loop()
            on_end_of_input(lambda: loop.call_soon_threadsafe(supervisor.stop))
        return await supervisor.run(ready, output)

    with tempfile.TemporaryDirectory(prefix="cascade-gateway-") as folder:
        return asyncio.run(main(Path(folder)))


def worker_options(args: argparse.Namespace) -> list[str]:
    """The options that a worker has in common with its supervisor."""
    options: list[str] = []
    for name in ("policy_file", "keys", "log_format", "log_level", "tls_cert", "tls_key", "tls_client_ca"):
        if (value := getattr(args, name)) is not None:
            options += [f"--{name.replace('_', '-')}", str(value)]
    return options + [f"--{name.replace('_', '-')}" for name in ("require_keys", "no_access_log") if getattr(args, name)]
