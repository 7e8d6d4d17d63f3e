"""Building blocks of a page: elements whose text is always escaped, and numbers as a reader wants them.

Everything that comes from outside passes through ``text`` or through an attribute of ``element``; a body is markup that
this package built. An unknown number (None, NaN, infinite) is a dash, never 0.
"""

import html
import math
import re
from numbers import Real
from typing import Any

DASH = "–"
_MINUS = "\u2212"
_HARD_SPACE = "\u00a0"
# Control characters, lone surrogates and non-characters are not allowed in a UTF-8 page.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def text(value: object) -> str:
    """Any value as escaped text, safe between tags and inside a quoted attribute; None is a dash."""
    if value is None:
        return DASH
    return html.escape(_FORBIDDEN.sub("\ufffd", str(value)), quote=True)


def element(name: str, body: str | None = "", /, **attributes: object) -> str:
    """An element with its escaped attributes. ``body`` is markup; None makes a void element (``<br>``, ``<path/>``).

    ``class_`` and ``data_tip`` become ``class`` and ``data-tip``. An attribute that is None is left out; a float is
    rounded to two decimals, which is a hundredth of a pixel in a drawing.
    """
    written = "".join(f' {_key(k)}="{_attribute(v)}"' for k, v in attributes.items() if v is not None)
    return f"<{name}{written}/>" if body is None else f"<{name}{written}>{body}</{name}>"


def clip(value: object, length: int) -> str:
    """The value as text of at most ``length`` characters, an ellipsis marking a cut; not escaped yet."""
    whole = DASH if value is None else " ".join(str(value).split())
    return whole if len(whole) <= length else whole[: max(length - 1, 0)].rstrip() + "…"


def number(value: Any) -> float | None:
    """The value as a finite float; None where it is unknown. Raises TypeError for what is not a number."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"expected a number or None, got {value!r:.80}")
    return float(value) if math.isfinite(value) else None


def percent(value: Any, digits: int = 1) -> str:
    """A share in [0, 1] as a percentage: 0.82 is ``82.0 %``."""
    amount = number(value)
    return DASH if amount is None else f"{_fixed(100 * amount, digits)}{_HARD_SPACE}%"


def share(value: Any) -> str:
    """A share or a relative cost as a percentage: whole from 10 % on, one decimal below, so that little is not nothing."""
    amount = number(value)
    return percent(amount, 1 if amount is not None and 0 < abs(amount) < 0.0995 else 0)


def points(value: Any, digits: int = 1) -> str:
    """A difference of two shares in percentage points, with its sign: -0.012 is ``−1.2``."""
    amount = number(value)
    return DASH if amount is None else _fixed(100 * amount, digits, "+")


def usd(value: Any) -> str:
    """An amount in USD: cents, or as many decimals as three significant digits need; never in powers of ten."""
    amount = number(value)
    if amount is None:
        return DASH
    if amount == 0:
        return "$0"
    digits = max(2, 2 - math.floor(math.log10(abs(amount))))
    figure, _, decimals = f"{abs(amount):,.{min(digits, 9)}f}".partition(".")
    return ("" if amount > 0 else _MINUS) + f"${figure}.{decimals.rstrip('0'):0<2}"


def plain(value: Any, digits: int) -> str:
    """A number with a fixed count of decimals, thousands separated."""
    amount = number(value)
    return DASH if amount is None else _fixed(amount, digits, ",")


def whole(value: Any) -> str:
    """A count, thousands separated."""
    return plain(value, 0)


def span(interval: Any, kind: str = "points") -> str:
    """An interval ``[low, high]`` as ``low to high`` in points or plain decimals; empty where there is none."""
    if interval is None:
        return ""
    low, high = (points(end) if kind == "points" else plain(end, 3) for end in interval)
    return f"{low}{_HARD_SPACE}to{_HARD_SPACE}{high}"


def _fixed(value: float, digits: int, flag: str = "") -> str:
    """Decimals with a true minus sign; what rounds to zero has no sign."""
    text = f"{value:{flag}.{digits}f}"
    if not any(digit in text for digit in "123456789"):
        return text.lstrip("+-")
    return text.replace("-", _MINUS)


def _key(name: str) -> str:
    return name.rstrip("_").replace("_", "-")


def _attribute(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else text(value)
