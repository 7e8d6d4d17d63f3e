"""Readers of single fields. Each error names the field and its allowed values."""

import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from jiter import from_json

from cascade.util.suggestions import with_more

from .errors import bad_request

MAX_DEPTH = 64
MAX_VALUES = 50_000  # of a body: parsing takes a microsecond for each
MAX_ITEMS = 5_000
MAX_TOOLS = 1_000
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\Z)', re.DOTALL)
_OTHER_NAMES = {"min_confidence": "accuracy", "max_latency_s": "latency", "budget_usd": "budget"}
_MAX_NAME = 64  # characters of a client's name that an error quotes


def json_object(raw: bytes) -> dict[str, Any]:
    """The body as an object.

    Args:
        raw: The body as it was sent.

    Returns:
        The object.

    Raises:
        ApiError: Not JSON, not an object, more than ``MAX_VALUES`` values, a duplicate key, or nested too deep.
    """
    # The first count includes the strings and is fast: for most bodies it is enough.
    if raw.count(b",") + raw.count(b"{") + raw.count(b"[") > MAX_VALUES and _count_values(raw) > MAX_VALUES:
        raise bad_request(f"the body has more than {MAX_VALUES} values", code="body_too_complex")
    try:
        body = from_json(raw, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as error:
        raise bad_request(f"the body is not valid JSON: {shorten(str(error), 300)}", code="invalid_json") from None
    if not isinstance(body, dict):
        raise bad_request("the body must be a JSON object", code="invalid_json")
    return body


def _count_values(raw: bytes) -> int:
    """About how many values a JSON text has: its commas and opening brackets outside strings."""
    structure = _STRINGS.sub(b"", raw)
    return structure.count(b",") + structure.count(b"{") + structure.count(b"[")


def number(value: Any, name: str, minimum: float, maximum: float) -> float:
    """A number from ``minimum`` to ``maximum``. Raises ApiError."""
    if type(value) not in (int, float) or not (minimum <= value <= maximum and math.isfinite(value)):
        raise bad_request(f"must be a number from {minimum:g} to {maximum:g}", name)
    return float(value)


def integer(value: Any, name: str, minimum: int, maximum: int) -> int:
    """A whole number from ``minimum`` to ``maximum``. Raises ApiError."""
    if type(value) is not int or not minimum <= value <= maximum:
        raise bad_request(f"must be a whole number from {minimum} to {maximum}", name)
    return value


def boolean(value: Any, name: str) -> bool:
    """True or false. Raises ApiError."""
    if type(value) is not bool:
        raise bad_request("must be true or false", name)
    return value


def text(value: Any, name: str, max_length: int | None = None, *, empty: bool = True) -> str:
    """A string of at most ``max_length`` characters. Raises ApiError."""
    if type(value) is not str or (max_length is not None and len(value) > max_length) or not (value or empty):
        kind = "a string" if empty else "a non-empty string"
        limit = "" if max_length is None else f" of at most {max_length} characters"
        raise bad_request(f"must be {kind}{limit}", name)
    return value


def one_of(value: Any, name: str, allowed: Collection[Any]) -> Any:
    """One of a few values. Raises ApiError."""
    if not isinstance(value, str | bool) or value not in allowed:
        raise bad_request(f"must be one of {', '.join(map(_display, allowed))}", name)
    return value


def list_of(value: Any, name: str, max_items: int = MAX_ITEMS) -> list[Any]:
    """A list of at most ``max_items`` items. Raises ApiError."""
    if type(value) is not list:
        raise bad_request("must be a list", name)
    if len(value) > max_items:
        raise bad_request(f"must have at most {max_items} items, got {len(value)}", name)
    return value


def object_of(
    value: Any, name: str, known_fields: Collection[str] | None = None, required: Collection[str] = ()
) -> dict[str, Any]:
    """An object that has the fields ``required`` and none but ``known_fields`` (None: any), unless its value is null.

    Raises ApiError.
    """
    if type(value) is not dict:
        raise bad_request("must be an object", name)
    for key in value:
        if known_fields is not None and key not in known_fields and value[key] is not None:
            message = f"unknown field{other_name(key)}; known: {', '.join(sorted(known_fields))}"
            raise bad_request(message, f"{name}.{shorten(key)}")
    for key in required:
        if key not in value:
            raise bad_request("is missing", f"{name}.{key}")
    return value


def other_name(name: str) -> str:
    """What HTTP calls a need that ``run`` has under another name, for an error; empty for other fields."""
    return f"; here it is {_OTHER_NAMES[name]!r}" if name in _OTHER_NAMES else ""


def not_deep(value: Any, name: str, max_depth: int = MAX_DEPTH) -> Any:
    """Any value that is not nested deeper than ``max_depth``. Raises ApiError."""
    level = [value]
    for _ in range(max_depth):
        level = [inner for outer in level if isinstance(outer, dict | list) for inner in _children(outer)]
        if not level:
            return value
    raise bad_request(f"is nested deeper than {max_depth} levels", name)


def check_cache_control(value: Any, name: str) -> None:
    """Checks a breakpoint of Anthropic's prompt cache. Raises ApiError."""
    object_of(value, name, ("type", "ttl", "scope"), ("type",))
    one_of(value["type"], f"{name}.type", ("ephemeral",))
    if value.get("ttl") is not None:
        one_of(value["ttl"], f"{name}.ttl", ("5m", "1h"))
    if value.get("scope") is not None:
        text(value["scope"], f"{name}.scope", 64)


def read_fields(body: Mapping[str, Any], readers: Mapping[str, Callable[..., None]], *args: Any) -> None:
    """Calls the reader of each field with its value and ``args``; null is the same as a missing field. Raises ApiError."""
    for name, value in body.items():
        reader = readers.get(name)
        if reader is None:
            hint = with_more(name, list(readers), "it is rejected because it would have no effect")
            raise bad_request(f"unknown field{hint}", shorten(name))
        if value is not None:
            reader(value, *args)


def shorten(name: str, max_length: int = _MAX_NAME) -> str:
    """A client's name, shortened for an error where it is long."""
    return name if len(name) <= max_length else f"{name[:max_length]}... ({len(name)} characters)"


def _children(outer: dict[str, Any] | list[Any]) -> Collection[Any]:
    return outer.values() if isinstance(outer, dict) else outer


def _display(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
