"""Reads and writes recordings: JSON Lines, one example a line, gzipped where the name ends in ``.gz``.

A recording holds what every model answered to every prompt, with quality, cost and latency, so that any ladder of its
models can be replayed without asking anybody.
"""

import gzip
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from evals.files import replacing
from evals.recording import parquet
from judges import Prompt

SPLITS = ("train", "test", None)
# Float rounding in providers makes a certain token's log-probability come out a hair above 0.
_LOGPROB_SLACK = 1e-6


class RecordingError(ValueError):
    """A recording that cannot be used; the message names file, line and field, and says what to do."""


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
        """What the engine is asked, with the example's id."""
        return Prompt.of(self.prompt, system=self.system, schema=self.schema, tools=self.tools, id=self.id)

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

    Memory grows by some 60 bytes an example, to find an id that stands twice. Raises RecordingError; OSError where the file
    cannot be opened.
    """
    seen: set[int] = set()
    for where, row in _numbered(path):
        example = _parse(row, where)
        key = hash(example.id)
        if key in seen and (earlier := where_stands(path, example.id)) != where:
            line = earlier.removeprefix(str(path)).strip(": row")
            raise RecordingError(f"{where}: id: {example.id!r} stands on line {line} too; give each its own id")
        seen.add(key)
        yield example
    if not seen:
        raise RecordingError(f"{path}:1: the file holds no example; a recording has one JSON object a line")


def _numbered(path: str | os.PathLike[str]) -> Iterator[tuple[str, Any]]:
    """Every row of a file with where it stands. Raises RecordingError, OSError."""
    if str(path).endswith(".parquet"):
        try:
            for number, row in enumerate(parquet.rows(path), 1):
                yield f"{path}: row {number}", row
        except (ValueError, TypeError) as error:  # what pyarrow and JSON raise
            raise RecordingError(f"{path}: cannot be read as Parquet: {error}") from None
        return
    number = 0
    with gzip.open(path, "rb") if str(path).endswith(".gz") else open(path, "rb") as file:
        lines = iter(file)
        while True:
            try:
                line = next(lines)
            except StopIteration:
                return
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                why = "is cut off" if isinstance(error, EOFError) else "is not valid gzip"
                raise RecordingError(f"{path}:{number + 1}: the gzip data {why}; copy the file again") from None
            number += 1
            if line.strip():
                yield f"{path}:{number}", _json(line, f"{path}:{number}")


def _json(line: bytes, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        why = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise RecordingError(f"{where}: not valid JSON ({why}); each line must be one JSON object") from None


def where_stands(path: str | os.PathLike[str], id: str) -> str:
    """Where an id stands first, as ``file:line``. Raises RecordingError, OSError."""
    return next(where for where, row in _numbered(path) if isinstance(row, dict) and row.get("id") == id)


def write(path: str | os.PathLike[str], examples: Iterable[Example]) -> int:
    """Writes a recording as a whole or not at all, and returns the number of examples.

    The same examples always give the same bytes (the gzip header carries neither time nor name). Raises OSError, and
    RecordingError for a number that JSON has not.
    """
    with replacing(path) as plain:
        if str(path).endswith(".parquet"):
            return parquet.dump(plain, (example.to_json() for example in examples))
        if str(path).endswith(".gz"):
            with gzip.GzipFile(filename="", mode="wb", fileobj=plain, mtime=0) as packed:
                return _dump(packed, examples)
        return _dump(plain, examples)


def models_of(examples: Iterable[Example]) -> list[str]:
    """Every model that answered, in order of first appearance."""
    return list(dict.fromkeys(model for example in examples for model in example.answers))


def _dump(file: IO[bytes] | gzip.GzipFile, examples: Iterable[Example]) -> int:
    count = 0
    for example in examples:
        count += 1
        line = example.to_json()
        try:
            text = json.dumps(line, ensure_ascii=False, allow_nan=False).encode()
        except UnicodeEncodeError:  # half of a surrogate pair, which a model may well say
            text = json.dumps(line, allow_nan=False).encode()
        except ValueError as error:
            raise RecordingError(
                f"{example.id!r}: holds NaN or an infinite number, which JSON has not: correct it"
            ) from error
        file.write(text + b"\n")
    return count


def _parse(row: Any, where: str) -> Example:
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
        if type(answer) is not dict or type(answer.get("text")) is not str or not _plain(answer):
            _check_answer(answer, f"{where}: answers[{model!r}]")
    return Example(
        row["id"],
        prompt,
        answers,
        row.get("task") or "",
        split,
        row.get("system"),
        row.get("schema"),
        tuple(row.get("tools") or ()),
        row.get("reference"),
        row,
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
)
_SIMPLE = frozenset({"text", "quality", "cost_usd", "latency_s", "logprob"})


def _plain(answer: Mapping[str, Any]) -> bool:
    """True for the common answer of known-good simple fields, so that big files are not slowed by the full check."""
    if not _SIMPLE.issuperset(answer):
        return False
    quality, usd, seconds, logprob = (answer.get(k) for k in ("quality", "cost_usd", "latency_s", "logprob"))
    return (
        (quality is None or (type(quality) is float and 0.0 <= quality <= 1.0))
        and (usd is None or (type(usd) is float and 0.0 <= usd < 1e300))
        and (seconds is None or (type(seconds) is float and 0.0 <= seconds < 1e300))
        and (logprob is None or (type(logprob) is float and -1e300 < logprob <= 0.0))
    )


def _check_answer(answer: Any, where: str) -> None:
    if type(answer) is not dict:
        raise RecordingError(f"{where}: must be an object, got {type_word(answer)}")
    if type(answer.get("text")) is not str:
        found = type_word(answer["text"]) if "text" in answer else "nothing"
        raise RecordingError(f"{where}.text: must be text, got {found}")
    _number(answer.get("quality"), f"{where}.quality", 0.0, 1.0, "; use null for an answer that is not graded")
    _number(answer.get("logprob"), f"{where}.logprob", None, _LOGPROB_SLACK, "; it is the mean natural logarithm")
    for name in ("cost_usd", "sample_cost_usd", "latency_s"):
        _number(answer.get(name), f"{where}.{name}", 0.0, None, "; use null where it is unknown")
    for name in ("usage", "verdicts", "verdict_cost_usd"):
        part = answer.get(name)
        if part is None:
            continue
        if type(part) is not dict:
            raise RecordingError(f"{where}.{name}: must be an object, got {type_word(part)}")
        high = 1.0 if name == "verdicts" else None
        for key, value in part.items():
            _number(value, f"{where}.{name}.{key}", 0.0, high, "; leave it out where it is unknown")
    for name in ("token_logprobs", "samples"):
        items = answer.get(name)
        if items is None:
            continue
        if type(items) is not list:
            raise RecordingError(f"{where}.{name}: must be a list, got {type_word(items)}")
        if name == "samples":
            for i, sample in enumerate(items):
                _check_answer(sample, f"{where}.samples[{i}]")
            continue
        for i, value in enumerate(items):
            if type(value) is not float or not -1e300 < value <= 0.0:
                if value is None:
                    raise RecordingError(f"{where}.token_logprobs[{i}]: must be a number, got null")
                _number(value, f"{where}.token_logprobs[{i}]", None, _LOGPROB_SLACK, "; it is a natural logarithm")


def _number(value: Any, where: str, low: float | None, high: float | None, remedy: str) -> None:
    if value is None:
        return
    if type(value) not in (int, float):
        raise RecordingError(f"{where}: must be a number, got {type_word(value)}{remedy}")
    # Whole numbers may be too large for a float, which isfinite() does not survive.
    if not -1e300 < value < 1e300 or (low is not None and value < low) or (high is not None and value > high):
        span = f"in [{low:g}, {high:g}]" if low is not None and high is not None else ">= 0" if high is None else "<= 0"
        raise RecordingError(f"{where}: must be a number {span}, got {value!r}{remedy}")


def type_word(value: Any) -> str:
    """What a JSON value is, in words."""
    return _KINDS.get(type(value), type(value).__name__)


def type_words(kinds: tuple[type, ...]) -> str:
    """What a JSON value may be, in words."""
    return " or ".join(_KINDS.get(kind, kind.__name__) for kind in kinds)


_KINDS: dict[type, str] = {
    str: "text",
    dict: "an object",
    list: "a list",
    bool: "true or false",
    int: "a number",
    float: "a number",
    type(None): "null",
}
