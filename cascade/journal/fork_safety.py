"""Threads and connections do not survive a fork: their owners close them before and reopen in the child.

An SQLite file that is open in the parent must not be open across the fork: the library keeps, for each file, which locks the
process holds, the child inherits that book but not the locks, and its writes can be lost with the file's log.
"""

import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from time import monotonic
from typing import Protocol

_MOST_S = 2.0  # a database that hangs holds no fork up for longer


class ForkAware(Protocol):
    """An object that can start again after a fork."""

    def begin_anew(self) -> None: ...

    def pause(self, pause: "Pause") -> None:
        """Calls ``pause.hold`` in the thread that has the connection, if there is one."""
        ...


class Pause:
    """A thread closes its connection and waits until the fork is over."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._closed: list[Future[None]] = []

    def place(self) -> "Future[None]":
        """To be waited for before the fork."""
        self._closed.append(Future())
        return self._closed[-1]

    def hold(self, close: Callable[[], None], closed: "Future[None]") -> None:
        """Closes, says so, and waits."""
        close()
        closed.set_result(None)
        self._over.wait(_MOST_S)

    def wait(self) -> None:
        """Until all have closed, or for as long as that may take."""
        ends = monotonic() + _MOST_S
        for closed in self._closed:
            with suppress(TimeoutError):
                closed.result(max(0.0, ends - monotonic()))

    def end(self) -> None:
        """Lets the threads go on."""
        self._over.set()


_known: "weakref.WeakSet[ForkAware]" = weakref.WeakSet()
_pauses = threading.local()


def in_a_child(what: ForkAware) -> None:
    """Calls ``what.pause`` before every fork while it lives, and ``what.begin_anew()`` in the child."""
    _known.add(what)


def _before() -> None:
    _pauses.now = pause = Pause()
    for what in list(_known):
        what.pause(pause)
    pause.wait()


def _in_parent() -> None:
    _pauses.now.end()


def _begin_anew() -> None:
    for what in list(_known):
        what.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_begin_anew)
