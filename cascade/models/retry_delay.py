"""How long a provider asks to wait before the next request: by a header, or in the body of its error."""

import math
import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from .error_body import error_message

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_AMOUNT = r"(\d{1,9}(?:\.\d{1,9})?)\s?(ms|milliseconds?|s|seconds?|secs?|m|minutes?|mins?|h|hours?|d|days?)(?![a-z])"
# OpenAI: "Please try again in 1.2s", "in 6m0s"; Azure: "Please retry after 6 seconds"; Gemini: "Please retry in 34.1s";
# others: "available in 12 seconds", "please wait 20 seconds".
_SENTENCE = re.compile(
    rf"(?:(?:try again|retry|available(?: again)?|resets?)\s+(?:in|after)|wait(?:\s+for)?)\s+((?:{_AMOUNT}\s?)+)",
    re.IGNORECASE,
)
_BODY_FIELDS = ("retry_after", "retryAfter", "retry_after_seconds")
_EACH = re.compile(_AMOUNT, re.IGNORECASE)
_MESSAGE_CHARS = 4_000  # of a message that are searched


def retry_delay(headers: Mapping[str, str], body: Any) -> float | None:
    """Seconds to wait by the first of: ``retry-after-ms``, ``Retry-After`` (a number, also with a unit, or a date), Google's
    RetryInfo in the body, its field ``retry_after``, the body's message.

    Args:
        headers: The response's headers, found whatever the case of their names.
        body: The error's body as JSON; it may be anything.

    Returns:
        Seconds, 0.0 or more; None where nothing says how long.
    """
    delays = (
        _number(headers.get("retry-after-ms"), 0.001),
        _number(headers.get("retry-after")),
        _until(headers.get("retry-after")),
        _with_units(headers.get("retry-after")),
        _in_details(body),
        _in_fields(body),
        _in_message(body),
    )
    return next((max(0.0, delay) for delay in delays if delay is not None), None)


def _number(text: str | None, unit: float = 1.0) -> float | None:
    if text is None or not re.fullmatch(r"\s*\d{1,12}(\.\d{0,9})?\s*", text, re.ASCII):
        return None
    return float(text) * unit


def _until(date: str | None) -> float | None:
    if date is None:
        return None
    try:
        at = datetime.fromisoformat(date.strip()) if date[:4].isdigit() else parsedate_to_datetime(date)
        seconds = (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) else None


def _with_units(text: str | None) -> float | None:
    """Such as "30s" or "1m30s"."""
    if text is None or len(text) > 64 or not re.fullmatch(rf"\s*(?:{_AMOUNT}\s?)+", text, re.IGNORECASE):
        return None
    return _sum(text)


def _in_fields(body: Any) -> float | None:
    for error in _errors(body):
        for name in _BODY_FIELDS:
            value = error.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9:
                return float(value)
    return None


def _errors(body: Any) -> Iterator[Mapping[str, Any]]:
    """The error object in a body, its ``metadata`` and its envelope, where it has them; Gemini sends a list of them."""
    for one in body if isinstance(body, list) else [body]:
        if isinstance(one, Mapping):
            error = one.get("error")
            inner = error.get("metadata") if isinstance(error, Mapping) else None
            yield from (place for place in (error, inner, one, one.get("parameters")) if isinstance(place, Mapping))


def _in_details(body: Any) -> float | None:
    for error in _errors(body):
        details = error.get("details")
        for detail in details if isinstance(details, list) else ():
            delay = detail.get("retryDelay") if isinstance(detail, Mapping) else None
            if isinstance(delay, str) and delay.endswith("s"):  # a protobuf Duration: "34.5s"
                return _number(delay[:-1])
    return None


def _in_message(body: Any) -> float | None:
    match = _SENTENCE.search(error_message(body)[:_MESSAGE_CHARS])
    return None if match is None else _sum(match[1])


def _sum(amounts: str) -> float:
    return sum(float(amount) * _seconds(unit) for amount, unit in _EACH.findall(amounts))


def _seconds(unit: str) -> float:
    unit = unit.lower()
    return 0.001 if unit.startswith(("ms", "milli")) else _UNITS[unit[0]]
