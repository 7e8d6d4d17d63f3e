"""When two answers say the same: canonical keys of numbers, choices, JSON, dates and text.

Two answers are the same when their keys are equal, so sameness is an equivalence relation and clusters are well defined.
Every function takes any text, never raises for one, and takes time linear in its length.
"""

import json
import re
import unicodedata
from collections import deque
from collections.abc import Callable, Hashable
from datetime import date
from fractions import Fraction
from hashlib import sha256
from typing import Any, NoReturn

from .reading import numerals
from .reading.choices import chosen
from .reading.json_values import find_json
from .reading.normal_form import compatible

KINDS = ("auto", "number", "choice", "json", "date", "text")

_MARKER = re.compile(r"(?<!\w)answer[*_]{0,2}[ \t]{0,4}(?::|is\b:?)|####", re.IGNORECASE)
_BOXED = re.compile(r"\\(?:boxed|fbox)[ \t]{0,4}\{")
_FRAC = re.compile(r"\\[dt]?frac\{(-?\d{1,18})\}\{(\d{1,18})\}")
_WRAPPED = re.compile(r"\\(?:text|mathrm|mathbf|textbf)\{([^{}]{0,200})\}")
# Bounded and possessive: a long run of groups that ends badly must not be tried again from each of them.
_DIGITS = r"(?:\d{1,3}(?:,\d{3}){1,99}+(?!,?\d)|\d+)(?:\.\d+)?|\.\d+"
_NUMBER = re.compile(
    rf"(?<![\w.])([-+]?)(?:\\?[$€£¥])?({_DIGITS})([eE][-+]?\d{{1,3}}(?!\d))?(?:[ ]?/[ ]?(\d{{1,18}})(?![\d/]))?"
)
_AFTER_NUMBER = re.compile(r"\s{0,4}(?:\\?%)?[\s.$]{0,8}")
_CHOICE_WHOLE = re.compile(r"(?:(?:option|choice) )?(?:\(?([a-z])\)?[.:)]?|\(?([a-z])\)\s.*)", re.IGNORECASE | re.DOTALL)
# A number with at most a few words around: "It is 51.", "12 apples", "17 * 3 = 51".
_STATEMENT = re.compile(
    r"(?:(?:so|thus|hence|therefore|then|altogether|in total)(?:[,:] ?| ))?(?:(?:it(?:'s| is| equals| makes| gives)"
    r"|that(?:'s| is| makes| gives| leaves)|this (?:is|makes|gives|leaves)|there (?:are|were|is)"
    r"|(?:he|she|they|we|i|you) (?:have|has|had|get|gets|got|find|need|needs|paid|pay|spent|earned|earns|makes?|sold|sells?)"
    r"|(?:the )?(?:final |total |correct )?(?:result|total|sum|number|value|cost|price|answer|product|difference)"
    r"(?: is| was| equals| ?[:=])|[a-z] ?=|=) ?(?:about |exactly |approximately |equal to |[~≈] ?)?"
    r"|[\d\s.,()*/+x-]{1,60}=\s?|[~≈] ?)?\(?"
    rf"(?P<number>[-+]?(?:\\?[$€£¥])?(?:{_DIGITS})(?:e[-+]?\d{{1,3}})?(?:[ ]?/[ ]?\d{{1,18}})?)\)?(?:\s?\\?%)?"
    r"(?: (?P<unit>[a-zµ°²³]{1,15}))?(?: (?:in total|in all|altogether|left|remaining|each))?[\s.!$]{0,8}",
    re.IGNORECASE,
)
_MOST_STATEMENT = 120  # characters
_NO_UNITS = frozenset(("am", "pm", "bc", "ad", "and", "or", "to", "of", "st", "nd", "rd", "th", "o"))
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    r"(jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)\.?"
)
_MONTH_NAME = re.compile(_MONTH, re.IGNORECASE)
_DATE = re.compile(
    r"(?<!\w)(?:(?P<iso>(\d{4})([-/])(\d{1,2})\3(\d{1,2})(?:T[\d:.]{1,20}(?:Z|[-+]\d\d:?\d\d)?)?)"
    r"|(?P<slash>(\d{1,2})/(\d{1,2})/(\d{4}))|(?P<dot>(\d{1,2})\.(\d{1,2})\.(\d{4}))"
    rf"|(?P<month>{_MONTH}[ ]?(\d{{1,2}})(?:st|nd|rd|th)?,?[ ]?(\d{{4}}))"
    rf"|(?P<day>(\d{{1,2}})(?:st|nd|rd|th)?[ -]?(?:of[ ])?{_MONTH},?[ -]?(\d{{4}})))(?!\w)",
    re.IGNORECASE,
)
_SPACES = re.compile(r"\s+")
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
_ARTICLES = frozenset({"a", "an", "the"})
_TRIES = 16
_LONG = 400
LONGEST = 100_000  # characters that are searched for JSON
SEARCHED = 20_000  # characters that are searched for anything else: 30 ms at worst


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
    if len(text) > SEARCHED:
        return _long(text, kind)
    return _KEYS[kind](text) or ("text", _plain(final_answer(text)))


def _long(text: str, kind: str) -> Hashable:
    if len(text) <= LONGEST:
        if kind == "auto" and (canonical := _container(text)) is not None:
            return _meant(canonical)
        if kind == "json" and (json_key := _json(text)) is not None:
            return json_key
    end = text[-SEARCHED:].strip()
    result = _KEYS[kind](end) if kind not in ("auto", "text") else None
    if result is None and (answer := final_answer(end)) != end:
        result = key(answer, kind)
    return result or ("written", sha256(text.encode("utf-8", "surrogatepass")).hexdigest())


def final_answer(text: str) -> str:
    r"""The part of a reply that is its answer, stripped.

    A reply that is JSON as a whole is its own answer. Otherwise it is what follows the last of ``Answer:``, ``The answer
    is`` and ``####`` (to the end of the line, or all the rest where a block begins there), or what the last ``\boxed{}``
    holds, whichever comes later; without any of them the whole reply.
    """
    whole = text.strip()
    if whole[:1] in ("{", "[") and _container(whole) is not None:
        return whole
    rest, at = _after_marker(whole)
    content, box_at = _in_box(whole)
    if content is not None and box_at >= at:
        return content
    if rest is None:
        return whole
    inner, _ = _in_box(rest)
    return rest if inner is None else inner


def _after_marker(text: str) -> tuple[str | None, int]:
    for match in reversed(deque(_MARKER.finditer(text), 2)):  # behind the last one there may be nothing
        rest = text[match.end() :].lstrip("*_: \t\r\n")
        if rest:
            block = rest.startswith(("{", "[", "```"))
            return (rest if block else rest.split("\n", 1)[0]).strip().removesuffix("**"), match.start()
    return None, -1


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    last = deque(pattern.finditer(text), 1)
    return last[0] if last else None


def _in_box(text: str) -> tuple[str | None, int]:
    start = _last(_BOXED, text)
    if start is None:
        return None, -1
    depth = 1
    for i in range(start.end(), len(text)):
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return text[start.end() : i].strip(), start.start()
    return None, -1


def _auto(text: str, *, inside: bool = False) -> Hashable:
    answer = final_answer(text)
    canonical = _container(answer) or _json_in(answer, at_an_end=True)
    if canonical is not None:
        # Once: an answer inside an answer is what was answered.
        return ("json", canonical) if inside else _meant(canonical)
    bare = _bare(answer)
    date_match = _DATE.fullmatch(bare.rstrip("."))
    if date_match is not None and (day := _day(date_match)) is not None:
        return ("date", day)
    if (value := _whole_number(answer, bare)) is not None:
        return ("number", value)
    choice = _CHOICE_WHOLE.fullmatch(bare)
    return None if choice is None else ("choice", (choice[1] or choice[2]).upper())


def _whole_number(answer: str, bare: str) -> str | None:
    """The number that an answer is as a whole, with at most a few words around it."""
    # Unchanged where nothing has to be converted: 10² is not 102.
    number = None if numerals.RAISED.search(answer) else _NUMBER.match(bare)
    if number is not None and _AFTER_NUMBER.fullmatch(bare, number.end()) and "," not in number[0]:
        return _value(number)
    if len(bare) > _MOST_STATEMENT or not any(char.isdigit() for char in bare):
        return None
    statement = _STATEMENT.fullmatch(_bare(numerals.number(answer)).replace("**", ""))
    if statement is None or (unit := (statement["unit"] or "").lower()) in _NO_UNITS or _MONTH_NAME.fullmatch(unit):
        return None
    number = _NUMBER.fullmatch(statement["number"])
    return None if number is None else _value(number)


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
    return _auto(answer, inside=True) or ("text", _plain(final_answer(answer)))


def _number(text: str) -> Hashable:
    for part in dict.fromkeys((final_answer(text), text)):
        plain = _bare(numerals.number(part))
        if numerals.NOTHING in plain and not any(char.isdigit() for char in plain.rpartition(numerals.NOTHING)[2]):
            return None  # "4 or 5": no statement of one number
        if (value := last_number(plain)) is not None:
            return ("number", value)
    return None


def last_number(plain: str) -> str | None:
    """The last number in a text in plain notation (see ``numerals``), as ``Fraction`` writes it, or None."""
    last = _last(_NUMBER, _bare(plain))
    return None if last is None else _value(last)


def _value(match: re.Match[str]) -> str | None:
    sign, digits, exponent, divisor = match.groups()
    digits = digits.replace(",", "")
    if len(digits) > _LONG:
        return f"{sign}{digits}"  # compared as written: exact arithmetic on it would not be linear
    value = Fraction(f"{sign}{digits}{exponent or ''}")
    if divisor is not None:
        if int(divisor) == 0:
            return None
        value /= int(divisor)
    return str(value)


def _choice(text: str) -> Hashable:
    bare = _bare(final_answer(text))
    letter = chosen(bare)
    if letter is None and (whole := _CHOICE_WHOLE.fullmatch(bare)) is not None:
        letter = (whole[1] or whole[2]).upper()  # "B) Paris or London"
    return None if letter is None else ("choice", letter)


def _date(text: str) -> Hashable:
    for part in dict.fromkeys((final_answer(text), text)):
        days = [day for match in _DATE.finditer(_bare(part)) if (day := _day(match)) is not None]
        if days:
            return ("date", days[-1])
    return None


def _day(match: re.Match[str]) -> str | None:
    written = match.lastgroup
    groups = [group for group in match.groups()[1:] if group is not None and group not in "-/"]
    if written == "iso":
        year, month, day = (int(g) for g in groups[:3])
    elif written in ("slash", "dot"):
        first, second, year = (int(g) for g in groups[-3:])
        day_first = written == "dot" or (first > 12 and second <= 12)
        day, month = (first, second) if day_first else (second, first)
    else:
        month_name, day_text, year = groups[-3], groups[-2], int(groups[-1])
        if written == "day":
            month_name, day_text = day_text, month_name
        month, day = _MONTHS.index(month_name[:3].lower()) + 1, int(day_text)
    try:
        return date(year, month, day).isoformat()
    except ValueError:
        return None


def _json(text: str) -> Hashable:
    for part in dict.fromkeys((final_answer(text), text.strip())):
        canonical = _parsed(part) or _json_in(part)
        if canonical is not None:
            return ("json", canonical)
    return None


def canonical_json(value: Any) -> str | None:
    """A JSON value as canonical text (sorted keys, 1.0 written as 1); None where it is not JSON or nested too deep."""
    try:
        # Reading back what was written turns any mapping's values into plain ones with the numbers made canonical.
        return _parsed(json.dumps(value))
    except (ValueError, TypeError, RecursionError):
        return None


def _float(text: str) -> int | float:
    value = float(text)
    return int(value) if value.is_integer() else value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_float=_float, parse_constant=_no_constant)


def _parsed(text: str) -> str | None:
    try:
        return json.dumps(_DECODER.decode(text), sort_keys=True, separators=(",", ":"))
    except (ValueError, RecursionError):
        return None


def _container(text: str) -> str | None:
    stripped = text.strip()
    return _parsed(stripped) if stripped[:1] in ("{", "[") else None


def _json_in(text: str, *, at_an_end: bool = False) -> str | None:
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


def _bare(text: str) -> str:
    """The answer without the dress of Markdown and LaTeX, NFKC normalised, spaces folded."""
    text = _WRAPPED.sub(r"\1", _FRAC.sub(r"\1/\2", text.replace("{,}", ",").replace("\\!", "")))
    text = _SPACES.sub(" ", compatible(text).replace("\u2212", "-")).strip()
    text = text.strip("*_`\"' ").removeprefix("\\(").removesuffix("\\)")
    for opening, closing in (("$$", "$$"), ("\\[", "\\]")):
        if text.startswith(opening) and text.endswith(closing) and len(text) > 4:
            text = text[2:-2]
    return text.strip("*_`\"' ")


def _plain(text: str) -> str:
    lowered = compatible(compatible(text).casefold())
    characters = []
    for i, char in enumerate(lowered):
        if char in "'’`*_":
            continue
        of_figure = char in "-.,:/" and lowered[i + 1 : i + 2].isdigit()
        dropped = unicodedata.category(char)[0] == "P" and char not in "#%&@" and not of_figure
        characters.append(" " if dropped else char)
    words = "".join(characters).split()
    return " ".join([word for word in words if word not in _ARTICLES] or words or lowered.split())


_KEYS: dict[str, Callable[[str], Hashable]] = {
    "auto": _auto,
    "number": _number,
    "choice": _choice,
    "json": _json,
    "date": _date,
    "text": lambda text: None,
}
