"""``python -m cascade serve``."""

import argparse
import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import uvicorn

from cascade.errors import CascadeError
from cascade.gateway.app import make_app
from cascade.gateway.auth.commands import key_file
from cascade.gateway.auth.keys import MOST_HEADER_BYTES, is_loopback
from cascade.gateway.state import Gateway
from cascade.policy import load as files

log = logging.getLogger("cascade.gateway")


class Server(uvicorn.Server):
    """uvicorn's, which tells the gateway that it is stopping; ``ready`` is called once it listens, with its port."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway, ready: Callable[[int], object] | None = None) -> None:
        super().__init__(config)
        self._gateway, self._ready = gateway, ready

    async def startup(self, sockets: Any = None) -> None:
        """See uvicorn."""
        await super().startup(sockets)
        if self.started and self._ready is not None:
            self._ready(self.servers[0].sockets[0].getsockname()[1])

    async def shutdown(self, sockets: Any = None) -> None:
        """See uvicorn: answers what is under way, as far as ``shutdown_s`` allows; streams of figures end at once."""
        self._gateway.closing.set()
        await super().shutdown(sockets)


def server_of(gateway: Gateway, host: str, port: int, ready: Callable[[int], object] | None = None) -> Server:
    """A server that listens on ``host`` and ``port`` (0: any that is free)."""
    config = uvicorn.Config(
        make_app(gateway),
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        # What a client says of where it comes from is not believed.
        proxy_headers=False,
        server_header=False,
        date_header=False,
        ws="none",
        http=_protocol(),
        h11_max_incomplete_event_size=MOST_HEADER_BYTES,
        lifespan="on",
        timeout_graceful_shutdown=int(gateway.limits.shutdown_s),
    )
    return Server(config, gateway, ready)


def run(args: argparse.Namespace) -> int:
    """Serves until it is told to stop."""
    path = files.find(args.policy_file)
    file = files.load(path)
    keys = key_file(args.keys, path, file)
    gateway = Gateway(file, path=path, key_file=keys)
    if not gateway.keys.exist:
        if not is_loopback(args.host):
            raise CascadeError(
                f"--host {args.host}: there is no key, so only this machine may be served; make one: "
                f"python -m cascade keys create NAME --keys {keys.path}"
            )
        print(f"cascade: no keys in {keys.path}: this machine alone is served, and anyone on it", file=sys.stderr)

    def ready(port: int) -> None:
        gc.collect()
        gc.freeze()  # what is loaded stays; a full collection of it would hold up every request for a tenth of a second
        print(f"cascade: http://{args.host}:{port}/v1 serves {path}", file=sys.stderr, flush=True)

    server = server_of(gateway, args.host, args.port, ready)
    logging.basicConfig(format="cascade: %(message)s", level=logging.WARNING)
    # uvicorn raises the signal that stopped it once more when all is done.
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with suppress(KeyboardInterrupt):
            _run(server)
    finally:
        signal.signal(signal.SIGTERM, before)
    if not server.started:
        raise CascadeError(f"cannot listen on {args.host}:{args.port}")
    return 0


def _protocol() -> Any:
    try:
        from .protocol import LimitedProtocol
    except ModuleNotFoundError:  # httptools is not for every system; h11 has a limit of its own
        return "h11"
    return LimitedProtocol


def _run(server: Server) -> None:
    """Runs the server on uvloop where there is one."""
    try:
        import uvloop
    except ModuleNotFoundError:
        asyncio.run(server.serve())
    else:
        uvloop.run(server.serve())
