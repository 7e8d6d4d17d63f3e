"""Readers of single fields. Each says, where a value is wrong, which field it is and what it may be."""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

from jiter import from_json

from .errors import bad

MAX_DEPTH = 64


def json_object(raw: bytes) -> dict[str, Any]:
    """The body as an object. Raises Refusal: no JSON, a name that stands twice, nested too deep for a parser, no object."""
    try:
        body = from_json(raw, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as error:
        raise bad(f"the body is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(body, dict):
        raise bad("the body must be a JSON object", code="invalid_json")
    return body


def number(value: Any, name: str, least: float, most: float) -> float:
    """A number from ``least`` to ``most``."""
    if type(value) not in (int, float) or not (least <= value <= most and math.isfinite(value)):
        raise bad(f"must be a number from {least:g} to {most:g}", name)
    return float(value)


def whole(value: Any, name: str, least: int, most: int) -> int:
    """A whole number from ``least`` to ``most``."""
    if type(value) is not int or not least <= value <= most:
        raise bad(f"must be a whole number from {least} to {most}", name)
    return value


def boolean(value: Any, name: str) -> bool:
    """True or false."""
    if type(value) is not bool:
        raise bad("must be true or false", name)
    return value


def text(value: Any, name: str, most: int | None = None, *, empty: bool = True) -> str:
    """A text of at most ``most`` characters."""
    if type(value) is not str or (most is not None and len(value) > most) or not (value or empty):
        least = "" if empty else "not empty"
        limit = "" if most is None else f"of at most {most} characters"
        raise bad(" ".join(filter(None, ("must be a text", limit, least))), name)
    return value


def one_of(value: Any, name: str, known: Collection[Any]) -> Any:
    """One of a few values."""
    if not isinstance(value, str | bool) or value not in known:
        raise bad(f"must be one of {', '.join(map(_shown, known))}", name)
    return value


def listed(value: Any, name: str) -> list[Any]:
    """A list."""
    if type(value) is not list:
        raise bad("must be a list", name)
    return value


def object_of(value: Any, name: str, known: Collection[str] | None = None, needed: Collection[str] = ()) -> dict[str, Any]:
    """An object with no other fields than ``known`` (None: any) but such that are null, and with those ``needed``."""
    if type(value) is not dict:
        raise bad("must be an object", name)
    for key in value:
        if known is not None and key not in known and value[key] is not None:
            raise bad(f"unknown field; known: {', '.join(sorted(known))}", f"{name}.{key}")
    for key in needed:
        if key not in value:
            raise bad("is missing", f"{name}.{key}")
    return value


def shallow(value: Any, name: str, most: int = MAX_DEPTH) -> Any:
    """Any value that is not nested deeper than ``most``."""
    level = [value]
    for _ in range(most):
        level = [inner for outer in level if isinstance(outer, dict | list) for inner in _inner(outer)]
        if not level:
            return value
    raise bad(f"is nested deeper than {most} levels", name)


def by_table(body: Mapping[str, Any], readers: Mapping[str, Callable[..., None]], *args: Any) -> None:
    """Calls the reader of each field with its value and ``args``; null stands for a field that is not there."""
    for name, value in body.items():
        reader = readers.get(name)
        if reader is None:
            raise bad(f"unknown field{_nearest(name, readers)}; what is not known here would be dropped silently", name)
        if value is not None:
            reader(value, *args)


def _nearest(name: str, readers: Mapping[str, Any]) -> str:
    from cascade.policy.schema import nearest

    return nearest(name, list(readers))


def _inner(outer: dict[str, Any] | list[Any]) -> Collection[Any]:
    return outer.values() if isinstance(outer, dict) else outer


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
