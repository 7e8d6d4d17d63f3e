"""A value of a parsed log with its position, so that errors name file, line and field."""

import json
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cascade.util.bounded_read import UnreadableFileError, read_document, read_lines
from evals.recording import RecordingError
from evals.recording.check import type_word, type_words

NUMBER = (int, float)
MOST = 1e15  # of any count, time, price or logarithm; beyond it is damage, and sums would overflow
_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")


@dataclass(frozen=True, slots=True)
class Field:
    """``value`` at ``path`` of ``where`` (a file, with its line or member); ``reads`` says which shape is understood."""

    value: Any
    where: str
    reads: str
    path: str = ""

    def need(self, name: str, *kinds: type, low: float = -MOST) -> "Field":
        """A field that must be there and be of one of these types, a number at least ``low``. Raises RecordingError."""
        inner = self.get(name, *kinds, low=low)
        if inner is None:
            raise self._below(name, None).wrong("is missing")
        return inner

    def get(self, name: str, *kinds: type, low: float = -MOST) -> "Field | None":
        """A field that may be absent or null. Raises RecordingError where it is of another type, or such a number's size."""
        if not isinstance(self.value, dict):
            raise self.wrong(f"must be an object, got {type_word(self.value)}")
        inner = self._below(name, self.value.get(name))
        if inner.value is None:
            return None
        # True and false are numbers to Python, not to JSON.
        if not isinstance(inner.value, kinds) or (isinstance(inner.value, bool) and bool not in kinds):
            raise inner.wrong(f"must be {type_words(kinds)}, got {type_word(inner.value)}")
        if type(inner.value) in NUMBER:
            inner.between(low)
        return inner

    def value_of(self, name: str, *kinds: type, low: float = -MOST) -> Any:
        """The value of a field that may be absent, else None. Raises RecordingError as ``get`` does."""
        inner = self.get(name, *kinds, low=low)
        return None if inner is None else inner.value

    def between(self, low: float, high: float = MOST) -> float:
        """The value, a number of that span. Raises RecordingError."""
        if type(self.value) not in NUMBER:
            raise self.wrong(f"must be a number, got {type_word(self.value)}")
        if not low <= self.value <= high:
            span = f"from {low:g} to {high:g}"
            raise self.wrong(f"must be a number {span}; correct the line or take it out")
        return float(self.value)

    def items(self) -> "Iterator[Field]":
        """The items of a list."""
        for i, value in enumerate(self.value):
            yield Field(value, self.where, self.reads, f"{self.path}[{i}]")

    def wrong(self, problem: str) -> RecordingError:
        """The error that says what is wrong with this field."""
        return RecordingError(f"{self.where}: {self.path or 'the log'}: {problem}; {self.reads}")

    def _below(self, name: str, value: Any) -> "Field":
        return Field(value, self.where, self.reads, f"{self.path}.{name}" if self.path else name)


class SeveralValuesError(RecordingError):
    """A file that should hold one JSON value holds one and more after it, as JSON Lines do."""


def document(path: str | os.PathLike[str], reads: str, text: bytes | None = None, lists: bool = False) -> Field:
    """A JSON file (gzipped where it ends in ``.gz``), or ``text``, the content of an archive's member, as a whole.

    The value must be an object, or with ``lists`` an object or a list.

    Raises RecordingError, OSError.
    """
    if text is None:
        try:
            text = read_document(path)
        except UnreadableFileError as error:
            raise RecordingError(str(error)) from None
    return parse_line(text, str(path), reads, lists)


def lines(path: str | os.PathLike[str], reads: str) -> Iterator[Field]:
    """The lines of a JSON Lines file (gzipped where it ends in ``.gz``), streamed. Raises RecordingError, OSError."""
    try:
        for number, line in enumerate(read_lines(path), 1):
            if line.strip():
                yield parse_line(line, f"{path}:{number}", reads)
    except UnreadableFileError as error:
        raise RecordingError(str(error)) from None


def parse_line(text: bytes, where: str, reads: str, lists: bool = False) -> Field:
    """The JSON object, or with ``lists`` also list, that a text holds. Raises RecordingError."""
    try:
        value = json.loads(text, parse_constant=_unknown, parse_float=_float)
        if _HALF_PAIR.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise RecordingError(f"{where}: holds half of a surrogate pair, which is not text; correct it; {reads}") from None
    except UnicodeDecodeError:
        raise RecordingError(f"{where}: is not UTF-8 text; save it as UTF-8; {reads}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        at = f"line {error.lineno}: " if isinstance(error, json.JSONDecodeError) and error.lineno > 1 else ""
        why = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        kind = (
            SeveralValuesError if isinstance(error, json.JSONDecodeError) and _begins_with_a_value(text) else RecordingError
        )
        raise kind(f"{where}: {at}not valid JSON ({why}); {reads}") from None
    if not isinstance(value, dict | list if lists else dict):
        raise RecordingError(f"{where}: must be a JSON object, got {type_word(value)}; {reads}")
    return Field(value, where, reads)


def _begins_with_a_value(text: bytes) -> bool:
    try:
        json.JSONDecoder().raw_decode(text.decode().lstrip())
    except ValueError:
        return False
    return True


def _unknown(_: str) -> None:
    """NaN and Infinity, which tools write though JSON has them not: no figure, so unknown."""


def _float(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None
