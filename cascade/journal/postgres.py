"""A journal in Postgres, by psycopg 3: for many processes and machines."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, cast

from cascade.errors import JournalError
from cascade.policy.journal_config import without_password
from cascade.util.extras import sentence

from .record import dumps
from .store import COLUMNS, Row, SqlStore
from .tables import ADDED_TABLES, added_schema, check_version, missing_columns, schema

CONNECT_S = 10
# A host that has vanished is noticed after 15 s, not after the system's two hours.
_VANISHED: dict[str, Any] = {
    "keepalives_idle": 10,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
_STREAMED = 10_000  # rows that are fetched at once
_NUMBER, _REAL = "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "DOUBLE PRECISION"
_TYPES = {
    **dict.fromkeys(("started", "ended", "confidence", "cost_usd", "premium_usd", "latency_s"), "DOUBLE PRECISION"),
    "accepted": "BOOLEAN",
    "tags": "JSONB",
    "body": "JSON",
    "tiers_asked": "INTEGER",
    "sampling_probability": "DOUBLE PRECISION",
}
_INSERT = (
    f"INSERT INTO cascade_runs ({', '.join(COLUMNS)}) SELECT "
    + ", ".join(f"CAST(r ->> {i} AS {_TYPES.get(name, 'TEXT')})" for i, name in enumerate(COLUMNS))
    + " FROM jsonb_array_elements(CAST(? AS JSONB)) AS r ON CONFLICT (run_id) DO NOTHING"
)
_LOCK = 0x6361736361646531  # the advisory lock under which one process makes the tables


class PostgresStore(SqlStore):
    """Implements Store. A commit waits for the server's disk, whatever the server's default: its crash loses none.

    ``create=False`` refuses a database that holds no journal. Raises JournalError, which shows no password.
    """

    now_sql = "EXTRACT(EPOCH FROM clock_timestamp())"

    def __init__(self, url: str, *, create: bool = True) -> None:
        try:
            import psycopg
        except ImportError:  # also where it is there, and no libpq: the extra brings one
            raise JournalError(sentence("a journal in Postgres", "psycopg")) from None
        self._errors = (psycopg.OperationalError, psycopg.InterfaceError)
        self.where = without_password(url)
        try:
            self._connection = psycopg.connect(
                url, autocommit=True, connect_timeout=CONNECT_S, application_name="cascade journal", **_VANISHED
            )
        except psycopg.Error as error:
            raise JournalError(f"{self.where}: no connection to the journal ({_brief(error, url)})") from None
        try:
            self._prepare(create)
        except psycopg.Error as error:
            self.close()
            raise JournalError(f"{self.where}: the journal cannot be opened: {_brief(error, url)}") from None
        except BaseException:
            self.close()
            raise

    def _prepare(self, create: bool) -> None:
        self.execute("SET synchronous_commit = on")
        tables = self._tables()
        if "cascade_journal" not in tables and not create:
            raise JournalError(f"{self.where}: holds no journal")
        if not tables.issuperset(("cascade_journal", *ADDED_TABLES)):
            with self.transaction():
                self.execute("SELECT pg_advisory_xact_lock(?)", (_LOCK,))
                if "cascade_journal" in self._tables():
                    statements = added_schema(_NUMBER, _REAL, "JSON")
                else:
                    statements = schema(_NUMBER, _REAL, "JSON", "JSONB")
                for statement in statements:
                    self.execute(statement)
        if any(missing_columns(self._columns())):
            with self.transaction():
                self.execute("SELECT pg_advisory_xact_lock(?)", (_LOCK,))
                for statement in missing_columns(self._columns()):
                    self.execute(statement)
        ((version,),) = self.execute("SELECT version FROM cascade_journal")
        check_version(version, self.where)

    def _tables(self) -> set[str]:
        """The journal's tables."""
        # Not to_regclass: its cache would not see what another process made while this one waited for the lock.
        query = "SELECT tablename FROM pg_tables WHERE schemaname = ANY (current_schemas(false))"
        return {name for (name,) in self.execute(query)}

    def _columns(self) -> set[str]:
        """The columns of the runs."""
        query = (
            "SELECT column_name FROM information_schema.columns "
            "WHERE table_name = 'cascade_runs' AND table_schema = ANY (current_schemas(false))"
        )
        return {name for (name,) in self.execute(query)}

    def execute(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        cursor = self._connection.execute(cast(Any, sql.replace("?", "%s")), values)
        return cursor.fetchall() if cursor.description is not None else []

    def stream(self, sql: str, values: Sequence[Any] = ()) -> Iterator[Row]:
        """See ``SqlStore.stream``: by a cursor in the server."""
        with self._connection.transaction(), self._connection.cursor(name="cascade_stream") as cursor:
            cursor.itersize = _STREAMED
            cursor.execute(cast(Any, sql.replace("?", "%s")), values)
            yield from cursor

    def transaction(self) -> AbstractContextManager[Any]:
        return self._connection.transaction()

    def insert(self, rows: Sequence[Row]) -> None:
        """See ``SqlStore.insert``: as one JSON text, which costs the client half of binding every value."""
        self.execute(_INSERT, (dumps(rows),))

    def commit_durably(self) -> None:
        """See ``SqlStore.commit_durably``."""
        self.execute("SET LOCAL synchronous_commit = on")

    def lock(self, names: Iterable[str]) -> None:
        """See ``SqlStore.lock``; always in the same order, so that two never wait for each other."""
        for name in sorted(names):
            self.execute("SELECT pg_advisory_xact_lock(hashtextextended(CAST(? AS TEXT), 0))", (name,))

    def tag_sql(self, name: str) -> str:
        """See ``SqlStore.tag_sql``."""
        return "(tags ->> '" + name.replace("'", "''") + "')"

    def prune(self, before: float | None, most: int) -> int:
        """See ``Store.prune``; one process at a time, the others find nothing to do."""
        with self.transaction():
            if not self.execute("SELECT pg_try_advisory_xact_lock(?)", (_LOCK + 1,))[0][0]:
                return 0
            return super().prune(before, most)

    def megabytes(self) -> float | None:
        """See ``Store.megabytes``: a table does not shrink when rows are deleted, so its size says nothing."""
        return None

    def is_down(self, error: Exception) -> bool:
        """See ``Store.is_down``."""
        return isinstance(error, self._errors)

    def close(self) -> None:
        """See ``Store.close``."""
        self._connection.close()


def _brief(error: Exception, url: str) -> str:
    """The first line of the driver's words, without the URL's user and password should it quote them."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    from urllib.parse import parse_qs, unquote, urlsplit

    parts = urlsplit(url)
    userinfo = parts.netloc.rpartition("@")[0]
    secrets = [url, userinfo, userinfo.partition(":")[2], *parse_qs(parts.query).get("password", ())]
    for secret in filter(None, (*secrets, *map(unquote, secrets))):
        text = text.replace(secret, "[redacted]")
    return text[:200]
