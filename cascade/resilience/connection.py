"""A connection that belongs to one thread: opened on first use, dropped once it broke, opened again by the next use."""

import logging
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar


class Connection(Protocol):
    """A connection to a store."""

    def is_down(self, error: Exception) -> bool:
        """Whether an error says that the store cannot be used just now."""
        ...

    def close(self) -> None:
        """Closes the connection."""
        ...


C = TypeVar("C", bound=Connection)


class ConnectionOwner(Generic[C]):
    """Opens and drops the connection of one thread.

    Args:
        connect: Opens a connection.
        log: Where it is noted that a connection did not close.
    """

    def __init__(self, connect: Callable[[], C], log: logging.Logger) -> None:
        self._connect, self._log = connect, log
        self._connection: C | None = None

    def close(self) -> None:
        """Closes the connection; the next use opens another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except Exception as error:
                self._log.warning("a connection did not close (%s)", type(error).__name__)

    def _reach(self) -> C:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _is_broken(self, error: Exception) -> bool:
        """Whether the driver says that the connection cannot be used any more."""
        return self._connection is not None and self._connection.is_down(error)
