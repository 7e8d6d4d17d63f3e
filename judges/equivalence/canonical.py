"""JSON in an answer as canonical text."""

import json
from typing import Any, NoReturn

from judges.reading.json_values import find_json


def canonical_json(value: Any) -> str | None:
    """A JSON value as canonical text (sorted keys, 1.0 written as 1); None where it is not JSON or nested too deep."""
    try:
        # Reading back what was written turns any mapping's values into plain ones with the numbers made canonical.
        return parsed_json(json.dumps(value))
    except (ValueError, TypeError, RecursionError):
        return None


def _float(text: str) -> int | float:
    value = float(text)
    return int(value) if value.is_integer() else value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_float=_float, parse_constant=_no_constant)


def parsed_json(text: str) -> str | None:
    try:
        return json.dumps(_DECODER.decode(text), sort_keys=True, separators=(",", ":"))
    except (ValueError, RecursionError):
        return None


def json_container(text: str) -> str | None:
    stripped = text.strip()
    return parsed_json(stripped) if stripped[:1] in ("{", "[") else None


def json_inside(text: str, *, at_an_end: bool = False) -> str | None:
    """The last JSON object or array in a reply; ``at_an_end``: prose is allowed on one side of it only, or a fence."""
    if "{" not in text and "[" not in text:
        return None
    text = text.strip("\ufeff \t\r\n")
    try:
        match = find_json(text)
    except (ValueError, RecursionError):
        return None
    if at_an_end and not match.whole:
        before, after = text[: match.start].rstrip(), text[match.end :].lstrip()
        is_fenced = "```" in before[-30:] and after.startswith("```")
        if not is_fenced and ((before and after) or text[match.start] == "["):
            return None
    return canonical_json(match.value)
