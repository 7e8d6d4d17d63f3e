"""The API keys of gateways on several machines, in the journal's database (``--keys journal``)."""

import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

from cascade.errors import CascadeError
from cascade.journal.open_store import open_store
from cascade.journal.store import SqlStore
from cascade.policy.journal_config import without_password

from .key_store import COLUMNS, Execute, KeyStore

OPTION = "journal"


class KeyTable(KeyStore):
    """A table in the database at ``url``. Safe for threads; one connection, opened when it is first needed.

    Once a key was created, its row stays, also when it is revoked: a gateway with such a table always requires keys.
    """

    table = "cascade_keys"
    option = OPTION
    lock_out = None

    def __init__(self, url: str) -> None:
        self.where = f"keys in {without_password(url)}"
        self._url = url
        self._lock = threading.Lock()
        self._store: SqlStore | None = None

    def stamp(self) -> Hashable:
        """See ``KeyStore.stamp``: the whole table, since there are few keys."""
        return tuple(self._rows())

    def _rows(self) -> list[tuple[Any, ...]]:
        with self._opened() as store:
            return store.execute(f"SELECT {', '.join(COLUMNS)} FROM {self.table} ORDER BY created, id")

    @contextmanager
    def _transaction(self) -> Iterator[Execute]:
        with self._opened() as store, store.transaction():
            store.lock([self.table])
            yield store.execute

    @contextmanager
    def _opened(self) -> Iterator[SqlStore]:
        with self._lock:
            try:
                if self._store is None:
                    self._store = open_store(self._url)
                    self._store.execute(
                        f"CREATE TABLE IF NOT EXISTS {self.table} (id TEXT PRIMARY KEY, name TEXT NOT NULL, "
                        "sha256 TEXT NOT NULL, policies TEXT, usd_per_day DOUBLE PRECISION, per_minute DOUBLE PRECISION, "
                        "created DOUBLE PRECISION NOT NULL, revoked DOUBLE PRECISION, expires DOUBLE PRECISION, "
                        "previous_sha256 TEXT, previous_expires DOUBLE PRECISION)"
                    )
                yield self._store
            except CascadeError:
                raise
            except Exception as error:  # each driver has its own exception classes; the next use reconnects
                self.close()
                raise CascadeError(f"{self.where}: cannot be used ({type(error).__name__})") from None

    def close(self) -> None:
        """Closes the connection."""
        if self._store is not None:
            store, self._store = self._store, None
            store.close()
