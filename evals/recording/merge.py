"""Several recordings as one."""

import json
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from .check import RecordingError
from .format import Example, read


def merged(first: str, others: Sequence[str]) -> Iterator[Example]:
    """The examples of all files, each once: answers of the same example are put together, whichever file they stand in.

    The other files wait in a temporary database, so that memory does not grow. Raises RecordingError where two files have
    another prompt under one id, or other answers of one model.
    """
    with tempfile.TemporaryDirectory() as folder, closing(sqlite3.connect(Path(folder, "waiting"))) as waiting:
        waiting.execute("CREATE TABLE rows (id TEXT, file TEXT, line TEXT)")
        for file in others:
            rows = ((e.id, file, json.dumps(e.to_json(), ensure_ascii=False)) for e in read(file))
            waiting.executemany("INSERT INTO rows VALUES (?, ?, ?)", rows)
        waiting.execute("CREATE INDEX by_id ON rows (id)")

        def with_others(example: Example, file: str) -> Example:
            for where, line in waiting.execute("SELECT file, line FROM rows WHERE id = ? ORDER BY rowid", (example.id,)):
                if where != file:
                    example = _joined(example, json.loads(line), file, where)
            return example

        for example in read(first):
            yield with_others(example, first)
        known = {first}
        for file in others:
            for example in read(file):
                earlier = waiting.execute("SELECT DISTINCT file FROM rows WHERE id = ?", (example.id,)).fetchall()
                if _in_first(waiting, first, example.id) or any(f in known for (f,) in earlier):
                    continue
                yield with_others(example, file)
            known.add(file)


def _in_first(waiting: sqlite3.Connection, first: str, id: str) -> bool:
    """Whether the first file has an example; its ids are read once."""
    if not waiting.execute("SELECT 1 FROM sqlite_master WHERE name = 'first'").fetchone():
        waiting.execute("CREATE TABLE first (id TEXT PRIMARY KEY) WITHOUT ROWID")
        waiting.executemany("INSERT INTO first VALUES (?)", ((e.id,) for e in read(first)))
    return waiting.execute("SELECT 1 FROM first WHERE id = ?", (id,)).fetchone() is not None


def _joined(example: Example, line: dict[str, Any], file: str, other: str) -> Example:
    if line["prompt"] != example.prompt:
        raise RecordingError(f"{other}: id {example.id!r} has another prompt in {file}; give one of them another id")
    answers = dict(example.answers)
    for model, answer in line["answers"].items():
        if model in answers and answers[model]["text"] != answer["text"]:
            raise RecordingError(
                f"{other}: id {example.id!r}: the answer of {model!r} is another one in {file}; rename the model in one of "
                "them, or take it out"
            )
        answers[model] = {**answer, **answers.get(model, {})}
    return replace(example, answers=answers)
