"""Recordings as Parquet: a row an example, in batches, so that memory does not grow with the file.

Texts are columns of text; what is nested (answers, a prompt of messages, schema, tools, a reference that is no text, further
fields) is written as JSON. Read are also files of other tools, in which answers are nested columns.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from typing import IO, Any

BATCH = 2_000
_TEXTS = ("id", "task", "split", "system")
_NESTED = ("prompt", "schema", "tools", "reference", "answers", "more")


def _pyarrow(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError("Parquet needs pyarrow: pip install 'cascade-gate[parquet]'") from missing


def rows(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """The rows as a line of JSON would give them. Raises ModuleNotFoundError without pyarrow, OSError, ValueError."""
    parquet = _pyarrow("pyarrow.parquet")
    with parquet.ParquetFile(path, pre_buffer=False) as file:
        for batch in file.iter_batches(batch_size=BATCH):
            for row in batch.to_pylist():
                yield _row(row)


def _row(row: dict[str, Any]) -> dict[str, Any]:
    made = {name: _told(name, value) for name, value in row.items() if value is not None and name != "more"}
    answers = made.get("answers")
    if isinstance(answers, Mapping):
        # In nested columns a model that did not answer, and a field that an answer has not, are nulls.
        made["answers"] = {m: _bare(a) for m, a in answers.items() if a is not None}
    return made | (json.loads(row["more"]) if row.get("more") else {})


def _told(name: str, value: Any) -> Any:
    if name not in _NESTED or not isinstance(value, str):
        return dict(value) if name == "answers" and isinstance(value, list) else value
    if name in ("prompt", "reference") and value[:1] not in '[{"' and not _is_json(value):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _bare(answer: Any) -> Any:
    return {k: v for k, v in answer.items() if v is not None} if isinstance(answer, Mapping) else answer


def dump(file: IO[bytes], lines: Iterable[Mapping[str, Any]]) -> int:
    """Writes the rows and returns their number. Raises ModuleNotFoundError without pyarrow."""
    arrow, parquet = _pyarrow("pyarrow"), _pyarrow("pyarrow.parquet")
    schema = arrow.schema([(name, arrow.string()) for name in (*_TEXTS, *_NESTED)])
    count = 0
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
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
    made: dict[str, str | None] = {name: line.get(name) for name in _TEXTS}
    for name in _NESTED[:-1]:
        value = line.get(name)
        # A text that reads as JSON is written as JSON, too, so that it comes back as the text that it is.
        plain = isinstance(value, str) and name == "prompt" and value[:1] not in '[{"' and not _is_json(value)
        made[name] = value if value is None or plain else json.dumps(value, ensure_ascii=False, allow_nan=False)
    more = {k: v for k, v in line.items() if k not in made}
    made["more"] = json.dumps(more, ensure_ascii=False, allow_nan=False) if more else None
    return made
