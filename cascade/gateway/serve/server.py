"""``python -m cascade serve``."""

import argparse
import asyncio
import gc
import logging
import os
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import uvicorn

from cascade.errors import CascadeError
from cascade.gateway.app import make_app
from cascade.gateway.auth.commands import key_file
from cascade.gateway.auth.keys import is_loopback
from cascade.gateway.state import Gateway
from cascade.policy import load as files

from .listener import address, inherited, listen, on_end_of_input
from .log_format import Log, process_log

# Without httptools there is no server: uvicorn's other parser, h11, has no such bounds on connections.
from .protocol import LimitedProtocol

log = logging.getLogger("cascade.gateway")

_MANY = 65_536


class Server(uvicorn.Server):
    """uvicorn's server, which marks the gateway as stopping.

    Args:
        config: uvicorn's settings.
        gateway: The gateway that is served.
        ready: Called with the port once the server listens.
    """

    def __init__(self, config: uvicorn.Config, gateway: Gateway, ready: Callable[[int], object] | None = None) -> None:
        super().__init__(config)
        self._gateway, self._ready = gateway, ready

    async def startup(self, sockets: Any = None) -> None:
        """See uvicorn."""
        await super().startup(sockets)
        if self.started and self._ready is not None:
            self._ready(self.servers[0].sockets[0].getsockname()[1])

    async def shutdown(self, sockets: Any = None) -> None:
        """See uvicorn: answers what is under way, as far as ``shutdown_s`` allows; dashboard streams end at once."""
        self._gateway.closing.set()
        await super().shutdown(sockets)


def make_server(
    gateway: Gateway, host: str, port: int, ready: Callable[[int], object] | None = None, path: Path | None = None
) -> Server:
    """Makes a server; it listens once it is started.

    Args:
        gateway: The gateway to serve.
        host: The name or address to listen on.
        port: The port; 0: any free one.
        ready: Called with the port once the server listens.
        path: The policy file to reload when it changes; None: it is not reloaded.

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
    )
    return Server(config, gateway, ready)


def run(args: argparse.Namespace) -> int:
    """Runs ``python -m cascade serve`` until a signal stops it; the exit status."""
    with process_log(args) as output, ExitStack() as stack:
        try:
            listeners = [inherited(descriptor) for descriptor in args.fd or ()] or listen(args.host, args.port)
            for listener in listeners:
                stack.callback(listener.close)
            return _serve(args, listeners, output)
        except CascadeError as error:
            if not output.json_lines:
                raise
            output.say(str(error), logging.ERROR)
            return 2


def _serve(args: argparse.Namespace, listeners: list[socket.socket], output: Log) -> int:
    path = files.find(args.policy_file)
    file = files.load(path)
    keys = key_file(args.keys, path)
    gateway = Gateway(file, key_file=keys)
    if not gateway.keys.exist:
        if args.require_keys or keys.marker.exists():
            reason = "--require-keys is given" if args.require_keys else f"{keys.marker} says that keys are required"
            raise CascadeError(
                f"{keys.path}: no API keys, and {reason}: restore the file, create a key (cascade keys create NAME --keys "
                f"{keys.path}), or delete {keys.marker} to serve this machine without keys"
            )
        if not is_loopback(host := _host(args, listeners)):
            raise CascadeError(
                f"--host {host}: without an API key the gateway only listens on a loopback address; create a key: "
                f"python -m cascade keys create NAME --keys {keys.path}"
            )
        output.say(f"no API keys in {keys.path}: only this machine is served, and every user of it", logging.WARNING)

    _raise_descriptor_limit()

    def ready(port: int) -> None:
        gc.collect()
        gc.freeze()  # loaded modules stay; a full collection of them would delay every request by a tenth of a second
        output.say(f"http://{address(_host(args, listeners), port)}/v1 serves {path}")

    server = make_server(gateway, args.host, args.port, ready, path)
    if args.stop_on_eof:
        on_end_of_input(lambda: os.kill(os.getpid(), signal.SIGTERM))
    # uvicorn raises the signal that stopped it once more at the end.
    previous = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with suppress(KeyboardInterrupt):
            _run(server, listeners)
    finally:
        signal.signal(signal.SIGTERM, previous)
    return 0 if server.started else 2


def _host(args: argparse.Namespace, listeners: list[socket.socket]) -> str:
    """The address as it was asked for; of inherited sockets the one that others can reach, if any."""
    if not args.fd:
        return str(args.host)
    addresses = [str(listener.getsockname()[0]) for listener in listeners]
    return next((one for one in addresses if not is_loopback(one)), addresses[0])


def _protocol(max_connections: int) -> Any:
    # Requests to the models need descriptors, too.
    limits = {"max_connections": min(max_connections, _descriptors() // 2)}
    return type("LimitedProtocol", (LimitedProtocol,), limits)


def _descriptors() -> int:
    """How many files and connections this process may open."""
    try:
        import resource
    except ModuleNotFoundError:  # not on Windows
        return _MANY
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MANY if soft == resource.RLIM_INFINITY else soft


def _raise_descriptor_limit() -> None:
    """Lets this process open as many files and connections as the system allows, up to what is of use."""
    with suppress(ModuleNotFoundError, ValueError, OSError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < _MANY:
            resource.setrlimit(resource.RLIMIT_NOFILE, (_MANY if hard == resource.RLIM_INFINITY else min(_MANY, hard), hard))


def _run(server: Server, listeners: list[socket.socket]) -> None:
    """Runs the server on uvloop where there is one."""
    try:
        import uvloop
    except ModuleNotFoundError:
        asyncio.run(server.serve(listeners))
    else:
        uvloop.run(server.serve(listeners))
