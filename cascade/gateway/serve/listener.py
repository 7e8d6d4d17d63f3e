"""The socket that a gateway listens on: bound here, or inherited from the process that started the gateway."""

import errno
import os
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

from cascade.errors import CascadeError

BACKLOG = 2048


def listen(host: str, port: int) -> list[socket.socket]:
    """Opens a listening socket for each address of a host: ``localhost`` may have one of IPv4 and one of IPv6.

    Args:
        host: The name or address to listen on.
        port: The port; 0: any free one.

    Returns:
        The sockets, at least one, all with the same port; the caller closes them.

    Raises:
        CascadeError: The port is taken, or no address of the host is one of this machine's.
    """
    listeners: list[socket.socket] = []
    problem: Exception | None = None
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, place in dict.fromkeys((family, place) for family, _, _, _, place in places):
            place = (place[0], listeners[0].getsockname()[1], *place[2:]) if listeners and not port else place
            try:
                listeners.append(socket.create_server(place, family=family, backlog=BACKLOG))
            except OSError as error:
                # An address that this machine does not have is no error where it has another one.
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                problem = error
    except (OSError, OverflowError, UnicodeError) as error:
        problem = error
    else:
        if listeners:
            for listener in listeners:
                listener.setblocking(False)
            return listeners
    for listener in listeners:
        listener.close()
    raise CascadeError(f"cannot listen on {address(host, port)}: {_reason(problem)}")


def inherited(descriptor: int) -> socket.socket:
    """The listening socket that the parent process opened. Raises CascadeError where there is none."""
    try:
        listener = socket.socket(fileno=descriptor)
        if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            listener.detach()
            raise OSError("not a listening socket")
    except OSError as error:
        raise CascadeError(
            f"--fd {descriptor}: {_reason(error)}; it must be a listening socket of the parent process"
        ) from None
    listener.setblocking(False)
    return listener


def address(host: str, port: int) -> str:
    """Host and port as a URL has them: an IPv6 address is in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def on_end_of_input(stop: Callable[[], object]) -> None:
    """Calls ``stop`` once standard input ends, as it does when the process that holds its other end dies.

    Args:
        stop: Called in a thread of its own.
    """

    def wait() -> None:
        with suppress(OSError, ValueError):
            while os.read(sys.stdin.fileno(), 4096):
                pass
        stop()

    threading.Thread(target=wait, name="cascade parent", daemon=True).start()


def _reason(error: Exception | None) -> str:
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        return "another program listens there; stop it, or choose another port with --port (0: any free one)"
    if number == errno.EACCES:
        return "this user may not; choose a port above 1023 with --port"
    if number == errno.EADDRNOTAVAIL:
        return "this machine has no such address; see --host"
    return str(getattr(error, "strerror", None) or error)
