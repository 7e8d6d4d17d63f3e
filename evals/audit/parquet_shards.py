"""Sums over the Parquet files of a journal in shards of row groups, by threads of this process or by an engine's workers.

Each shard is added up by one thread, and shards are merged in their order: so sums are the same to the last bit, whoever
adds them up, and however many do.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from cascade.journal.store import Row
from evals.engines import Engine

SHARD_ROWS = 1_000_000
_FOOTER_END = 8  # bytes: the footer's length and the magic number
_MOST_THREADS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class RowRange:
    """Rows of a file from ``first`` to before ``end``, whole row groups; ``number`` is the file's among all files."""

    path: str
    number: int
    first: int
    end: int
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """SQL on the tables of a journal, with its values."""

    sql: str
    values: Sequence[Any]


def row_ranges(connection: Any, files: Sequence[str]) -> Iterator[RowRange]:
    """The shards of files, in their order."""
    for number, path in enumerate(files):
        sizes = connection.execute(
            "SELECT row_group_id, any_value(row_group_num_rows) FROM parquet_metadata(?) GROUP BY 1 ORDER BY 1", [path]
        ).fetchall()
        footer, first, rows = _footer(path), 0, 0
        for group, size in sizes:
            rows += size
            if rows >= SHARD_ROWS or group == sizes[-1][0]:
                key = sha256(footer + f"{first}:{first + rows}".encode()).hexdigest()
                absolute = str(Path(path).resolve())
                yield RowRange(path=absolute, number=number, first=first, end=first + rows, key=key)
                first, rows = first + rows, 0


def _footer(path: str) -> bytes:
    """What the file says of its content: where each column begins, how long it is, its least and largest values."""
    with open(path, "rb") as file:
        file.seek(-_FOOTER_END, os.SEEK_END)
        length = int.from_bytes(file.read(4), "little")
        file.seek(-_FOOTER_END - length, os.SEEK_END)
        return file.read(length)


def by_shard(
    work: Callable[[Query, RowRange], list[Row]], query: Query, shards: Iterable[RowRange], engine: Engine | None
) -> Iterator[list[Row]]:
    """What the query gives for each shard, in their order.

    Args:
        work: Runs the query on a shard.
        query: It groups rows, so that little comes back.
        shards: The shards.
        engine: Whose workers read them, each in the file at its path; None: threads of this process.

    Raises:
        EngineError: The engine fails.
        JournalError: A file cannot be read where the worker runs.
    """
    if engine is not None:
        yield from engine.map(work, query, shards)
        return
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as threads:
        yield from threads.map(partial(work, query), shards)
