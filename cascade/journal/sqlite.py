"""A journal in an SQLite file (WAL), by the standard library."""

import logging
import os
import sqlite3
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cascade.errors import JournalError

from .store import Row, SqlStore
from .tables import ADDED_TABLES, added_schema, check_version, missing_columns, schema

log = logging.getLogger("cascade.journal")

BUSY_S = 10.0  # how long to wait for another process that writes
_WAL_KEPT = 16_000_000  # bytes to which the log is cut after a burst
_WAL_PAGES = 2_000  # between checkpoints; twice the default, and of twice the size, takes a quarter off a write
_PAGE = 8_192  # bytes
_FREED_AT_ONCE = 1_000  # pages given back to the file system after a deletion


def boot_id() -> str:
    """An id of the time since this machine started; the monotonic clock restarts with each start."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        # Elsewhere: when the machine started, to ten minutes. A clock that is set by more than that ends leases early.
        return f"boot-{round((time.time() - time.monotonic()) / 600)}"


class SqliteStore(SqlStore):
    """Implements Store. ``full`` waits for the disk at every commit; without it a power cut may take the last commits.

    ``create=False`` refuses a file that holds no journal. Raises JournalError.
    """

    lease_prefix = f"{boot_id()}."

    def __init__(self, path: Path, *, full: bool = True, create: bool = True) -> None:
        self.path = path
        if not create and not path.is_file():
            raise JournalError(f"{path}: no such journal")
        if not path.parent.is_dir():
            raise JournalError(f"{path}: the folder of the journal does not exist; create it first")
        try:
            if create:
                _keep_private(path)
            self._connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            try:
                self._prepare(full, create)
            except BaseException:
                self._connection.close()
                raise
        except (sqlite3.Error, OSError) as error:
            raise JournalError(f"{path}: the journal cannot be opened: {error}") from None

    def _prepare(self, full: bool, create: bool) -> None:
        run = self._connection.execute
        self._connection.create_function("cascade_now", 0, time.monotonic)
        if not self._tables():
            if not create:
                raise JournalError(f"{self.path}: holds no journal")
            self._create()
        self._add_tables()
        ((version,),) = run("SELECT version FROM cascade_journal").fetchall()
        check_version(version, str(self.path))
        run(f"PRAGMA synchronous = {'FULL' if full else 'NORMAL'}")
        run(f"PRAGMA journal_size_limit = {_WAL_KEPT}")
        run(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")

    def _tables(self) -> bool:
        return bool(self._connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'cascade_journal'").fetchall())

    def _add_tables(self) -> None:
        """Makes the tables and columns that a journal of an earlier cascade lacks."""
        query = "SELECT name FROM sqlite_master WHERE type = 'table'"
        if not {name for (name,) in self._connection.execute(query).fetchall()}.issuperset(ADDED_TABLES):
            with self.transaction():
                for statement in added_schema("INTEGER PRIMARY KEY AUTOINCREMENT", "REAL", "TEXT"):
                    self._connection.execute(statement)
        if any(missing_columns(self._columns())):
            with self.transaction():
                for statement in missing_columns(self._columns()):  # another process may have been first
                    self._connection.execute(statement)

    def _columns(self) -> set[str]:
        """The columns of the runs."""
        return {name for (name,) in self._connection.execute("SELECT name FROM pragma_table_info('cascade_runs')")}

    def _create(self) -> None:
        # Several processes may start at once, and the change to WAL does not wait for the others by itself.
        patience = time.monotonic() + BUSY_S
        while True:
            try:
                # Both only before the first table. A page holds several records; of half the size it took a tenth longer.
                self._connection.execute(f"PRAGMA page_size = {_PAGE}")
                self._connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
                self._connection.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError:
                if time.monotonic() > patience:
                    raise
                time.sleep(0.01)
        with self.transaction():
            if not self._tables():
                # AUTOINCREMENT: a number is never given twice, so that a reader can ask for those after the last it saw.
                for statement in schema("INTEGER PRIMARY KEY AUTOINCREMENT", "REAL", "TEXT", "TEXT"):
                    self._connection.execute(statement)

    def execute(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        return self._connection.execute(sql, values).fetchall()

    def stream(self, sql: str, values: Sequence[Any] = ()) -> Iterator[Row]:
        """See ``SqlStore.stream``."""
        yield from self._connection.execute(sql, values)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        # IMMEDIATE: a transaction that begins by reading could not wait for another writer, it would fail.
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def lock(self, names: Iterable[str]) -> None:
        """See ``SqlStore.lock``: only this transaction writes."""

    def tag_sql(self, name: str) -> str:
        """See ``SqlStore.tag_sql``."""
        path = '$."' + name.replace('"', "") + '"'
        return "CAST(json_extract(tags, '" + path.replace("'", "''") + "') AS TEXT)"

    def prune(self, before: float | None, most: int) -> int:
        """See ``Store.prune``; freed pages go back to the file system."""
        count = super().prune(before, most)
        if count:
            # As a script: `execute` would take one step of it, which frees one page.
            self._connection.executescript(f"PRAGMA incremental_vacuum({_FREED_AT_ONCE})")
        return count

    def megabytes(self) -> float | None:
        """See ``Store.megabytes``."""
        (pages,), (free,), (size,) = (self.execute(f"PRAGMA {n}")[0] for n in ("page_count", "freelist_count", "page_size"))
        return float((pages - free) * size / 1e6)

    def is_down(self, error: Exception) -> bool:
        """See ``Store.is_down``: locked, full, unreadable."""
        return isinstance(error, sqlite3.OperationalError)

    def close(self) -> None:
        """See ``Store.close``."""
        self._connection.close()


def _keep_private(path: Path) -> None:
    """Makes the file readable for its owner alone before anything is in it, since prompts may be.

    SQLite gives its log the same mode. Our own file with a wider mode is repaired. Raises OSError.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), 0o600))
        return
    except FileExistsError:
        pass
    if not hasattr(os, "getuid"):
        return
    for file in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        with suppress(OSError):  # the log exists only while somebody has the journal open
            state = file.stat()
            if stat.S_ISREG(state.st_mode) and state.st_uid == os.getuid() and state.st_mode & 0o077:
                file.chmod(0o600)
                log.warning(
                    "%s: other users could read the journal (mode %04o); it is 0600 now", file, state.st_mode & 0o7777
                )
