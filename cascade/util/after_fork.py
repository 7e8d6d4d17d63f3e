"""Resets locks and counts of work in flight in a forked child, where no other thread of the parent exists."""

import os
import weakref
from typing import Protocol


class Restartable(Protocol):
    """An object that can be reset after a fork."""

    def restart(self) -> None:
        """Replaces its locks, and forgets what other threads had in flight."""
        ...


_registered: "weakref.WeakSet[Restartable]" = weakref.WeakSet()


def restart_after_fork(owner: Restartable) -> None:
    """Calls ``owner.restart`` in every forked child while the owner exists."""
    _registered.add(owner)


def _in_child() -> None:
    for owner in list(_registered):
        owner.restart()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
