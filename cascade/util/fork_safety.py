"""Threads and connections do not survive a fork: their owners close them before and reopen in the child.

An SQLite file that is open in the parent must not be open across the fork: the library keeps, for each file, which locks the
process holds; the child inherits that list but not the locks, and its writes can be lost with the file's log.
"""

import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from time import monotonic
from typing import Protocol

_MAX_WAIT_S = 2.0  # a database that hangs delays a fork no longer than this


class ForkAware(Protocol):
    """An object that can start again after a fork."""

    def restart(self) -> None:
        """Starts again without threads and connections, in the child."""
        ...

    def pause(self, pause: "Pause") -> None:
        """Runs ``pause.hold`` in the thread that has the connection, if there is one."""
        ...


class Pause:
    """A thread closes its connection and waits until the fork is over."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._closed: list[Future[None]] = []

    def new_future(self) -> "Future[None]":
        """Returns a future that must be done before the fork."""
        self._closed.append(Future())
        return self._closed[-1]

    def hold(self, close: Callable[[], None], closed: "Future[None]") -> None:
        """Closes the connection, resolves ``closed``, and waits until the fork is over."""
        close()
        closed.set_result(None)
        self._over.wait(_MAX_WAIT_S)

    def wait(self) -> None:
        """Waits until all connections are closed, or for the longest time that a fork may be delayed."""
        deadline = monotonic() + _MAX_WAIT_S
        for closed in self._closed:
            with suppress(TimeoutError):
                closed.result(max(0.0, deadline - monotonic()))

    def end(self) -> None:
        """Lets the threads continue."""
        self._over.set()


_registered: "weakref.WeakSet[ForkAware]" = weakref.WeakSet()
_pauses = threading.local()


def register(owner: ForkAware) -> None:
    """Calls ``owner.pause`` before every fork while the owner exists, and ``owner.restart`` in the child."""
    _registered.add(owner)


def _before() -> None:
    _pauses.now = pause = Pause()
    for owner in list(_registered):
        owner.pause(pause)
    pause.wait()


def _in_parent() -> None:
    _pauses.now.end()


def _in_child() -> None:
    for owner in list(_registered):
        owner.restart()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
