"""Several recordings as one."""

import json
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from .format import Example, encoded, parsed, read
from .join import Note, joined


def merged(first: str, others: Sequence[str], note: Note) -> Iterator[Example]:
    """The examples of all files, each once: what the files hold of the same example is put together, as ``joined`` does.

    The other files wait in a temporary database, so that memory does not grow. ``note`` is told what is not taken over.
    Raises RecordingError where two files contradict each other.
    """
    with tempfile.TemporaryDirectory() as folder, closing(sqlite3.connect(Path(folder, "waiting"))) as waiting:
        waiting.execute("CREATE TABLE rows (id BLOB, file TEXT, line BLOB)")
        for file in others:
            rows = ((_key(e.id), file, encoded(e)) for e in read(file))
            waiting.executemany("INSERT INTO rows VALUES (?, ?, ?)", rows)
        waiting.execute("CREATE INDEX by_id ON rows (id)")

        def with_others(example: Example, file: str) -> Example:
            for where, line in waiting.execute(
                "SELECT file, line FROM rows WHERE id = ? ORDER BY rowid", (_key(example.id),)
            ):
                if where != file:
                    example = joined(example, parsed(json.loads(line), where), (file, where), note)
            return example

        for example in read(first):
            yield with_others(example, first)
        known = {first}
        for file in others:
            for example in read(file):
                earlier = waiting.execute("SELECT DISTINCT file FROM rows WHERE id = ?", (_key(example.id),)).fetchall()
                if _in_first(waiting, first, example.id) or any(f in known for (f,) in earlier):
                    continue
                yield with_others(example, file)
            known.add(file)


def _in_first(waiting: sqlite3.Connection, first: str, id: str) -> bool:
    """Whether the first file has an example; its ids are read once."""
    if not waiting.execute("SELECT 1 FROM sqlite_master WHERE name = 'first'").fetchone():
        waiting.execute("CREATE TABLE first (id BLOB PRIMARY KEY) WITHOUT ROWID")
        waiting.executemany("INSERT INTO first VALUES (?)", ((_key(e.id),) for e in read(first)))
    return waiting.execute("SELECT 1 FROM first WHERE id = ?", (_key(id),)).fetchone() is not None


def _key(id: str) -> bytes:
    """The id as the database can hold it, whatever it is."""
    return id.encode("utf-8", "surrogatepass")
