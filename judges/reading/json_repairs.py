"""Nearly-JSON as JSON, by the library json-repair, where a policy allows it.

The library reads anything and guesses: it closes what was cut, drops what it does not know and makes text of a bad number.
So its result counts only where quotes, commas, comments, escapes and blanks alone differ from what was written.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

MOST_CHARACTERS = 16_000  # of one reply: the library takes quadratic time, here 0.2 s at worst
MOST_DEPTH = 100  # brackets: the library is recursive
COMMENT = r"//[^\n]*+|\#[^\n]*+|/\*(?:[^*]++|\*(?!/))*+\*/"
_STRING_OR_COMMENT = re.compile(rf"(?P<string>\"(?:[^\"\\]++|\\.)*+\"|'(?:[^'\\]++|\\.)*+')|{COMMENT}", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_FRACTION = re.compile(r"(?<![\w.])\d{1,400}(?:\.\d{1,400})?(?:e[-+]?\d{1,3})?(?![\w.])", re.IGNORECASE)
_DROPPED = re.compile(r"[\s,\"'“”‘’\\]+")
_QUOTED_WORD = re.compile(r"[\"'“‘]\s*([^\s\"'\\“”‘’]+)")
_WORD = re.compile(r"\s*([^\s\"'\\“”‘’]+)")


def repaired_json(text: str) -> Any:
    """The value of one closed object or array that is nearly JSON.

    Args:
        text: From its opening to its closing bracket, up to ``MOST_CHARACTERS``.

    Raises:
        ValueError: It cannot be repaired, or only by changing, adding or dropping more than punctuation.
    """
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"nearly-JSON over {MOST_CHARACTERS} characters is not repaired")
    if text.count("{") + text.count("[") > MOST_DEPTH and _depth(text) > MOST_DEPTH:
        raise ValueError("nearly-JSON is nested too deeply to be repaired")
    # Imported here: 40 ms that only a policy with `repair: true` pays, at its first broken answer.
    from json_repair import repair_json

    try:
        value = repair_json(text, return_objects=True, skip_json_loads=True, strict=True)
        value = json.loads(json.dumps(value, allow_nan=False))  # joins the two halves of a character beyond 16 bits
        written = json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError, IndexError, TypeError) as error:
        raise ValueError(f"the JSON cannot be repaired: {error}"[:120]) from None
    source = _STRING_OR_COMMENT.sub(lambda m: m[0] if m["string"] else " ", text)
    quoted = set(_QUOTED_WORD.findall(_unescaped(source)))
    if not isinstance(value, dict | list) or _content(source) != _content(written) or not _were_quoted(value, quoted):
        raise ValueError("the JSON cannot be repaired without guessing")
    return value


def _depth(text: str) -> int:
    depth = deepest = 0
    for bracket in re.findall(r"[\[{\]}]", text):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _unescaped(text: str) -> str:
    """Without escapes; line breaks and tabs become blanks."""
    plain = _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else " " if m[2] in "nrtbf" else m[2], text)
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # two halves are one character


def _content(text: str) -> str:
    """What a repair must leave: brackets, keys, values and their order."""
    plain = re.sub(r"\bnone\b", "null", _unescaped(text).casefold())
    return _DROPPED.sub("", _FRACTION.sub(_number, plain))


def _number(match: re.Match[str]) -> str:
    """A number in one notation: 1.50 and 1.5 are equal, 007 is no number."""
    digits = match[0]
    if digits.isdigit() or (digits[0] == "0" and digits[1] not in ".e"):
        return digits
    return repr(float(digits))


def _were_quoted(value: Any, quoted: set[str]) -> bool:
    """Whether every text in a value begins as a text in quotes: 3O and 1,000 are broken numbers, not texts."""
    return all(match is None or match[1] in quoted for match in map(_WORD.match, _texts(value)))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
