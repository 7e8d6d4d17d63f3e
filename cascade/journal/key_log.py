"""Which commands changed the gateway's API keys, in the journal's database: who, when, and what; no key's text."""

import getpass
import os
import socket
import time
from dataclasses import dataclass

from .store import SqlStore

_TABLE = (
    "CREATE TABLE IF NOT EXISTS cascade_key_log (at DOUBLE PRECISION NOT NULL, command TEXT NOT NULL, key_id TEXT, "
    "name TEXT, actor TEXT NOT NULL, details TEXT NOT NULL)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyCommand:
    """One command.

    Attributes:
        at: When, in Unix seconds.
        command: create, rotate, revoke or list.
        key_id: The key's id; None: it concerns no single key.
        name: The key's name.
        actor: ``user@host`` of who gave it.
        details: The key's limits as they were stated.
    """

    at: float
    command: str
    key_id: str | None
    name: str | None
    actor: str
    details: str


def add_key_command(store: SqlStore, command: str, *, key_id: str | None, name: str | None, details: str) -> None:
    """Commits a command of the user who runs this process."""
    store.execute(_TABLE)
    values = (time.time(), command, key_id, name, _actor(), details)
    store.execute(
        "INSERT INTO cascade_key_log (at, command, key_id, name, actor, details) VALUES (?, ?, ?, ?, ?, ?)", values
    )


def key_commands(store: SqlStore) -> list[KeyCommand]:
    """Every command, the oldest first."""
    store.execute(_TABLE)
    rows = store.execute("SELECT at, command, key_id, name, actor, details FROM cascade_key_log ORDER BY at")
    return [
        KeyCommand(at=float(at), command=command, key_id=key_id, name=name, actor=actor, details=details)
        for at, command, key_id, name, actor, details in rows
    ]


def _actor() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"
