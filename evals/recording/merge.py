"""Merges several recordings into one."""

import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from .check import RecordingError
from .format import Example, encoded, parsed, read
from .join import ByPrompt, Note, joined


def merged(first: str, others: Sequence[str], note: Note, same: ByPrompt | None = None) -> Iterator[Example]:
    """The examples of all files, each once: the records of one example are joined (see ``joined``).

    Examples are the same if they have one id, or if ``same`` gives them one; the first file's id is then the example's.
    The other files wait in a temporary database, so that memory does not grow. ``note`` is called for what is left out.
    Raises RecordingError if two files contradict each other.
    """

    def examples(file: str) -> Iterator[Example]:
        return read(file) if same is None else _matched(file, same)

    for _ in examples(first) if same is not None else ():
        pass  # its ids come before the others'
    with tempfile.TemporaryDirectory() as folder, closing(sqlite3.connect(Path(folder, "waiting"))) as waiting:
        # It does not outlive this function, so it need not survive a crash.
        waiting.execute("PRAGMA journal_mode = OFF")
        waiting.execute("PRAGMA synchronous = OFF")
        waiting.execute("CREATE TABLE rows (id BLOB, file TEXT, line BLOB)")
        for file in others:
            n_known = len(same.ids) if same is not None else 0
            rows = ((_key(e.id), file, encoded(e)) for e in examples(file))
            count = waiting.executemany("INSERT INTO rows VALUES (?, ?, ?)", rows).rowcount
            if same is not None:
                _check_matches(file, count, len(same.ids) - n_known, (first, *others[: others.index(file)]), note)
        waiting.execute("CREATE INDEX by_id ON rows (id)")

        def with_others(example: Example, file: str) -> Example:
            for where, line in waiting.execute(
                "SELECT file, line FROM rows WHERE id = ? ORDER BY rowid", (_key(example.id),)
            ):
                if where != file:
                    example = joined(example, parsed(json.loads(line), where), (file, where), note)
            return example

        for example in examples(first):
            yield with_others(example, first)
        files = {first}
        for file in others:
            for example in examples(file):
                earlier = waiting.execute("SELECT DISTINCT file FROM rows WHERE id = ?", (_key(example.id),)).fetchall()
                if _in_first(waiting, examples, first, example.id) or any(f in files for (f,) in earlier):
                    continue
                yield with_others(example, file)
            files.add(file)


def _check_matches(file: str, count: int, n_new: int, earlier: Sequence[str], note: Note) -> None:
    """Refuses a file of which no prompt was in an earlier one, and notes prompts that were in none."""
    if count and n_new == count:
        files = earlier[0] if len(earlier) == 1 else f"any of {', '.join(earlier)}"
        raise RecordingError(
            f"{file}: none of its {count:,} prompts is in {files}; nothing was written; compare the prompts, system "
            "messages, schemas and tools, or merge by id"
        )
    if n_new:
        note("examples of a file whose prompt is in no earlier file were added", f"{n_new:,} of {count:,} in {file}")


def _matched(file: str, same: ByPrompt) -> Iterator[Example]:
    """A file's examples with the ids that they have in common with other files'."""
    seen: dict[str, str] = {}
    for example in read(file):
        matched = same(example)
        if (earlier := seen.get(matched.id)) is not None:
            raise RecordingError(
                f"{file}: id {example.id!r} asks what id {earlier!r} asks, so that prompts do not tell them apart; "
                "take one of them out"
            )
        seen[matched.id] = example.id
        yield matched


def _in_first(waiting: sqlite3.Connection, examples: Callable[[str], Iterator[Example]], first: str, id: str) -> bool:
    """Whether the first file has an example; its ids are read once."""
    if not waiting.execute("SELECT 1 FROM sqlite_master WHERE name = 'first'").fetchone():
        waiting.execute("CREATE TABLE first (id BLOB PRIMARY KEY) WITHOUT ROWID")
        waiting.executemany("INSERT INTO first VALUES (?)", ((_key(e.id),) for e in examples(first)))
    return waiting.execute("SELECT 1 FROM first WHERE id = ?", (_key(id),)).fetchone() is not None


def _key(id: str) -> bytes:
    """The id as the database can hold it, whatever it is."""
    return id.encode("utf-8", "surrogatepass")
