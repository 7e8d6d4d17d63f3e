"""The rows of a dataset, streamed: JSON Lines, CSV, Parquet or a folder of text files."""

import csv
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from cascade.util.bounded_read import MAX_LINE_BYTES, UnreadableFileError, read_at_most, read_lines, too_large
from evals.common.parquet_reader import read_rows

Row = dict[str, Any]
_TEXTS = (".txt", ".md")
_CELL_LIMIT = MAX_LINE_BYTES  # characters; the standard library's own limit of 131,072 is shorter than many prompts


class DatasetError(ValueError):
    """A dataset that cannot be used; the message names file, line and field, and says what to do."""


def rows(path: Path) -> Iterator[tuple[str, Row]]:
    """Each row with its place: file and line, or file and row.

    Raises:
        DatasetError: The file cannot be read as a dataset.
        OSError: The file cannot be opened.
    """
    if path.is_dir():
        return _folder(path)
    name = path.name.lower()
    if name.endswith((".jsonl", ".jsonl.gz", ".ndjson")):
        return _json_lines(path)
    if name.endswith((".csv", ".tsv")):
        return _csv(path, "\t" if name.endswith(".tsv") else ",")
    if name.endswith(".parquet"):
        return _parquet(path)
    raise DatasetError(f"{path}: a dataset is a .jsonl, .jsonl.gz, .csv, .tsv or .parquet file, or a folder of text files")


def _json_lines(path: Path) -> Iterator[tuple[str, Row]]:
    try:
        for number, line in enumerate(read_lines(path), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except UnicodeDecodeError:
                raise DatasetError(f"{path}:{number}: is not UTF-8 text; convert the file first") from None
            except (ValueError, RecursionError, MemoryError) as error:
                why = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
                raise DatasetError(f"{path}:{number}: not valid JSON ({why}); each line is one JSON object") from None
            if type(row) is not dict:
                raise DatasetError(f"{path}:{number}: must be a JSON object, got {type(row).__name__}")
            yield f"{path}:{number}", row
    except UnreadableFileError as error:
        raise DatasetError(str(error)) from None


def _csv(path: Path, delimiter: str) -> Iterator[tuple[str, Row]]:
    csv.field_size_limit(_CELL_LIMIT)
    with open(path, encoding="utf-8-sig", newline="") as file:
        lines = _BoundedRows(file, path)
        reader = csv.DictReader(lines, delimiter=delimiter, strict=True)
        try:
            _check_head(reader.fieldnames or (), path)
            for row in reader:
                lines.next_row()
                where = f"{path}:{reader.line_num}"
                if None in row or None in row.values():
                    columns = len(reader.fieldnames or ())
                    raise DatasetError(
                        f"{where}: the line does not have the {columns} cells of the first; quote cells with commas"
                    )
                yield where, {name: _cell(name, text, where) for name, text in row.items() if text != ""}
        except csv.Error as error:
            raise DatasetError(f"{path}:{reader.line_num + 1}: not valid CSV: {error}") from None
        except UnicodeDecodeError:
            number = next(i for i, line in enumerate(read_lines(path), 1) if not _is_text(line))
            raise DatasetError(f"{path}:{number}: is not UTF-8 text; convert the file first") from None


class _BoundedRows:
    """The lines of a CSV file; raises DatasetError for a row, which may span lines, that is too long."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self._file, self._path, self._number, self._row = file, path, 0, 0

    def __iter__(self) -> Iterator[str]:
        while line := self._file.readline(MAX_LINE_BYTES - self._row + 1):
            self._number += 1
            self._row += len(line)
            if self._row > MAX_LINE_BYTES:
                raise DatasetError(f"{self._path}:{self._number}: {too_large('the row', MAX_LINE_BYTES)}")
            yield line

    def next_row(self) -> None:
        """Starts to count the next row."""
        self._row = 0


def _check_head(names: Sequence[str], path: Path) -> None:
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise DatasetError(f"{path}:1: {twice!r}: two columns have this name; rename one")
    if len(names) == 1 and ";" in names[0]:
        raise DatasetError(f"{path}:1: the columns are separated by semicolons; save the file with commas or as .tsv")


def _is_text(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _cell(name: str, text: Any, where: str) -> Any:
    """A cell's value: text, except for fields that can only be JSON."""
    if name not in ("schema", "tools", "messages", "answers") or not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except ValueError:
        raise DatasetError(f"{where}: {name}: must be JSON") from None


def _parquet(path: Path) -> Iterator[tuple[str, Row]]:
    try:
        for number, row in enumerate(read_rows(path), 1):
            where = f"{path}: row {number}"
            yield where, {k: _cell(k, p, where) for k, v in row.items() if (p := _plain(v)) is not None}
    except (UnreadableFileError, ModuleNotFoundError) as error:
        raise DatasetError(f"{error}" if isinstance(error, UnreadableFileError) else f"{path}: {error}") from None


def _plain(value: Any) -> Any:
    """A Parquet value as JSON; the absent fields of a struct, null in Parquet, are left out."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None  # the mark of a missing number in a table
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _folder(path: Path) -> Iterator[tuple[str, Row]]:
    """Each text file as a row: its path is the id, its text ``prompt`` and ``text``, its folder the task."""
    files = sorted(f for f in path.rglob("*") if f.suffix.lower() in _TEXTS and f.is_file() and not _hidden(f, path))
    for file in files:
        relative = file.relative_to(path)
        try:
            with open(file, "rb") as raw:
                text = read_at_most(raw, MAX_LINE_BYTES, f"{file}: {too_large('the file', MAX_LINE_BYTES)}").decode()
        except UnreadableFileError as error:
            raise DatasetError(str(error)) from None
        except UnicodeDecodeError:
            raise DatasetError(f"{file}: is not UTF-8 text; convert it first") from None
        task = "" if relative.parent == Path() else relative.parent.as_posix()
        yield str(file), {"id": relative.as_posix(), "prompt": text, "text": text, "task": task}


def _hidden(file: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(root).parts)
