"""The API keys of the gateway, in an SQLite file that holds the SHA-256 of each key, never the key itself.

A key is 256 bits from the system's random source, so that guessing is hopeless: a slow password hash would protect nothing
more and cost every request a tenth of a second.
"""

import hashlib
import json
import logging
import os
import secrets
import sqlite3
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cascade.errors import CascadeError

NAME = "cascade-keys.db"
TIMEOUT_S = 10.0
_PRIVATE = 0o600

log = logging.getLogger("cascade.gateway")


@dataclass(frozen=True, slots=True)
class Key:
    """One key.

    Attributes:
        id: The public part of the key.
        name: The name that the journal tags its runs with.
        sha256: The hash of the whole key.
        policies: The policies that it may use; None: all.
        usd_per_day: Most USD per UTC day; None: no limit.
        per_minute: Most requests per minute; None: no limit.
        created: When it was created, in Unix seconds.
        revoked: When it was revoked, in Unix seconds; None: it is valid.
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
    """The file at ``path``, created with the first key, readable by its owner only. Methods raise CascadeError.

    The first key also creates a marker, an empty file next to it. While the marker exists the gateway requires keys, so
    that a key file that was deleted, moved or lost never opens the gateway.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def marker(self) -> Path:
        """The file whose presence says that keys are required, whether or not there is a key file."""
        return self.path.with_name(f"{self.path.name}.required")

    def read(self) -> list[Key]:
        """Every key, the oldest first; none where there is no file.

        Raises:
            CascadeError: The file cannot be read, or is locked for too long.
        """
        if not self.path.is_file():
            return []
        self._restrict()
        with self._connect() as connection:
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
        """Creates a key.

        Args:
            name: Its name, 1 to 64 printable characters.
            policies: The policies that it may use; None: all.
            usd_per_day: Most USD per UTC day; None: no limit.
            per_minute: Most requests per minute; None: no limit.

        Returns:
            The key, and its secret text, which is stored nowhere.

        Raises:
            CascadeError: A valid key has that name, or the file cannot be written.
        """
        if not name.isprintable() or not 0 < len(name) <= 64:
            raise CascadeError("a key's name must have 1 to 64 printable characters")
        id = secrets.token_hex(4)
        secret = f"sk-cg-{id}-{secrets.token_hex(32)}"
        hashed = hashlib.sha256(secret.encode()).hexdigest()
        key = Key(
            id=id,
            name=name,
            sha256=hashed,
            policies=None if policies is None else tuple(policies),
            usd_per_day=usd_per_day,
            per_minute=per_minute,
            created=time.time(),
            revoked=None,
        )
        self._create_file()
        with self._connect() as connection, connection:
            connection.execute("BEGIN IMMEDIATE")
            if connection.execute("SELECT 1 FROM keys WHERE name = ? AND revoked IS NULL", (name,)).fetchone():
                raise CascadeError(f"a valid key named {name!r} exists; revoke it first or choose another name")
            policies_json = None if key.policies is None else json.dumps(key.policies)
            values = (id, name, hashed, policies_json, usd_per_day, per_minute, key.created, None)
            connection.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
        return key, secret

    def revoke(self, name: str) -> Key:
        """Revokes the valid key with that name or id. Raises CascadeError where there is none."""
        for key in self.read():
            if key.revoked is None and name in (key.id, key.name):
                with self._connect() as connection, connection:
                    connection.execute("UPDATE keys SET revoked = ? WHERE id = ?", (time.time(), key.id))
                return key
        raise CascadeError(f"{self.path}: no valid key with the name or id {name!r}")

    def _create_file(self) -> None:
        for path in (self.path, self.marker):
            try:
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, _PRIVATE))
            except OSError as error:
                raise CascadeError(f"{path}: cannot be written ({error.strerror})") from None
        self._restrict()
        with self._connect() as connection, connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS keys (id TEXT PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL, "
                "policies TEXT, usd_per_day REAL, per_minute REAL, created REAL NOT NULL, revoked REAL)"
            )

    def _restrict(self) -> None:
        """Takes a file that others may read or write back to its owner alone, as far as this user may."""
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
