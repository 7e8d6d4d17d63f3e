"""Counts score tables of any length from Parquet files, in shards of whole row groups, here or on the workers of an engine.

The shards are the same wherever they are counted, and are added up in their order: so are the sums, to the last bit.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from evals.common.parquet_reader import pyarrow
from evals.engines import Engine

from .threshold_sweep import CHUNK, FloatArray, Tally, TierColumns

SHARD_ROWS = 1 << 20
_FOOTER_END = 8  # bytes: the footer's length and the magic number


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupShard:
    """Row groups of a file that follow one another, from ``first`` to before ``end``; ``key`` identifies their content."""

    path: str
    first: int
    end: int
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counting:
    cuts: Sequence[ArrayLike]
    columns: Sequence[tuple[str, str, str]]
    batch_rows: int


def tally_parquet(
    path: str | Path,
    cuts: Sequence[ArrayLike],
    *,
    columns: Sequence[tuple[str, str, str]] | None = None,
    batch_rows: int = CHUNK,
    engine: Engine | None = None,
) -> Tally:
    """Counts the rows of a Parquet file, ``batch_rows`` at a time, so that memory does not grow with the file.

    ``columns`` names each tier's confidence, quality and cost; the default is ("p1", "q1", "c1"), ("p2", "q2", "c2"), ...
    All are float32 or float64 without nulls; the last tier's confidence is not read and may be absent. With an ``engine``
    its workers count, each in the file at ``path``, which every node must have; the result is the same to the last bit.

    Raises:
        MissingExtraError: pyarrow is not installed.
        ValueError: A column is missing, of another type, has nulls or numbers out of range, or ``cuts`` are not valid.
        EngineError: The engine fails.
        OSError: The file cannot be read.
    """
    total = Tally(cuts)
    tiers = len(total.cuts) + 1
    names = columns if columns is not None else [(f"p{i}", f"q{i}", f"c{i}") for i in range(1, tiers + 1)]
    if len(names) != tiers:
        raise ValueError(f"columns of {len(names)} tiers are named, but there are {tiers} tiers")
    counting = _Counting(cuts=total.cuts, columns=names, batch_rows=batch_rows)
    shards = _shards(path, _names_read(names))
    tallies = (_count(counting, shard) for shard in shards) if engine is None else engine.map(_count, counting, shards)
    for tally in tallies:
        total.merge(tally)
    return total


def _names_read(columns: Sequence[tuple[str, str, str]]) -> list[str]:
    return list(dict.fromkeys([name for tier in columns[:-1] for name in tier] + list(columns[-1][1:])))


def _open(path: str | Path) -> Any:
    # Pre-buffering would keep the whole file in memory; small buffers hold even where it is a single row group.
    return pyarrow("pyarrow.parquet").ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)


def _shards(path: str | Path, names: Sequence[str]) -> Iterator[GroupShard]:
    """The shards, after a check of the columns."""
    with _open(path) as file:
        types = {field.name: str(field.type) for field in file.schema_arrow}
        groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    for name in names:
        if types.get(name) not in ("float", "double"):
            raise ValueError(f"{path}: column {name!r} is {types.get(name, 'missing')}, not float32 or float64")
    footer = _footer(path)
    first = rows = 0
    for number, size in enumerate(groups, 1):
        rows += size
        if rows >= SHARD_ROWS or number == len(groups):
            key = sha256(footer + f"{first}:{number}".encode()).hexdigest()
            yield GroupShard(path=str(path), first=first, end=number, key=key)
            first, rows = number, 0


def _footer(path: str | Path) -> bytes:
    """The metadata in the file's footer: where each column begins, its length, its smallest and largest values."""
    with open(path, "rb") as file:
        file.seek(-_FOOTER_END, os.SEEK_END)
        length = int.from_bytes(file.read(4), "little")
        file.seek(-_FOOTER_END - length, os.SEEK_END)
        return file.read(length)


def _count(counting: _Counting, shard: GroupShard) -> Tally:
    tally, read = Tally(counting.cuts), _names_read(counting.columns)
    with _open(shard.path) as file:
        groups = list(range(shard.first, shard.end))
        for batch in file.iter_batches(batch_size=counting.batch_rows, row_groups=groups, columns=read):
            arrays = {name: _column(shard.path, name, batch.column(name)) for name in read}
            tally.add([TierColumns(arrays.get(p), arrays[q], arrays[c]) for p, q, c in counting.columns])
    return tally


def _column(path: str, name: str, column: Any) -> FloatArray:
    if column.null_count:
        raise ValueError(f"{path}: column {name!r} has nulls")
    return np.asarray(column.to_numpy())
