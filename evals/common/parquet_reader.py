"""Reads Parquet files row by row with bounded memory."""

import os
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from cascade.util.bounded_read import UnreadableFileError
from cascade.util.extras import MissingExtraError, sentence

MAX_GROUP_BYTES = 1 << 30
_BATCH_ROWS, _BATCH_BYTES = 2_000, 256 << 20


def pyarrow(name: str) -> Any:
    """A module of pyarrow. Raises ModuleNotFoundError with the extra that installs it."""
    try:
        return import_module(name)
    except ModuleNotFoundError as missing:
        raise MissingExtraError(sentence("Parquet", "pyarrow"), name="pyarrow") from missing


def read_rows(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, streamed: each by its column names. See ``read_batches`` for errors."""
    for batch in read_batches(path):
        yield from batch.to_pylist()


def read_batches(path: str | os.PathLike[str]) -> Iterator[Any]:
    """The rows of a Parquet file, some at a time and at most as many as fit in memory.

    Args:
        path: The file.

    Yields:
        Each ``pyarrow.RecordBatch``, in order.

    Raises:
        UnreadableFileError: The file is damaged, or a row group unpacks to more than ``MAX_GROUP_BYTES``.
        ModuleNotFoundError: pyarrow is not installed.
        OSError: The file cannot be opened.
    """
    parquet, arrow = pyarrow("pyarrow.parquet"), pyarrow("pyarrow")
    try:
        with parquet.ParquetFile(path, pre_buffer=False, page_checksum_verification=True) as file:
            for number in range(file.num_row_groups):
                size = _batch_rows(file.metadata.row_group(number), f"{path}: row group {number + 1}")
                yield from file.iter_batches(batch_size=size, row_groups=[number])
    except arrow.ArrowInvalid as error:
        raise UnreadableFileError(f"{path}: cannot be read as Parquet: {' '.join(str(error).split())}") from None
    except (MemoryError, arrow.ArrowMemoryError):
        raise UnreadableFileError(f"{path}: needs more memory than there is; write it with smaller row groups") from None
    except OSError as error:  # of the operating system, or pyarrow's type for damaged data
        if error.errno is not None:
            raise
        why = " ".join(str(error).split())
        raise UnreadableFileError(f"{path}: the Parquet data is damaged ({why}); copy the file again") from None


def _batch_rows(group: Any, where: str) -> int:
    """How many rows of a group to read at once, by the size of its columns. Raises UnreadableFileError."""
    columns = [group.column(i) for i in range(group.num_columns)]
    sizes = [column.total_uncompressed_size for column in columns]
    if sum(sizes) > MAX_GROUP_BYTES:
        raise UnreadableFileError(
            f"{where} unpacks to {sum(sizes) >> 20:,} MB, more than {MAX_GROUP_BYTES >> 20:,}; write smaller row groups"
        )
    # A dictionary holds a value once, however many rows repeat it: a row may unpack to the size of the column.
    largest: int = sum(size for size, column in zip(sizes, columns, strict=True) if column.has_dictionary_page)
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(largest, 1)))
