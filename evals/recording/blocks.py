"""A recording in blocks of rows as they stand in the file, so that whoever gets a block parses it, and no one else."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

from cascade.util.bounded_read import UnreadableFileError, read_lines
from evals.common.parquet_reader import pyarrow, read_batches

from . import parquet
from .check import RecordingError
from .format import Example, parsed, parsed_line

_BYTES, _ROWS = 4 << 20, 2_000


@dataclass(frozen=True, kw_only=True)
class Block:
    """Rows of a recording that follow one another.

    Attributes:
        path: The file.
        first: The number of the first line, or of the first row of a Parquet file, from 1.
        is_arrow: Whether ``data`` is a stream of Arrow's IPC format; otherwise it is JSON Lines.
        data: The rows.
    """

    path: str
    first: int
    is_arrow: bool
    data: bytes

    @cached_property
    def key(self) -> str:
        """The SHA-256 of the rows in hex."""
        return sha256(self.data).hexdigest()

    def examples(self) -> Iterator[tuple[str, Example]]:
        """Each example with its position in the file. Raises RecordingError."""
        if self.is_arrow:
            try:
                for number, row in enumerate(parquet.parsed_rows(_arrow_rows(self.data)), self.first):
                    yield (where := f"{self.path}: row {number}"), parsed(row, where)
            except RecordingError:
                raise
            except (ValueError, TypeError) as error:
                raise RecordingError(f"{self.path}: cannot be read as Parquet: {error}") from None
            return
        for number, line in enumerate(self.data.split(b"\n"), self.first):
            if line.strip():
                yield (where := f"{self.path}:{number}"), parsed(parsed_line(line, where), where)


def read_blocks(path: str) -> Iterator[Block]:
    """The blocks of a recording, streamed. Raises RecordingError, OSError."""
    try:
        yield from _arrow_blocks(path) if path.endswith(".parquet") else _line_blocks(path)
    except UnreadableFileError as error:
        raise RecordingError(str(error)) from None


def _line_blocks(path: str) -> Iterator[Block]:
    lines: list[bytes] = []
    size, first = 0, 1
    for number, line in enumerate(read_lines(path), 1):
        lines.append(line)
        size += len(line)
        if size >= _BYTES or len(lines) >= _ROWS:
            yield Block(path=path, first=first, is_arrow=False, data=b"".join(lines))
            lines, size, first = [], 0, number + 1
    if lines:
        yield Block(path=path, first=first, is_arrow=False, data=b"".join(lines))


def _arrow_blocks(path: str) -> Iterator[Block]:
    arrow, first = pyarrow("pyarrow"), 1
    for batch in read_batches(path):
        sink = arrow.BufferOutputStream()
        with arrow.ipc.new_stream(sink, batch.schema) as stream:
            stream.write_batch(batch)
        yield Block(path=path, first=first, is_arrow=True, data=sink.getvalue().to_pybytes())
        first += batch.num_rows


def _arrow_rows(data: bytes) -> Iterator[dict[str, Any]]:
    arrow = pyarrow("pyarrow")
    with arrow.ipc.open_stream(data) as stream:
        for batch in stream:
            yield from batch.to_pylist()
