"""Stored API keys, whatever the database: create, rotate, revoke, read. Only hashes are stored.

A key is 256 random bits, so that it cannot be guessed: a slow password hash would add no protection, and a tenth of a second
to every request.
"""

import hashlib
import json
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields, replace
from typing import Any

from cascade.errors import CascadeError

from .key import Key

COLUMNS = tuple(field.name for field in fields(Key))
Execute = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]


class KeyStore(ABC):
    """Where keys are kept. Methods raise CascadeError where it cannot be used.

    Attributes:
        where: Its name in messages.
        option: What ``--keys`` takes to name it.
        table: The name of the table.
    """

    where: str
    option: str
    table: str

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[Execute]:
        """A transaction in which nobody else writes; the table exists, with every column."""

    @abstractmethod
    def _rows(self) -> list[tuple[Any, ...]]:
        """The rows with ``COLUMNS``, the oldest first; later columns may be missing."""

    @abstractmethod
    def stamp(self) -> Hashable:
        """Differs whenever the keys may have changed."""

    @property
    @abstractmethod
    def lock_out(self) -> str | None:
        """Why keys are required although there are none, and how to change that; None: they are not required."""

    def read(self) -> list[Key]:
        """Every key, the oldest first; none where nothing was ever created."""
        return [_key(row) for row in self._rows()]

    def create(
        self,
        name: str,
        *,
        policies: Sequence[str] | None = None,
        usd_per_day: float | None = None,
        per_minute: float | None = None,
        expires: float | None = None,
    ) -> tuple[Key, str]:
        """Creates a key.

        Args:
            name: Its name, 1 to 64 printable characters.
            policies: The policies that it may use; None: all.
            usd_per_day: Most USD per UTC day; None: no limit.
            per_minute: Most requests per minute; None: no limit.
            expires: Until when it is valid, in Unix seconds; None: until it is revoked.

        Returns:
            The key, and its secret text, which is stored nowhere.

        Raises:
            CascadeError: A valid key has that name, or nothing can be stored.
        """
        if not name.isprintable() or not 0 < len(name) <= 64:
            raise CascadeError("a key's name must have 1 to 64 printable characters")
        id = secrets.token_hex(4)
        secret, digest = _new_secret(id)
        key = Key(
            id=id,
            name=name,
            sha256=digest,
            policies=None if policies is None else tuple(policies),
            usd_per_day=usd_per_day,
            per_minute=per_minute,
            created=time.time(),
            expires=expires,
        )
        values = [json.dumps(value) if isinstance(value, tuple) else value for value in (getattr(key, c) for c in COLUMNS)]
        with self._transaction() as execute:
            if any(other.name == name and other.is_valid(key.created) for other in self._all(execute)):
                raise CascadeError(f"a valid key named {name!r} exists; rotate it, revoke it first, or choose another name")
            marks = ", ".join("?" * len(COLUMNS))
            execute(f"INSERT INTO {self.table} ({', '.join(COLUMNS)}) VALUES ({marks})", values)
        return key, secret

    def rotate(self, name: str, *, overlap_s: float, expires: float | None = None) -> tuple[Key, str]:
        """Gives a key a new secret text. Its id, name, policies, rate and budget stay as they are.

        Args:
            name: Its name or id.
            overlap_s: How long the present text stays valid, in seconds. The one before it ends at once.
            expires: Until when the new text is valid, in Unix seconds; None: until it is revoked.

        Returns:
            The key, and its new secret text, which is stored nowhere.

        Raises:
            CascadeError: There is no such key, it expires and nothing says when its new text does, or nothing can be stored.
        """
        self._named(name, self.read())  # before anything is written
        with self._transaction() as execute:
            key = self._named(name, self._all(execute))
            if key.expires is not None and expires is None:
                raise CascadeError(f"{self.where}: key {key.name} expires: say when its new text expires (--expires 90d)")
            secret, digest = _new_secret(key.id)
            ends = time.time() + overlap_s
            key = replace(
                key,
                sha256=digest,
                expires=expires,
                previous_sha256=key.sha256,
                previous_expires=ends if key.expires is None else min(ends, key.expires),
            )
            execute(
                f"UPDATE {self.table} SET sha256 = ?, expires = ?, previous_sha256 = ?, previous_expires = ? WHERE id = ?",
                (key.sha256, key.expires, key.previous_sha256, key.previous_expires, key.id),
            )
        return key, secret

    def revoke(self, name: str) -> Key:
        """Revokes the key with that name or id, its present and its previous text. Raises CascadeError for none."""
        self._named(name, self.read())
        with self._transaction() as execute:
            key = self._named(name, self._all(execute))
            execute(f"UPDATE {self.table} SET revoked = ? WHERE id = ?", (time.time(), key.id))
        return key

    def _all(self, execute: Execute) -> list[Key]:
        return [_key(row) for row in execute(f"SELECT {', '.join(COLUMNS)} FROM {self.table} ORDER BY created, id", ())]

    def _named(self, name: str, keys: Sequence[Key]) -> Key:
        """The key with that name or id that is not revoked; of several with the name, the newest."""
        for key in reversed(keys):
            if key.revoked is None and name in (key.id, key.name):
                return key
        raise CascadeError(f"{self.where}: no valid key with the name or id {name!r}")


def _key(row: Sequence[Any]) -> Key:
    # A file of an earlier cascade lacks the last columns.
    values = dict(zip(COLUMNS, row, strict=False))
    policies = values.pop("policies")
    return Key(policies=None if policies is None else tuple(json.loads(policies)), **values)


def _new_secret(id: str) -> tuple[str, str]:
    """A secret text, and its hash."""
    secret = f"sk-cg-{id}-{secrets.token_hex(32)}"
    return secret, hashlib.sha256(secret.encode()).hexdigest()
