"""JSON in replies: the one reader for the schema judge, the self-consistency vote and the graders.

Of several values the last valid one counts, since models correct themselves downwards. Takes time linear in the text.
"""

import json
import re
from collections.abc import Callable, Iterator
from math import isinf
from typing import Any, NamedTuple, NoReturn

from .json_repairs import COMMENT, MOST_CHARACTERS, repaired_json

# How often the whole reply is read for the end of a value that has none: each time costs time linear in its length.
_MOST_SCANS = 4
_FENCE = re.compile(r"```[A-Za-z0-9_-]{0,20}[ \t]{0,8}\r?\n?")
_OPENING = re.compile(r"\{\s*[\"}]|\[\s*(?:[\[{\"\]\-\d]|true|false|null)")
_STRUCTURE = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
_LOOSE_OPENING = re.compile(r"\{\s*+(?:[\"'}#/]|\w++\s*+:)|\[\s*+(?:[\[{\"'\]\-\d#/]|true|false|null|True|False|None)")
_LOOSE_STRUCTURE = re.compile(rf"\"(?:[^\"\\]++|\\.)*+\"?|'(?:[^'\\]++|\\.)*+'?|{COMMENT}|[\[{{]|[\]}}]", re.DOTALL)
_MOST_SPANS = 256  # values in one text that are tried, from the last


class JsonMatch(NamedTuple):
    """A JSON value in a reply: the value, the JSON text itself, and whether it had to be repaired to be read.

    ``whole``: it is all of the reply. ``start`` and ``end`` are its position in characters.
    """

    value: Any
    text: str
    repaired: bool = False
    whole: bool = False
    start: int = 0
    end: int = 0


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if isinf(value):
        raise ValueError(f"{digits[:20]} is too large a number")
    return value


_decoder = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)


def parse_json(text: str) -> Any:
    """The value of a text that is JSON as a whole, without NaN, Infinity and numbers beyond a float.

    Raises:
        ValueError: It is not.
        RecursionError: It is nested too deeply.
    """
    return _decoder.decode(text)


def find_json(text: str, accepts: Callable[[Any], bool] | None = None, *, repair: bool = False) -> JsonMatch:
    """The JSON value that a reply gives.

    It is the reply as a whole, or else the last object in it, in a fenced block or in prose, or else the last array. What
    begins as an object or array and breaks is left out whole: a value inside it is not the answer. NaN, Infinity and numbers
    beyond a float are not JSON.

    Args:
        text: The reply, without reasoning.
        accepts: Which values are valid; of several, the last valid one is returned, and where none is, the last.
        repair: Read nearly-JSON where there is no JSON: trailing commas, comments, single quotes, raw line breaks in
            strings, unquoted keys, missing commas, Python's True, False and None. What was cut stays broken, and so does
            what needs a guess or is longer than 16,000 characters.

    Raises:
        ValueError: There is no JSON in the reply.
        RecursionError: It is nested too deeply.
    """
    stripped = text.strip("\ufeff \t\r\n")
    try:
        value, end = _decoder.raw_decode(stripped)
        if end == len(stripped):
            # Around a byte order mark it is not whole: what is returned is the value alone.
            return JsonMatch(value, stripped, False, "\ufeff" not in text[:1] + text[-1:], 0, len(text))
        raise json.JSONDecodeError("Extra data", stripped, end)
    except ValueError as error:
        reason = _reason(error)
    last: JsonMatch | None = None
    for loose in (False, True) if repair else (False,):
        for match in _values(stripped, loose=loose):
            if isinstance(match, ValueError):
                reason = _reason(match)
                continue
            if accepts is None or accepts(match.value):
                return match
            last = last or match
        if last is not None:
            return last
    for start, end in reversed(list(_blocks(stripped))):  # a number or a text in a fence
        try:
            value = _decoder.decode(stripped[start:end].strip())
        except ValueError:
            continue
        return JsonMatch(value, stripped[start:end].strip(), start=start, end=end)
    raise ValueError(f"no JSON found: {reason}")


def _reason(error: ValueError) -> str:
    return str(error)[:120]


def _values(text: str, *, loose: bool) -> Iterator[JsonMatch | ValueError]:
    """The values in a reply from the last to the first, objects before arrays, and why a candidate is not one."""
    spans = _spans(text, loose=loose)[-_MOST_SPANS:]
    spans.sort(key=lambda span: (text[span[0]] != "{", -span[0]))
    left = MOST_CHARACTERS  # for all of them: the repair is what takes time
    for start, end in spans:
        piece = text[start:end]
        try:
            if loose:
                left -= len(piece)
                if left < 0:
                    raise ValueError(f"nearly-JSON over {MOST_CHARACTERS} characters is not repaired")
                value = repaired_json(piece)
            else:
                value = _decoder.decode(piece)
        except ValueError as error:
            yield error
            continue
        yield JsonMatch(value, json.dumps(value) if loose else piece, repaired=loose, start=start, end=end)


def _spans(text: str, *, loose: bool) -> list[tuple[int, int]]:
    """The positions of the outermost closed objects and arrays."""
    opening, structure = (_LOOSE_OPENING, _LOOSE_STRUCTURE) if loose else (_OPENING, _STRUCTURE)
    spans = []
    for begin, stop in _segments(text, structure):
        position = begin
        while (match := opening.search(text, position, stop)) is not None:
            end = _end_of_brackets(text, match.start(), stop, structure)
            if end < 0:
                break
            spans.append((match.start(), end))
            position = end
    return spans


def _segments(text: str, structure: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    """The fenced blocks and the prose between them: a bracket that is never closed costs no more than its own.

    A fence inside a value, as in a string, does not end the block.
    """
    begin, scans = 0, _MOST_SCANS
    for fence in _FENCE.finditer(text):
        if fence.start() < begin:
            continue
        if scans and (end := _end_across(text, begin, fence.start(), structure)) is not None:
            if end > fence.start():
                yield begin, end
                begin = end
                continue
            scans -= end < 0
        yield begin, fence.start()
        begin = fence.end()
    yield begin, len(text)


def _end_across(text: str, begin: int, fence: int, structure: re.Pattern[str]) -> int | None:
    """The end of a value that has the fence in one of its strings; -1 where it has no end; None where no value is open."""
    if _OPENING.match(text, begin) or _LOOSE_OPENING.match(text, begin):
        return _end_of_brackets(text, begin, len(text), structure)
    while (opening := _OPENING.search(text, begin, fence)) is not None:
        begin = _end_of_brackets(text, opening.start(), fence, _STRUCTURE)
        if begin < 0:
            try:  # in prose only what is JSON counts: a bracket of the prose may be open, too
                return _decoder.raw_decode(text, opening.start())[1]
            except (ValueError, RecursionError):
                return -1
    return None


def _end_of_brackets(text: str, start: int, stop: int, structure: re.Pattern[str]) -> int:
    depth = 0
    for token in structure.finditer(text, start, stop):
        first = token[0][0]
        depth += 1 if first in "[{" else -1 if first in "]}" else 0
        if depth == 0:
            return token.end()
    return -1


def _blocks(text: str) -> Iterator[tuple[int, int]]:
    fences = list(_FENCE.finditer(text))[:_MOST_SPANS]
    for opening, closing in zip(fences[::2], fences[1::2], strict=False):
        yield opening.end(), closing.start()
