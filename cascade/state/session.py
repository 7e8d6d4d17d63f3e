"""The connection of one thread to a shared state's store: it reconnects once, and reports an outage."""

import logging
from collections.abc import Callable
from typing import TypeVar

from cascade.errors import CascadeError, StateError
from cascade.resilience.connection import C, ConnectionOwner
from cascade.resilience.store_health import StoreHealth

from .connection_problem import connection_problem

T = TypeVar("T")
log = logging.getLogger("cascade.state")


class NoConnectionError(CascadeError):
    """A store that cannot be reached; the cause is the driver's error."""


class StateSession(ConnectionOwner[C]):
    """Belongs to one thread.

    Args:
        connect: Opens a connection. It raises NoConnectionError, or another CascadeError, where the store is unavailable.
        health: Records whether each use succeeded.
    """

    def __init__(self, connect: Callable[[], C], health: StoreHealth) -> None:
        super().__init__(connect, log)
        self._health = health

    def run(self, work: Callable[[C], T]) -> T:
        """``work(connection)``, once more on a new connection where the old one broke.

        Raises:
            StateError: The store is unavailable. What ``work`` raises otherwise is raised as it is.
        """
        connection = self._connection
        try:
            return self._done(work(self._reach()))
        except Exception as error:
            if not self._is_down(error):
                raise
            if connection is None or isinstance(error, StateError):  # it was new already
                raise self._away(error) from None
        try:
            return self._done(work(self._reach()))
        except Exception as error:
            if self._is_down(error):
                raise self._away(error) from None
            raise

    def _done(self, result: T) -> T:
        self._health.recovered()
        return result

    def _away(self, error: Exception) -> StateError:
        if isinstance(error, StateError):
            return error
        cause = error.__cause__ if isinstance(error, NoConnectionError) and error.__cause__ is not None else error
        problem = connection_problem(cause)
        self._health.failed(problem)
        return StateError(f"{self._health.where}: the shared state cannot be reached ({problem})")

    def _is_down(self, error: Exception) -> bool:
        """Whether the store is unavailable; if so the connection is dropped."""
        if not isinstance(error, CascadeError) and not self._is_broken(error):
            return False
        if not isinstance(error, StateError):
            self.close()
        return True
