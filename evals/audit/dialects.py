"""What the databases write differently in the SQL of an audit; ``r`` is a row of ``cascade_runs``."""

from dataclasses import dataclass

from cascade.journal.sqlite import SqliteStore
from cascade.journal.store import SqlStore

from .parquet_store import ParquetStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """Expressions of one database.

    Attributes:
        day: The UTC day of a run's begin, in days since 1970.
        tiers_asked: How many tiers a run asked.
        probability: That with which a run was to be sampled; null where its policy samples none.
        attempts: The attempts as the text of a JSON array.
        prompt: The prompt as the text of a JSON object; null where it is not stored.
        has_reviews: Whether what people said of runs is there.
        before_sums: A statement that goes before a query with many sums, in its transaction; empty: none.
        fence: Ends a query inside another one, so that its columns are computed before the outer one sorts.
    """

    day: str
    tiers_asked: str
    probability: str
    attempts: str
    prompt: str
    has_reviews: bool = True
    before_sums: str = ""
    fence: str = ""


_SQLITE = Dialect(
    day="CAST(r.started / 86400 AS INTEGER)",
    # The body is read for rows of an earlier cascade alone, which have no such columns.
    tiers_asked="COALESCE(r.tiers_asked, (SELECT COUNT(*) FROM json_each(r.body, '$.attempts') AS a "
    "WHERE json_extract(a.value, '$.reason') <> 'skipped'))",
    probability="CASE WHEN r.tiers_asked IS NULL THEN json_extract(r.body, '$.sampling_probability') "
    "ELSE r.sampling_probability END",
    attempts="json_extract(r.body, '$.attempts')",
    prompt="json_extract(r.body, '$.prompt')",
)
_POSTGRES = Dialect(
    day="CAST(FLOOR(r.started / 86400) AS BIGINT)",
    tiers_asked="COALESCE(r.tiers_asked, "
    "(SELECT COUNT(*) FROM json_array_elements(r.body -> 'attempts') AS a WHERE a ->> 'reason' <> 'skipped'))",
    probability="CASE WHEN r.tiers_asked IS NULL THEN CAST(r.body ->> 'sampling_probability' AS DOUBLE PRECISION) "
    "ELSE r.sampling_probability END",
    attempts="CAST(r.body -> 'attempts' AS TEXT)",
    prompt="CAST(r.body -> 'prompt' AS TEXT)",
    # Groups are few, which the planner does not know: it would sort all runs on disk.
    before_sums="SET LOCAL enable_sort = off",
    # Without it, whole bodies are sorted: the planner computes a column with a query inside only after the sort.
    fence=" OFFSET 0",
)
_PARQUET = Dialect(
    day="CAST(FLOOR(r.started / 86400) AS BIGINT)",
    tiers_asked="r.tiers_asked",
    probability="r.sampling_probability",
    attempts="r.attempts",
    prompt="r.prompt",
    has_reviews=False,
)


def dialect_of(store: SqlStore) -> Dialect:
    """The dialect of a journal's database."""
    if isinstance(store, ParquetStore):
        return _PARQUET
    return _SQLITE if isinstance(store, SqliteStore) else _POSTGRES
