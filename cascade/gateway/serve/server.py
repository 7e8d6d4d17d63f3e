"""``python -m cascade serve``."""

import argparse
import asyncio
import gc
import logging
import os
import shutil
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import uvicorn

from cascade.errors import CascadeError
from cascade.gateway.app import make_app
from cascade.gateway.auth.commands import key_store
from cascade.gateway.auth.key_store import KeyStore
from cascade.gateway.auth.keys import is_loopback
from cascade.gateway.auth.keys_in_service import read_keys
from cascade.gateway.environment import load_policies, set_defaults
from cascade.gateway.state import Gateway
from cascade.journal.ledger import SqlLedger
from cascade.journal.sqlite import SqliteStore
from cascade.policy import load as files

from .accept import Acceptor, ConnectionCounts
from .descriptors import descriptor_limit, raise_descriptor_limit
from .listener import address, inherited, listen, on_end_of_input
from .log_format import Log, process_log

# Without httptools there is no server: uvicorn's other parser, h11, has no such bounds on connections.
from .protocol import LimitedProtocol
from .supervisor import COUNTS, LEDGER, READY, WORKER, supervise
from .tls import TlsFiles, TlsReloader

log = logging.getLogger("cascade.gateway")


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """Identifies this process among a supervisor's workers.

    Attributes:
        number: From 0.
        counts: The workers' connections.
        ledger: Keeps budgets and rates for all workers where there is no journal; it is lost when the gateway stops.
        supervisor: The descriptor on which the supervisor waits until this worker serves.
        folder: What the workers share; the supervisor removes it.
        parent: The supervisor's process.
    """

    number: int
    counts: ConnectionCounts
    ledger: SqlLedger
    supervisor: int
    folder: Path
    parent: int

    @classmethod
    def of_environment(cls) -> "Worker | None":
        """This process as a supervisor's worker; None where it was not started by one."""
        name = os.environ.pop(WORKER, None)
        if name is None:
            return None
        number, workers, path = name.split("/", 2)
        supervisor = os.dup(1)
        os.dup2(2, 1)  # what a judge prints belongs in the log, and would fill a pipe that nothing reads
        folder = Path(path)
        return cls(
            number=int(number),
            counts=ConnectionCounts(folder / COUNTS, int(workers)),
            ledger=SqlLedger(lambda: SqliteStore(folder / LEDGER, full=False)),
            supervisor=supervisor,
            folder=folder,
            parent=os.getppid(),
        )

    def remove_folder_of_killed_supervisor(self) -> None:
        """Removes what the workers share where the supervisor cannot, and no other worker serves."""
        if os.getppid() != self.parent and self.counts.fewest(self.number) is None:
            shutil.rmtree(self.folder, ignore_errors=True)


class Server(uvicorn.Server):
    """uvicorn's server, which marks the gateway as stopping.

    Args:
        config: uvicorn's settings.
        gateway: The gateway that is served.
        ready: Called with the port once the server listens.
        worker: Which one of several workers it is; None: the only one.
        tls: The certificate; None: plain HTTP.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        gateway: Gateway,
        ready: Callable[[int], object] | None = None,
        worker: "Worker | None" = None,
        tls: TlsFiles | None = None,
    ) -> None:
        super().__init__(config)
        self._tls = None if tls is None else TlsReloader(tls)
        self._gateway, self._ready, self._worker = gateway, ready, worker
        self._acceptors: list[Acceptor] = []
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: Any = None) -> None:
        """See uvicorn."""
        if self._worker is None:
            await super().startup(sockets)
        else:
            await super().startup([])
            self._accept(sockets, self._worker)
        if self.started and self._ready is not None:
            self._ready((sockets or self.servers[0].sockets)[0].getsockname()[1])

    def _accept(self, sockets: Any, worker: "Worker") -> None:
        def protocol() -> asyncio.Protocol:
            kind: Any = self.config.http_protocol_class
            connection: asyncio.Protocol = kind(
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state, _loop=None
            )
            return connection

        self._acceptors = [
            Acceptor(
                listener=listener,
                worker=worker.number,
                counts=worker.counts,
                connections=lambda: len(self.server_state.connections),
                protocol=protocol,
                tls=self.config.ssl,
            )
            for listener in sockets
        ]
        for acceptor in self._acceptors:
            acceptor.start()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.drain)

    async def on_tick(self, counter: int) -> bool:
        """See uvicorn: every 0.1 s."""
        if self._acceptors and self._draining is None:
            self._acceptors[0].count()
            if self._worker is not None:
                self._worker.counts.beat(self._worker.number, monotonic())
            if counter % 10 == 0:  # the other workers' metrics include these
                self._gateway.update_load_metrics()
        if self._tls is not None and self.config.ssl is not None and counter % 10 == 0:
            self._tls.check(self.config.ssl)
        return await super().on_tick(counter)

    def drain(self) -> None:
        """Accepts nothing more, answers requests on open connections and closes each of them, then stops the server."""
        if self._draining is None:
            for acceptor in self._acceptors:
                acceptor.stop()
            protocol: Any = self.config.http_protocol_class
            protocol.draining = self._gateway.draining = True
            self._gateway.closing.set()
            self._draining = asyncio.ensure_future(self._stop_when_idle())

    async def _stop_when_idle(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._gateway.limits.shutdown_s):
                while self.server_state.connections or self.server_state.tasks:
                    await asyncio.sleep(0.05)
        self.should_exit = True

    async def shutdown(self, sockets: Any = None) -> None:
        """See uvicorn: answers requests in flight, as far as ``shutdown_s`` allows; dashboard streams end at once."""
        if self._draining is None:
            for acceptor in self._acceptors:
                acceptor.stop()
        self._gateway.closing.set()
        await super().shutdown(sockets)


def make_server(
    gateway: Gateway,
    host: str,
    port: int,
    ready: Callable[[int], object] | None = None,
    path: Path | None = None,
    worker: Worker | None = None,
    tls: TlsFiles | None = None,
) -> Server:
    """Makes a server; it listens once it is started.

    Args:
        gateway: The gateway to serve.
        host: The name or address to listen on.
        port: The port; 0: any free one.
        ready: Called with the port once the server listens.
        path: The policy file to reload when it changes; None: it is not reloaded.
        worker: This process among several workers; None: the only one.
        tls: The certificate; None: plain HTTP.

    Returns:
        The server.
    """
    config = uvicorn.Config(
        make_app(gateway, path),
        host=host,
        port=port,
        log_config=None,
        log_level=None,
        access_log=False,
        # Clients could forge these headers.
        proxy_headers=False,
        server_header=False,
        date_header=False,
        ws="none",
        http=_protocol(gateway.limits.connections),
        lifespan="on",
        timeout_graceful_shutdown=int(gateway.limits.shutdown_s),
        **({} if tls is None else tls.settings),
    )
    return Server(config, gateway, ready, worker, tls)


def run(args: argparse.Namespace) -> int:
    """Runs ``python -m cascade serve`` until a signal stops it. Returns the exit status."""
    with process_log(args) as output, ExitStack() as stack:
        try:
            return _serve(args, stack, output)
        except CascadeError as error:
            if not output.json_lines:
                raise
            output.say(str(error), logging.ERROR)
            return 2


def _serve(args: argparse.Namespace, stack: ExitStack, output: Log) -> int:
    worker = Worker.of_environment()
    set_defaults(args)
    path = files.find(args.policy_file)
    file = load_policies(path)
    keys = key_store(args.keys, path, file)
    tls = TlsFiles.of(args)
    scheme = "http" if tls is None else "https"
    listeners = [inherited(descriptor) for descriptor in args.fd or ()]
    keyless = worker is None and not _has_keys(args, keys, listeners)
    listeners = listeners or listen(args.host, args.port)
    for listener in listeners:
        stack.callback(listener.close)
    if keyless:
        output.say(f"no API keys in {keys.where}: only this machine is served, and every user of it", logging.WARNING)
    if args.workers is not None and worker is None:
        address_and_path = f"{scheme}://{address(_host(args, listeners), listeners[0].getsockname()[1])}/v1 serves {path}"
        return supervise(args, listeners, f"{address_and_path} with {args.workers} workers", output)
    gateway = Gateway(file, key_store=keys, ledger=None if worker is None else worker.ledger)
    raise_descriptor_limit()

    def ready(port: int) -> None:
        gc.collect()
        gc.freeze()  # loaded modules stay; a full collection of them would delay every request by a tenth of a second
        if worker is None:
            output.say(f"{scheme}://{address(_host(args, listeners), port)}/v1 serves {path}")
        else:
            os.write(worker.supervisor, READY)
            os.close(worker.supervisor)

    server = make_server(gateway, args.host, args.port, ready, path, worker=worker, tls=tls)
    if args.stop_on_eof:
        on_end_of_input(lambda: os.kill(os.getpid(), signal.SIGTERM))
    # uvicorn raises the signal that stopped it once more at the end.
    previous = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with suppress(KeyboardInterrupt):
            _run(server, listeners)
    finally:
        signal.signal(signal.SIGTERM, previous)
        if worker is not None:
            worker.remove_folder_of_killed_supervisor()
    return 0 if server.started else 2


def _has_keys(args: argparse.Namespace, keys: KeyStore, listeners: list[socket.socket]) -> bool:
    """Whether there is any API key. Raises CascadeError where there is none although one is needed."""
    if read_keys(keys):
        return True
    if reason := "--require-keys is given" if args.require_keys else keys.lock_out:
        raise CascadeError(
            f"{keys.where}: no API keys, and {reason}: restore them, or create a key (cascade keys create NAME --keys "
            f"{keys.option})"
        )
    if not is_loopback(host := _host(args, listeners)):
        raise CascadeError(
            f"--host {host}: without an API key the gateway only listens on a loopback address; create a key: "
            f"python -m cascade keys create NAME --keys {keys.option}"
        )
    return False


def _host(args: argparse.Namespace, listeners: list[socket.socket]) -> str:
    """The host that was requested; of inherited sockets one that other machines can reach, if any."""
    if not args.fd:
        return str(args.host)
    addresses = [str(listener.getsockname()[0]) for listener in listeners]
    return next((one for one in addresses if not is_loopback(one)), addresses[0])


def _protocol(max_connections: int) -> Any:
    # Requests to the models need descriptors, too.
    limits = {"max_connections": min(max_connections, descriptor_limit() // 2)}
    return type("LimitedProtocol", (LimitedProtocol,), limits)


def _run(server: Server, listeners: list[socket.socket]) -> None:
    """Runs the server on uvloop where there is one."""
    try:
        import uvloop
    except ModuleNotFoundError:
        asyncio.run(server.serve(listeners))
    else:
        uvloop.run(server.serve(listeners))
