"""When two answers say the same: each answer is reduced to a key, and equal keys mean equal answers.

Kinds: ``number``, ``choice``, ``json``, ``date``, ``text``, and ``auto``, which finds the final answer and the kind itself.
Nothing here raises, whatever the text, and every pattern is linear in its length.
"""

import re
import unicodedata
from collections.abc import Hashable
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

Kind = Literal["auto", "number", "choice", "json", "date", "text"]

_MAX_CHARS = 20_000  # the end of a longer text is enough to find its final answer
_MARK = re.compile(r"(?:final answer|answer)(?: is)?\s?[:=]\s?|####|the answer is ", re.I)
_BOXED = re.compile(r"\\boxed\{([^{}]{0,200})\}")
_NUMBER = re.compile(r"(?<![\w.])[-+−]?(?:\d{1,3}(?:,\d{3}){1,8}|\d{1,40})(?:\.\d{1,40})?(?:[eE][-+]?\d{1,3})?")
_CHOICE = re.compile(r"^\(?([A-Za-z])(?:[).:]|$)")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_ISO = re.compile(r"\b(\d{4})[-/](\d{1,2})[-/](\d{1,2})\b")
_SLASH = re.compile(r"\b(\d{1,2})[/.](\d{1,2})[/.](\d{4})\b")
_NAMED = re.compile(r"\b([A-Za-z]{3,9})\.? (\d{1,2})(?:st|nd|rd|th)?,? (\d{4})\b")
_DAY_FIRST = re.compile(r"\b(\d{1,2})(?:st|nd|rd|th)?(?: of)? ([A-Za-z]{3,9})\.?,? (\d{4})\b")
_ARTICLES = frozenset(("a", "an", "the"))
_WHOLE_NUMBER = re.compile(r"^[$€£]?\s?(" + _NUMBER.pattern + r")\s?(?:%|[$€£]|[A-Za-z°]{1,12})?\.?$")


def final_answer(text: str) -> str:
    r"""What the text ends up saying: after the last ``Answer:``, ``####`` or inside ``\boxed{}``, else all of it."""
    text = text[-_MAX_CHARS:].strip()
    boxed = _BOXED.findall(text)
    if boxed:
        return str(boxed[-1]).strip()
    marks = list(_MARK.finditer(text))
    if marks:
        rest = text[marks[-1].end() :].strip()
        if rest:
            return rest.splitlines()[0].strip().strip("*_` ")
    return text


def key(text: str, kind: Kind = "auto") -> Hashable:
    """The canonical form of an answer. Two texts of which neither has a form of ``kind`` are compared as text."""
    if kind == "text":
        return ("text", _plain(text))
    if kind == "json":
        return _or_text(_json_key(text), text)
    final = final_answer(text)
    if kind == "number":
        return _or_text(_number_key(final) or _number_key(text), text)
    if kind == "choice":
        match = _CHOICE.match(final.strip("*_` "))
        return ("choice", match[1].upper()) if match else ("text", _plain(final))
    if kind == "date":
        return _or_text(_date_key(final) or _date_key(text), text)
    return _auto(text, final)


def same(a: str, b: str, kind: Kind = "auto") -> bool:
    """Whether two answers say the same."""
    return key(a, kind) == key(b, kind)


def _auto(text: str, final: str) -> Hashable:
    if text.lstrip()[:1] in ("{", "[", "`"):
        found = _json_key(text)
        if found is not None:
            return found
    if len(final) < 120:
        dated = _date_key(final)
        if dated is not None:
            return dated
        number = _WHOLE_NUMBER.match(final)
        if number is not None:
            return _or_text(_number_key(number[1]), final)
        choice = _CHOICE.match(final)
        if choice is not None:
            return ("choice", choice[1].upper())
    return ("text", _plain(final))


def _or_text(found: Hashable | None, text: str) -> Hashable:
    return found if found is not None else ("text", _plain(text))


def _number_key(text: str) -> Hashable | None:
    found = _NUMBER.findall(text[-_MAX_CHARS:])
    if not found:
        return None
    try:
        value = Decimal(found[-1].replace(",", "").replace("−", "-"))
    except InvalidOperation:
        return None
    return ("number", value)  # Decimal: 8, 8.0 and 8.00 are equal and hash alike


def _date_key(text: str) -> Hashable | None:
    """ISO, ``MM/DD/YYYY`` (month first, as in English dates with slashes), ``May 9, 2026`` and ``9 May 2026``."""
    text = text[-_MAX_CHARS:]
    for pattern, order in ((_ISO, "ymd"), (_SLASH, "mdy"), (_NAMED, "mdy"), (_DAY_FIRST, "dmy")):
        found = pattern.findall(text)
        if not found:
            continue
        parts = dict(zip(order, found[-1], strict=True))
        month = parts["m"] if parts["m"].isdigit() else _month(parts["m"])
        try:
            return ("date", date(int(parts["y"]), int(month), int(parts["d"])).isoformat())
        except ValueError:
            continue
    return None


def _month(name: str) -> str:
    short = name[:3].lower()
    return str(_MONTHS.index(short) + 1) if short in _MONTHS else "0"


def _json_key(text: str) -> Hashable | None:
    from .extract import extract_json

    try:
        return ("json", _frozen(extract_json(text)))
    except (ValueError, RecursionError):
        return None


def _frozen(value: Any) -> Hashable:
    if isinstance(value, dict):
        return ("object", frozenset((k, _frozen(v)) for k, v in value.items()))
    if isinstance(value, list):
        return ("array", tuple(_frozen(v) for v in value))
    if isinstance(value, bool) or value is None:
        return ("literal", str(value))  # True == 1 in Python, not in JSON
    return value.strip() if isinstance(value, str) else value


def _plain(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text[-_MAX_CHARS:]).casefold()
    words = "".join(c if c.isalnum() else " " for c in folded).split()
    kept = [w for w in words if w not in _ARTICLES]
    # An answer of signs alone, or of an article alone, is still an answer of its own.
    return " ".join(kept) if kept else folded.strip()
