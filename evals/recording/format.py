"""Reads and writes recordings: JSON Lines, one example a line, gzipped where the name ends in ``.gz``.

A recording holds what every model answered to every prompt, with quality, cost and latency, so that any ladder of its
models can be replayed without asking anybody.
"""

import gzip
import json
import os
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import IO, Any

from cascade.util.atomic_write import replacing
from cascade.util.bounded_read import UnreadableFileError, read_lines
from judges import Prompt

from . import parquet
from .check import RecordingError, check_answer, no_number, plain, type_word, type_words

SPLITS = ("train", "test", None)
_decode = json.JSONDecoder().decode  # without json.loads' search for the encoding, which is UTF-8


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt with every model's answer to it.

    ``prompt`` is text or a list of chat messages; ``answers`` maps a model's name to its recorded answer (text, quality in
    [0, 1] or None, cost_usd, latency_s, ...); ``raw`` is the whole original line, so unknown fields survive a rewrite.
    """

    id: str
    prompt: str | list[Mapping[str, Any]]
    answers: Mapping[str, Mapping[str, Any]]
    task: str = ""
    split: str | None = None
    system: str | None = None
    schema: Mapping[str, Any] | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    reference: Any = None
    raw: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def to_prompt(self) -> Prompt:
        """The request to the engine, with the example's id."""
        tool_choice = self.raw.get("tool_choice") if self.tools else None
        return Prompt.of(
            self.prompt, system=self.system, schema=self.schema, tools=self.tools, id=self.id, tool_choice=tool_choice
        )

    def to_json(self) -> dict[str, Any]:
        """The line to write: the original with this example's fields laid over it."""
        line = dict(self.raw)
        line.update(id=self.id, prompt=self.prompt, answers=self.answers)
        for name, value, default in (
            ("task", self.task, ""),
            ("split", self.split, None),
            ("system", self.system, None),
            ("schema", self.schema, None),
            ("tools", list(self.tools), []),
            ("reference", self.reference, None),
        ):
            if name in line or value != default:
                line[name] = value
        return line


def read(path: str | os.PathLike[str]) -> Iterator[Example]:
    """The examples of a recording, streamed; ``.parquet`` is read as Parquet.

    Memory grows by some 60 bytes an example, to find an id that occurs twice. Raises RecordingError; OSError where the file
    cannot be opened.
    """
    seen: set[int] = set()
    for where, row in _numbered(path):
        example = parsed(row, where)
        key = hash(example.id)
        if key in seen and (earlier := where_stands(path, example.id)) != where:
            line = f"on line {earlier.removeprefix(str(path)).strip(': row')} too" if earlier else "twice"
            raise RecordingError(f"{where}: id: {example.id!r} occurs {line}; give each its own id")
        seen.add(key)
        yield example
    if not seen:
        raise RecordingError(f"{path}:1: the file holds no example; a recording has one JSON object a line")


def _numbered(path: str | os.PathLike[str]) -> Iterator[tuple[str, Any]]:
    """Every row of a file with its position. Raises RecordingError, OSError."""
    if str(path).endswith(".parquet"):
        try:
            for number, row in enumerate(parquet.rows(path), 1):
                yield f"{path}: row {number}", row
        except UnreadableFileError as error:
            raise RecordingError(str(error)) from None
        except (ValueError, TypeError) as error:  # what pyarrow and JSON raise
            raise RecordingError(f"{path}: cannot be read as Parquet: {error}") from None
        return
    try:
        for number, line in enumerate(read_lines(path), 1):
            if line.strip():
                yield f"{path}:{number}", parsed_line(line, f"{path}:{number}")
    except UnreadableFileError as error:
        raise RecordingError(str(error)) from None


def parsed_line(line: bytes, where: str) -> Any:
    """The JSON value of the line at ``where``. Raises RecordingError."""
    try:
        return _decode(line.decode())
    except json.JSONDecodeError as error:
        if line.startswith(BOM_UTF8):
            return parsed_line(line.removeprefix(BOM_UTF8), where)
        why = f"not valid JSON ({error.msg}); each line must be one JSON object"
    except UnicodeDecodeError:
        why = "is not UTF-8 text; save it as UTF-8"
        for start, form, ending in ((b"\x1f\x8b", "gzip data", ".gz"), (b"PAR1", "Parquet", ".parquet")):
            if line.startswith(start) and where.endswith(":1"):
                why = f"is {form}; give it a name that ends in {ending}"
    except RecursionError:
        why = "is nested too deeply; remove the nested field"
    except MemoryError:
        why = "needs more memory than there is; remove the line"
    except ValueError:  # Python reads no whole number of more than 4,300 digits
        why = "holds a number of too many digits; correct it"
    raise RecordingError(f"{where}: {why}")


def where_stands(path: str | os.PathLike[str], id: str) -> str | None:
    """The first position of an id, as ``file:line``; None for a pipe, read once. Raises RecordingError, OSError."""
    return next((where for where, row in _numbered(path) if isinstance(row, dict) and row.get("id") == id), None)


def write_encoded(path: str | os.PathLike[str], blocks: Iterable[bytes]) -> None:
    """Writes a recording as ``write`` does, from blocks of ``encoded`` lines with their line ends.

    Raises OSError, and RecordingError for a line that the format of the file cannot hold.
    """
    if str(path).endswith(".parquet"):
        lines = (line for block in blocks for line in block.splitlines(keepends=False) if line)
        write(path, (parsed(_decode(line.decode()), str(path)) for line in lines))
        return
    with replacing(path) as file:
        if str(path).endswith(".gz"):
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
                for block in blocks:
                    packed.write(block)
        else:
            file.writelines(blocks)


def write(path: str | os.PathLike[str], examples: Iterable[Example]) -> int:
    """Writes a recording as a whole or not at all, and returns the number of examples; see ``write_all``."""
    return write_all([(path, examples)])[0]


def write_all(parts: Sequence[tuple[str | os.PathLike[str], Iterable[Example]]]) -> list[int]:
    """Writes several recordings, all of them as a whole or none at all, and returns their numbers of examples.

    The same examples always give the same bytes (the gzip header carries neither time nor name). Raises OSError, and
    RecordingError for a number that JSON cannot represent.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(replacing(path)) for path, _ in parts]
        counts = []
        for file, (path, examples) in zip(files, parts, strict=True):
            counts.append(_fill(file, path, examples))
            # All data is on disk before the first file is replaced, so that a full disk replaces none.
            file.flush()
            os.fsync(file.fileno())
        return counts


def _fill(file: IO[bytes], path: str | os.PathLike[str], examples: Iterable[Example]) -> int:
    if str(path).endswith(".parquet"):
        return parquet.dump(file, (example.to_json() for example in examples))
    if str(path).endswith(".gz"):
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
            return _dump(packed, examples)
    return _dump(file, examples)


def models_of(examples: Iterable[Example]) -> list[str]:
    """Every model that answered, in order of first appearance."""
    return list(dict.fromkeys(model for example in examples for model in example.answers))


def _dump(file: IO[bytes] | gzip.GzipFile, examples: Iterable[Example]) -> int:
    count = 0
    for example in examples:
        count += 1
        file.write(encoded(example) + b"\n")
    return count


def encoded(example: Example) -> bytes:
    """The example's line. Raises RecordingError for a number that JSON cannot represent."""
    line = example.to_json()
    try:
        return json.dumps(line, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:  # half a surrogate pair, as an answer that was cut off may end in: only JSON can say it
        return json.dumps(line, allow_nan=False).encode()
    except ValueError:
        raise no_number(line) from None


def parsed(row: Any, where: str) -> Example:
    """The example that a parsed line at ``where`` is. Raises RecordingError."""
    if type(row) is not dict:
        raise RecordingError(f"{where}: must be a JSON object, got {type_word(row)}")
    for name, kinds, needed in _FIELDS:
        value = row.get(name)
        if value is None:
            if needed:
                raise RecordingError(f"{where}: {name}: is missing; every example needs it")
        elif not isinstance(value, kinds):
            raise RecordingError(f"{where}: {name}: must be {type_words(kinds)}, got {type_word(value)}")
    split = row.get("split")
    if split not in SPLITS:
        raise RecordingError(f"{where}: split: must be 'train', 'test' or null, got {split!r}")
    prompt = row["prompt"]
    if type(prompt) is list and not (prompt and all(type(m) is dict and "role" in m for m in prompt)):
        raise RecordingError(f"{where}: prompt: must be text or a list of messages that each have a 'role'")
    answers = row["answers"]
    for model, answer in answers.items():
        if type(answer) is not dict or type(answer.get("text")) is not str or not plain(answer):
            check_answer(answer, f"{where}: answers[{model!r}]")
    return Example(
        id=row["id"],
        prompt=prompt,
        answers=answers,
        task=row.get("task") or "",
        split=split,
        system=row.get("system"),
        schema=row.get("schema"),
        tools=tuple(row.get("tools") or ()),
        reference=row.get("reference"),
        raw=row,
    )


_FIELDS: tuple[tuple[str, tuple[type, ...], bool], ...] = (
    ("id", (str,), True),
    ("prompt", (str, list), True),
    ("answers", (dict,), True),
    ("task", (str,), False),
    ("split", (str,), False),
    ("system", (str,), False),
    ("schema", (dict,), False),
    ("tools", (list,), False),
    ("tool_choice", (str, dict), False),
)
