"""URL -> Store: the one place that knows which database is which class; drivers load when a journal is first opened."""

from cascade.errors import JournalError
from cascade.policy.journal_config import is_sqlite, sqlite_path, wrong

from .store import SqlStore


def open_store(url: str, *, full: bool = True, create: bool = True) -> SqlStore:
    """A connection to the journal at ``url``, made with its tables unless ``create=False``. Raises JournalError."""
    problem = wrong(url)
    if problem is not None:
        raise JournalError(f"journal: the URL {problem}")
    if is_sqlite(url):
        from .sqlite import SqliteStore

        return SqliteStore(sqlite_path(url), full=full, create=create)
    from .postgres import PostgresStore

    return PostgresStore(url, create=create)
