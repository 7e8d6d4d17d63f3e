"""Recordings as Parquet: a row an example, in batches, so that memory does not grow with the file.

Texts are columns of text; what is nested (answers, a prompt of messages, schema, tools, a reference that is not text,
further fields) is written as JSON. Files of other tools, in which answers are nested columns, are read, too.
"""

import json
import os
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from typing import IO, Any

from evals.common.parquet_reader import pyarrow, read_rows

from .check import RecordingError, no_number

BATCH = 2_000
_TEXTS = ("id", "task", "split", "system")
_NESTED = ("prompt", "schema", "tools", "reference", "answers", "more")


def rows(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """The rows in the form of the JSON lines. Raises UnreadableFileError, ModuleNotFoundError, OSError, ValueError."""
    return parsed_rows(read_rows(path))


def parsed_rows(rows_by_column: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows with their columns' values in the form of the JSON lines. Raises ValueError."""
    return map(_row, rows_by_column)


def _row(row: dict[str, Any]) -> dict[str, Any]:
    further = row.pop("more", None)
    fields = {name: _parsed_value(name, value) for name, value in row.items() if value is not None}
    answers = fields.get("answers")
    if isinstance(answers, Mapping):
        # In nested columns a model that did not answer, and a field that an answer lacks, are nulls; in JSON null is null.
        fields["answers"] = dict(answers) if isinstance(row["answers"], str) else _bare(answers)
    if further is None:
        return fields
    # Other tools may call a column so, too.
    more = _from_json(further)
    return fields | (more if isinstance(more, dict) else {"more": _plain(further)})


def _parsed_value(name: str, value: Any) -> Any:
    if isinstance(value, str):
        parsed = _from_json(value) if name in _NESTED else value
        # A prompt is text or messages: the 5 of another tool's column of texts is a text.
        return parsed if name != "prompt" or isinstance(parsed, str | list) else value
    return _plain(dict(value) if name == "answers" and isinstance(value, list) else value)


def _plain(value: Any) -> Any:
    """As JSON holds it: days and times in ISO 8601, decimals as numbers, bytes in base64."""
    match value:
        case dict():
            return {k: _plain(v) for k, v in value.items()}
        case list() | tuple():
            return [_plain(v) for v in value]
        case date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case Decimal():
            return float(value)
        case bytes():
            return b64encode(value).decode()
    return value


def _from_json(text: Any) -> Any:
    """The value of a JSON text; anything else is returned unchanged."""
    try:
        return json.loads(text)
    except (ValueError, TypeError):
        return text


def _bare(answer: Any) -> Any:
    if isinstance(answer, Mapping):
        return {k: _bare(v) for k, v in answer.items() if v is not None}
    return [_bare(v) for v in answer] if isinstance(answer, list) else answer


def dump(file: IO[bytes], lines: Iterable[Mapping[str, Any]]) -> int:
    """Writes the rows and returns their number. Raises ModuleNotFoundError without pyarrow, RecordingError."""
    arrow, parquet = pyarrow("pyarrow"), pyarrow("pyarrow.parquet")
    schema = arrow.schema([(name, arrow.string()) for name in (*_TEXTS, *_NESTED)])
    count = 0
    with parquet.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer:
        batch: list[dict[str, str | None]] = []
        for line in lines:
            batch.append(_columns(line))
            count += 1
            if len(batch) == BATCH:
                writer.write_table(arrow.Table.from_pylist(batch, schema))
                batch = []
        writer.write_table(arrow.Table.from_pylist(batch, schema))
    return count


def _columns(line: Mapping[str, Any]) -> dict[str, str | None]:
    columns: dict[str, str | None] = {name: line.get(name) for name in _TEXTS}
    for name, text in columns.items():
        if text is not None and not _is_utf8(text):
            raise RecordingError(
                f"id {line['id']!r}: {name}: holds half of a surrogate pair, which Parquet cannot hold; write JSON Lines"
            )
    try:
        for name in _NESTED[:-1]:
            value = line.get(name)
            # A text that reads as JSON is written as JSON, too, so that it comes back as the text that it is.
            as_it_is = isinstance(value, str) and name == "prompt" and _from_json(value) is value and _is_utf8(value)
            columns[name] = value if value is None or as_it_is else _json(value)
        more = {k: v for k, v in line.items() if k not in columns}
        columns["more"] = _json(more) if more else None
    except ValueError:
        raise no_number(line) from None
    return columns


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return text if _is_utf8(text) else json.dumps(value, allow_nan=False)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
