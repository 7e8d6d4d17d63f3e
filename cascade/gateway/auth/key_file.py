"""The keys of the gateway's callers, in an SQLite file. Of a key its SHA-256 is kept, never the key.

A key is 256 bits from the system's random source, so that nobody can find one by trying: a slow hash, made for passwords
that people think of, would protect nothing more and take a tenth of a second from every request.
"""

import hashlib
import json
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cascade.errors import CascadeError

NAME = "cascade-keys.db"


@dataclass(frozen=True, slots=True)
class Key:
    """One key: ``policies`` it may use (None: all), USD it may spend a UTC day, requests a minute (None: no limit).

    ``created`` and ``revoked`` (None: it is valid) are Unix seconds.
    """

    id: str
    name: str
    sha256: str
    policies: tuple[str, ...] | None
    usd_per_day: float | None
    per_minute: float | None
    created: float
    revoked: float | None


class KeyFile:
    """The file at ``path``, which is made with the first key, readable by its owner alone. Raises CascadeError."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[Key]:
        """Every key, the oldest first; none where there is no file."""
        if not self.path.is_file():
            return []
        with self._opened() as connection:
            rows = connection.execute("SELECT * FROM keys ORDER BY created, id").fetchall()
        return [
            Key(id, name, sha256, None if policies is None else tuple(json.loads(policies)), *rest)
            for id, name, sha256, policies, *rest in rows
        ]

    def create(
        self,
        name: str,
        *,
        policies: Sequence[str] | None = None,
        usd_per_day: float | None = None,
        per_minute: float | None = None,
    ) -> tuple[Key, str]:
        """A new key and its text, which is nowhere else. Raises CascadeError where a valid one has that name."""
        if not name.isprintable() or not 0 < len(name) <= 64:
            raise CascadeError("a key's name has 1 to 64 printable characters")
        id = secrets.token_hex(4)
        given = f"sk-cg-{id}-{secrets.token_hex(32)}"
        hashed = hashlib.sha256(given.encode()).hexdigest()
        key = Key(
            id, name, hashed, None if policies is None else tuple(policies), usd_per_day, per_minute, time.time(), None
        )
        self._make()
        with self._opened() as connection, connection:
            connection.execute("BEGIN IMMEDIATE")
            if connection.execute("SELECT 1 FROM keys WHERE name = ? AND revoked IS NULL", (name,)).fetchone():
                raise CascadeError(f"there is a valid key with the name {name!r}; revoke it first or take another name")
            listed = None if key.policies is None else json.dumps(key.policies)
            values = (id, name, hashed, listed, usd_per_day, per_minute, key.created, None)
            connection.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
        return key, given

    def revoke(self, name: str) -> Key:
        """Ends the valid key with that name or id. Raises CascadeError where there is none."""
        for key in self.read():
            if key.revoked is None and name in (key.id, key.name):
                with self._opened() as connection, connection:
                    connection.execute("UPDATE keys SET revoked = ? WHERE id = ?", (time.time(), key.id))
                return key
        raise CascadeError(f"{self.path}: there is no valid key with the name or id {name!r}")

    def _make(self) -> None:
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as error:
            raise CascadeError(f"{self.path}: cannot be written ({error.strerror})") from None
        with self._opened() as connection, connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS keys (id TEXT PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL, "
                "policies TEXT, usd_per_day REAL, per_minute REAL, created REAL NOT NULL, revoked REAL)"
            )

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=10, isolation_level=None)) as connection:
                yield connection
        except sqlite3.Error as error:
            raise CascadeError(f"{self.path}: the key file cannot be used ({error})") from None


def beside(policy_file: Path, journal_url: str | None, packaged: bool) -> Path:
    """Where the keys are unless it is said: beside an SQLite journal, else beside the policy file.

    The packaged policy file stands among installed code: then it is the working directory.
    """
    from cascade.policy.journal_config import is_sqlite, sqlite_path

    if journal_url is not None and is_sqlite(journal_url):
        return sqlite_path(journal_url).parent / NAME
    return Path(NAME) if packaged else policy_file.parent / NAME
