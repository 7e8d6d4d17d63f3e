"""Spans of time as people write them on a command line: 36h, 14d."""

import re

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SPAN = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([smhdw])")


def span_seconds(text: str) -> float | None:
    """The seconds of a span; None where the text is none.

    Args:
        text: A number and a unit: s, m, h, d, w.
    """
    match = _SPAN.fullmatch(text)
    return None if match is None else float(match[1]) * _SECONDS[match[2]]
