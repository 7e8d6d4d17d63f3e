"""Threads and connections do not survive a fork: what has some begins anew in the child, without the parent's."""

import os
import weakref
from typing import Protocol


class Anew(Protocol):
    """What can begin anew."""

    def begin_anew(self) -> None: ...


_known: "weakref.WeakSet[Anew]" = weakref.WeakSet()


def in_a_child(what: Anew) -> None:
    """Calls ``what.begin_anew()`` in every child that is forked while it lives."""
    _known.add(what)


def _begin_anew() -> None:
    for what in list(_known):
        what.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
