"""The Parquet files of ``cascade journal export --format parquet``, read as a journal's tables by DuckDB."""

import glob
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from cascade.errors import JournalError
from cascade.journal.record import Record
from cascade.journal.store import Row, SqlStore
from cascade.util.extras import sentence
from evals.engines import Engine

from .parquet_shards import Query, RowRange, by_shard, row_ranges

_ROWS_AT_ONCE = 10_000
MEMORY = "1GB"
"""What DuckDB may use; what is larger goes to a temporary folder."""
_NEEDED = {"tiers_asked", "premium_tier", "loss", "label_number", "measured_premium_usd"}
_VIEWS = (
    "CREATE VIEW cascade_runs AS SELECT * REPLACE (epoch_us(started) / 1e6 AS started, epoch_us(ended) / 1e6 AS ended, "
    "CAST(sampling_probability AS DOUBLE) AS sampling_probability), "
    "file_row_number + 10000000000 * file_index AS id FROM journal_rows",
    "CREATE VIEW cascade_labels AS SELECT run_id, policy, policy_hash, sampling_probability AS probability, "
    "'done' AS state, label_number AS number, CAST(loss AS DOUBLE) AS loss FROM journal_rows WHERE loss IS NOT NULL",
    "CREATE VIEW cascade_shadows AS SELECT run_id, premium_tier AS tier, 'done' AS state, "
    "CAST(measured_premium_usd AS DOUBLE) AS cost_usd FROM journal_rows WHERE measured_premium_usd IS NOT NULL",
    "CREATE TABLE cascade_promises (policy TEXT, policy_hash TEXT, state TEXT, number BIGINT, tracker TEXT)",
    'CREATE TABLE cascade_anchors (id BIGINT, anchor TEXT, judge DOUBLE, human DOUBLE, grader TEXT, "at" DOUBLE)',
)


class ParquetStore(SqlStore):
    """Implements the part of ``SqlStore`` that an audit reads with.

    Args:
        pattern: A file, or a pattern such as ``journal/*.parquet``.

    Raises:
        JournalError: DuckDB is not installed, no file matches, or one is no export of a journal.
    """

    def __init__(self, pattern: str) -> None:
        files = sorted(glob.glob(pattern))
        if not files:
            raise JournalError(f"{pattern}: no such file")
        self._files = files
        self._open(pattern, dict(enumerate(files)))

    @classmethod
    def of_shard(cls, shard: RowRange) -> "ParquetStore":
        """The rows of one shard, which one thread reads; the same ids as in the whole."""
        store = cls.__new__(cls)
        store._files = [shard.path]
        store._open(
            shard.path, {shard.number: shard.path}, f"WHERE file_row_number BETWEEN {shard.first} AND {shard.end - 1}"
        )
        store.execute("SET threads = 1")
        return store

    def _open(self, name: str, files: Mapping[int, str], condition: str = "") -> None:
        try:
            import duckdb
        except ImportError:
            raise JournalError(sentence("auditing Parquet files", "duckdb")) from None
        self._connection = duckdb.connect(config={"memory_limit": MEMORY, "preserve_insertion_order": False})
        numbered = ", ".join(f"({i}, ?)" for i in files)
        try:
            self.execute(
                f"CREATE TABLE files AS SELECT * FROM (VALUES {numbered}) AS f (file_index, name)", list(files.values())
            )
            listed = ", ".join("'" + file.replace("'", "''") + "'" for file in files.values())
            read = f"read_parquet([{listed}], file_row_number = true, filename = true)"
            self.execute(
                f"CREATE VIEW journal_rows AS SELECT p.*, f.file_index FROM (SELECT * FROM {read} {condition}) p "
                "JOIN files f ON f.name = p.filename"
            )
            columns = {row[0] for row in self.execute("DESCRIBE journal_rows")}
        except duckdb.Error as error:
            raise JournalError(f"{name}: cannot be read: {str(error).splitlines()[0]}") from None
        if missing := sorted(_NEEDED - columns):
            raise JournalError(
                f"{name}: has no column {', '.join(missing)}; export it again: cascade journal export FILE --format parquet"
            )
        for statement in _VIEWS:
            self.execute(statement)

    def by_shard(self, sql: str, values: Sequence[Any], engine: Engine | None) -> Iterator[list[Row]]:
        """What a query gives for each shard of the files, in their order; see ``parquet_shards``."""
        shards = row_ranges(self._connection, self._files)
        return by_shard(_rows_of_shard, Query(sql=sql, values=list(values)), shards, engine)

    def execute(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """See ``SqlStore.execute``."""
        rows: list[Row] = self._connection.execute(sql, list(values)).fetchall()
        return rows

    def stream(self, sql: str, values: Sequence[Any] = ()) -> Iterator[Row]:
        """``execute`` for many rows, some at a time."""
        cursor = self._connection.cursor().execute(sql, list(values))
        while rows := cursor.fetchmany(_ROWS_AT_ONCE):
            yield from rows

    def transaction(self) -> AbstractContextManager[Any]:
        """Nothing is written, so there is none."""
        return nullcontext()

    def lock(self, names: Iterable[str]) -> None:
        """Nothing to lock."""

    def tag_sql(self, name: str) -> str:
        """See ``SqlStore.tag_sql``."""
        return "json_extract_string(tags, '$.\"" + name.replace('"', "").replace("'", "''") + "\"')"

    def policies(self) -> dict[str, str]:
        """Of each policy, as much as an audit reads: its last tier, the largest share that it samples, its texts."""
        rows = self.execute(
            "SELECT policy_hash, any_value(premium_tier), max(sampling_probability), bool_or(prompt IS NOT NULL) "
            "FROM journal_rows WHERE kind = 'run' GROUP BY policy_hash"
        )
        return {hash: _policy(premium_tier, share, has_text) for hash, premium_tier, share, has_text in rows if premium_tier}

    def find(self, run_id: str) -> Record | None:
        """See ``SqlStore.find``."""
        from .parquet_records import record_of

        rows = self.execute("SELECT * FROM cascade_runs WHERE run_id = ?", (run_id,))
        names = [column[0] for column in self._connection.description or ()]
        return record_of(dict(zip(names, rows[0], strict=True))) if rows else None

    def megabytes(self) -> float | None:
        """See ``Store.megabytes``."""
        return None

    def is_down(self, error: Exception) -> bool:
        """Files do not come back by themselves."""
        return False

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()


def _rows_of_shard(query: Query, shard: RowRange) -> list[Row]:
    import duckdb

    try:
        store = ParquetStore.of_shard(shard)
        try:
            return store.execute(query.sql, query.values)
        finally:
            store.close()
    except duckdb.Error as error:
        raise JournalError(f"{shard.path}: cannot be read: {str(error).splitlines()[0]}") from None


def _policy(premium_tier: str, share: float | None, has_text: bool) -> str:
    import json

    shadow = None if share is None else {"share": share}
    return json.dumps({"tiers": [{"name": premium_tier}], "shadow": shadow, "journal_text": has_text})
