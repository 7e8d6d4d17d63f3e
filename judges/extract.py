"""Takes a JSON value out of an answer: the whole text, a fenced block, or an object in surrounding prose."""

import json
import re
from typing import Any, NoReturn

_FENCE = re.compile(r"```[A-Za-z0-9_-]{0,20}[ \t]{0,8}\r?\n?")
_ATTEMPTS = 64  # opening brackets tried in prose before giving up: keeps hostile text linear


def extract_json(text: str) -> Any:
    """The first JSON value of ``text``. NaN and Infinity are not JSON. Raises ValueError, RecursionError if too deep."""
    stripped = text.strip()
    try:
        return _decoder.decode(stripped)
    except ValueError as error:
        first = error
    pieces = _FENCE.split(stripped)
    if len(pieces) > 2:
        for block in pieces[1::2][:_ATTEMPTS]:
            try:
                return _decoder.decode(block.strip())
            except ValueError:
                continue
    position = -1
    for _ in range(_ATTEMPTS):
        starts = [p for p in (stripped.find("{", position + 1), stripped.find("[", position + 1)) if p >= 0]
        if not starts:
            break
        position = min(starts)
        try:
            return _decoder.raw_decode(stripped, position)[0]
        except ValueError:
            continue
    raise ValueError(f"no JSON found: {first}")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(parse_constant=_no_constant)
