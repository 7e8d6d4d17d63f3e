"""The API keys of one machine's gateways, in an SQLite file that only its owner may read."""

import logging
import os
import sqlite3
import stat
from collections.abc import Hashable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from cascade.errors import CascadeError

from .key_store import COLUMNS, Execute, KeyStore

NAME = "cascade-keys.db"
TIMEOUT_S = 10.0
_PRIVATE = 0o600
_ADDED = {"expires": "REAL", "previous_sha256": "TEXT", "previous_expires": "REAL"}

log = logging.getLogger("cascade.gateway")


class KeyFile(KeyStore):
    """The file at ``path``, created with the first key, readable by its owner only. Methods raise CascadeError.

    The first key also creates a marker, an empty file next to it. While the marker exists the gateway requires keys, so
    that a key file that was deleted, moved or lost never opens the gateway.
    """

    table = "keys"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.where = self.option = str(path)

    @property
    def marker(self) -> Path:
        """The file whose presence says that keys are required, whether or not there is a key file."""
        return self.path.with_name(f"{self.path.name}.required")

    @property
    def lock_out(self) -> str | None:
        """See ``KeyStore.lock_out``: keys are required where the marker exists."""
        if not self.marker.exists():
            return None
        return f"{self.marker} says that keys are required (to serve this machine without keys, delete {self.marker})"

    def stamp(self) -> Hashable:
        """See ``KeyStore.stamp``."""
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _rows(self) -> list[tuple[Any, ...]]:
        if not self.path.is_file():
            return []
        self._restrict()
        with self._connect() as connection:
            return connection.execute("SELECT * FROM keys ORDER BY created, id").fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[Execute]:
        for path in (self.path, self.marker):
            try:
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, _PRIVATE))
            except OSError as error:
                raise CascadeError(f"{path}: cannot be written ({error.strerror})") from None
        self._restrict()
        with self._connect() as connection, connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS keys (id TEXT PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL, "
                "policies TEXT, usd_per_day REAL, per_minute REAL, created REAL NOT NULL, revoked REAL, "
                f"{', '.join(f'{name} {kind}' for name, kind in _ADDED.items())})"
            )
            present = {row[1] for row in connection.execute("PRAGMA table_info(keys)")}
            for name in COLUMNS:
                if name not in present:  # a file of an earlier cascade
                    connection.execute(f"ALTER TABLE keys ADD COLUMN {name} {_ADDED[name]}")
            yield lambda sql, values: connection.execute(sql, values).fetchall()

    def _restrict(self) -> None:
        """Withdraws other users' access to a file, as far as this user is allowed to."""
        with suppress(OSError):
            if stat.S_IMODE(self.path.stat().st_mode) & ~_PRIVATE:
                self.path.chmod(_PRIVATE)
                log.warning("%s: was open to other users; only its owner may read and write it now", self.path)

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=TIMEOUT_S, isolation_level=None)) as connection:
                yield connection
        except sqlite3.Error as error:
            raise CascadeError(f"{self.path}: the key file cannot be used ({error})") from None


def beside(policy_file: Path, packaged: bool) -> Path:
    """The default path of the key file: next to the policy file, independent of the journal.

    For the packaged policy file, which is among installed code, it is the working directory.
    """
    return Path(NAME) if packaged else policy_file.parent / NAME
