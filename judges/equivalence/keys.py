"""The key of an answer: what it says, in a form that can be compared."""

import json
import re
from collections.abc import Callable, Hashable
from functools import lru_cache
from hashlib import sha256

from judges.reading import numerals
from judges.reading.choices import chosen

from .canonical import json_container, json_inside, parsed_json
from .dates import DATE, day_of
from .final_answer import final_answer
from .numbers import last_number, stated_number, whole_number
from .plain_text import bare_text, plain_text

KINDS = ("auto", "number", "choice", "json", "date", "text")
_CHOICE_WHOLE = re.compile(r"(?:(?:option|choice) )?(?:\(?([a-z])\)?[.:)]?|\(?([a-z])\)\s.*)", re.IGNORECASE | re.DOTALL)
# Fields of a JSON answer that lead to it and are worded differently each time, and those that hold it.
_REASONING_FIELDS = (
    "analysis",
    "explanation",
    "justification",
    "rationale",
    "reasoning",
    "scratchpad",
    "steps",
    "thinking",
    "thought",
)
_ANSWER_FIELDS = ("answer", "final_answer")
_REASONING_STEMS = frozenset(name.removesuffix("s") for name in _REASONING_FIELDS)
_FIELDS = re.compile(rf'"(?:{"|".join((*_REASONING_FIELDS, *_ANSWER_FIELDS))})s?"\s{{0,4}}:', re.IGNORECASE)
LONGEST = 100_000  # characters that are searched for JSON
SEARCHED = 20_000  # characters that are searched for anything else: 30 ms at worst
_SHORT = 400  # characters: samples often repeat short answers, whose keys are kept (2 MB at most)


def same(a: str, b: str, kind: str = "auto") -> bool:
    """Whether two answers say the same under ``kind``, one of ``KINDS``. Raises ValueError for any other kind only."""
    return key(a, kind) == key(b, kind)


def key(text: str, kind: str = "auto") -> Hashable:
    """The canonical form of an answer: equal keys mean that two answers say the same.

    - ``number``: the exact value of the last number of the final answer; currency signs, ``%`` and thousands separators
      are dropped (50% is 50, not 0.5), ``1/2`` and ``\\frac{1}{2}`` are a half; ``3,14``, ``1,00,000``, ``10^5``,
      ``1.5 million``, ``1.5M``, ``2 1/2``, ``USD 1,000`` and ``3 dozen`` are read as they are meant.
    - ``choice``: the letter of an option, as in ``B``, ``(B)``, ``B) Paris`` or ``Answer: b``.
    - ``json``: the whole, the last fenced block, or the last object in the prose; keys in any order, 1 equals 1.0, strings
      must match exactly.
    - ``date``: the last date. Numeric with slashes is month first (05/09/2026 is the 9th of May) unless the first number
      cannot be a month; numeric with dots is day first.
    - ``text``: NFKC and case folded, without articles and punctuation (what belongs to a figure stays), spaces folded.
    - ``auto``: JSON, date, number or choice where the whole final answer is one, otherwise text. Of a JSON object the fields
      that only lead to the answer ("reasoning", "explanation", ...) are left out; where "answer" alone is left, its value
      counts, so that ``{"reasoning": "...", "answer": "5"}`` says the same as ``5``.

    A text with nothing of the kind in it falls back to its ``text`` key. Of a text over 20,000 characters (100,000 where it
    is JSON) only the end is searched, and where nothing there is marked as the answer it is compared as written. Raises
    ValueError for an unknown kind only.
    """
    if kind not in _KEYS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if len(text) <= _SHORT:
        return _short_key(text, kind)
    if len(text) > SEARCHED:
        return _long(text, kind)
    return _key(text, kind)


def _key(text: str, kind: str) -> Hashable:
    return _KEYS[kind](text) or ("text", plain_text(final_answer(text)))


_short_key = lru_cache(maxsize=1024)(_key)


def _long(text: str, kind: str) -> Hashable:
    if len(text) <= LONGEST:
        if kind == "auto" and (canonical := json_container(text)) is not None:
            return _meant(canonical)
        if kind == "json" and (json_key := _json(text)) is not None:
            return json_key
    end = text[-SEARCHED:].strip()
    result = _KEYS[kind](end) if kind not in ("auto", "text") else None
    if result is None and (answer := final_answer(end)) != end:
        result = key(answer, kind)
    return result or ("written", sha256(text.encode("utf-8", "surrogatepass")).hexdigest())


def _auto(text: str, *, inside: bool = False) -> Hashable:
    answer = final_answer(text)
    canonical = json_container(answer) or json_inside(answer, at_an_end=True)
    if canonical is not None:
        # Once: an answer inside an answer is what was answered.
        return ("json", canonical) if inside else _meant(canonical)
    bare = bare_text(answer)
    date_match = DATE.fullmatch(bare.rstrip("."))
    if date_match is not None and (day := day_of(date_match)) is not None:
        return ("date", day)
    if (value := whole_number(answer, bare)) is not None:
        return ("number", value)
    choice = _CHOICE_WHOLE.fullmatch(bare)
    return None if choice is None else ("choice", (choice[1] or choice[2]).upper())


def _meant(canonical: str) -> Hashable:
    """The key of a JSON text without the fields that only lead to its answer."""
    if not _FIELDS.search(canonical):
        return ("json", canonical)
    value = json.loads(canonical)
    if not isinstance(value, dict):
        return ("json", canonical)
    rest = {name: item for name, item in value.items() if name.lower().removesuffix("s") not in _REASONING_STEMS}
    if not rest:
        return ("json", canonical)
    [name, *others] = rest
    if others or name.lower() not in _ANSWER_FIELDS:
        return ("json", json.dumps(rest, sort_keys=True, separators=(",", ":")))
    inner = rest[name]
    answer = inner if isinstance(inner, str) else json.dumps(inner, sort_keys=True, separators=(",", ":"))
    return _auto(answer, inside=True) or ("text", plain_text(final_answer(answer)))


def _number(text: str) -> Hashable:
    for part in dict.fromkeys((final_answer(text), text)):
        if (in_words := stated_number(part)) is not None:
            return ("number", in_words)
        plain = bare_text(numerals.number(part))
        if numerals.NOTHING in plain and not any(char.isdigit() for char in plain.rpartition(numerals.NOTHING)[2]):
            return None  # "4 or 5": no statement of one number
        if (value := last_number(plain)) is not None:
            return ("number", value)
    return None


def _choice(text: str) -> Hashable:
    bare = bare_text(final_answer(text))
    letter = chosen(bare)
    if letter is None and (whole := _CHOICE_WHOLE.fullmatch(bare)) is not None:
        letter = (whole[1] or whole[2]).upper()  # "B) Paris or London"
    return None if letter is None else ("choice", letter)


def _date(text: str) -> Hashable:
    for part in dict.fromkeys((final_answer(text), text)):
        days = [day for match in DATE.finditer(bare_text(part)) if (day := day_of(match)) is not None]
        if days:
            return ("date", days[-1])
    return None


def _json(text: str) -> Hashable:
    for part in dict.fromkeys((final_answer(text), text.strip())):
        canonical = parsed_json(part) or json_inside(part)
        if canonical is not None:
            return ("json", canonical)
    return None


_KEYS: dict[str, Callable[[str], Hashable]] = {
    "auto": _auto,
    "number": _number,
    "choice": _choice,
    "json": _json,
    "date": _date,
    "text": lambda text: None,
}
