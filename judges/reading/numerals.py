"""Numbers and dates as they are written in replies -> plain notation, for votes and graders, where the meaning is certain.

What is no statement of one number ("4 or 5", 3–5, 12:30, 2^3) becomes ``NOTHING``, so that no part of it counts.
All patterns are bounded: none takes more than linear time.
"""

import re
import unicodedata
from collections.abc import Callable
from fractions import Fraction

from .normal_form import compatible

NOTHING = "\ue000"  # of no script: no reply holds it by chance
_LONGEST = 10_000  # characters at the end of a reply that are read
_SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]{1,20}")
# With a space before it, so that 2½ becomes 2 1/2.
_FRACTIONS = {ord(char): f" {unicodedata.normalize('NFKC', char)}" for char in "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"}
# From the first digit of a run: from each of them in turn, a long run would take a while.
_EXACT = r"-?(?:(?<!\d)\d{1,30}(?:\.\d{1,30})?|\.\d{1,30})"
_SCALES = {
    "hundred": "e2",
    "thousand": "e3",
    "lakh": "e5",
    "million": "e6",
    "mn": "e6",
    "crore": "e7",
    "billion": "e9",
    "bn": "e9",
    "trillion": "e12",
}
_SCALE = re.compile(rf"({_EXACT})\s?({'|'.join(_SCALES)}|dozen)s?\b", re.IGNORECASE)
# 1.5M and 2.5k; lower-case m only for money (5m are metres), B and T only for money or after a fraction (3B is a label).
_SUFFIX = re.compile(
    rf"(?<![\w.])(?:(?P<money>[$€£¥]{_EXACT})\s?(?P<any>[KkMmBbTt])|(?P<number>{_EXACT})(?P<large>[KkM]|(?<=\.\d)[BT]|(?<=\.\d\d)[BT]))"
    r"(?!\w| (?:run|race|resolution|monitor|display|screen|tv|video|edition)\b)"
)
_SUFFIXES = {"k": "e3", "m": "e6", "b": "e9", "t": "e12"}
_CODE = (
    r"(?:USD|EUR|GBP|JPY|CNY|RMB|INR|CHF|CAD|AUD|NZD|HKD|SGD|BRL|MXN|KRW|RUB|SEK|NOK|DKK|PLN|ZAR|IDR|Rs\b\.?"
    r"|(?:US|CA?|AU?|NZ|HK|SG?|R|MX)(?=\$)|(?<!\w)[₹₩₽₺₫₴₪])"
)
_UNIT = r"(?:[kcm]m|k?g|mg|lbs?|oz|ft|mi|yd|m[ls]|[kmgt]b|[kmg]?hz|kwh?|mph|h|hrs?|mins?|secs?|°[cf])"
_JOINED = rf"(?:[$€£¥]\s?)?{_EXACT}(?:\s?(?:%|[^\W\d]{{1,12}}))?"
_Into = str | Callable[[re.Match[str]], str]
_WRITTEN: tuple[tuple[str, _Into], ...] = (
    (r"\\(?:times|cdot)\b|[×·]", "*"),
    (r"\\(?:pm|mp)\b|\+/-", "±"),
    # USD 1,000, US$ 1,000, € 5, 5€; 5km; an en dash for a minus.
    (rf"(?<!\w){_CODE}\s?(?=[$€£¥]?\s?[-+]?\.?\d)", ""),
    (r"(?<=\d)\s?[€£¥₹₩₽₺₫₴₪](?![\w$])", ""),
    (r"(?<![\w$])([$€£¥])\s(?=\.?\d)", r"\1"),
    (rf"(?<=\d)(?={_UNIT}(?!\w))", " "),
    (r"(?:^|(?<=[=:(])|(?<=[=:] )|(?<=\bis ))[–—](?=\.?\d)", "-"),
    (r"\b(?:minus|negative)\s(?=[$€£¥]?\.?\d)", "-"),
    (r"(?<![\d.,])\d{1,2}(?:,\d{2}){1,6},\d{3}(?![\d]|,\d)", lambda m: m[0].replace(",", "")),  # 1,00,000
    # 1'234'567, 1_234_567, 1 234 567; 1.234.567; 1.234,56; 3,14 and 0,125 (but 1,234 is a thousand and more).
    (r"(?<=\d)['’_](?=\d{3}(?!\d))", ""),
    (r"(?<![\d.,] )(?<![\d.,])[1-9]\d{0,2}(?: \d{3}){1,6}(?!\d| \d|/)", lambda m: m[0].replace(" ", "")),
    (r"(?<![\d.,])\d{1,3}(?:\.\d{3}){2,6}(?!\d|[.,]\d)", lambda m: m[0].replace(".", "")),
    (r"(?<![\d.,])(\d{1,3}(?:\.\d{3}){1,6}),(\d{1,9})(?!\d|[.,]\d)", lambda m: f"{m[1].replace('.', '')}.{m[2]}"),
    (r"(?<![\d.,])(0|\d{1,15}(?=,(?:\d{1,2}|\d{4,9})(?!\d))),(\d{1,9})(?!\d|[.,]\d)", r"\1.\2"),
    # 2 * 10^5 and 10^6; an exponent of a unit says nothing of the number.
    (rf"(?<![\w.])({_EXACT})\s?[x*]\s?10\s?(?:\^|\*\*)\s?\{{?([-+]?\d{{1,3}})\}}?", r"\1e\2"),
    (r"(?<![\w.^*])10\s?(?:\^|\*\*)\s?\{?([-+]?\d{1,3})\}?", r"1e\1"),
    (r"(?<=[^\W\d])\s?\^\s?\{?-?\d{1,3}\}?", ""),
    (rf"{_EXACT}\s?(?:\^|\*\*)\s?\{{?{_EXACT}\}}?", NOTHING),
    (rf"±\s?{_JOINED}", ""),
    (r"(?<![\d:])\d{1,4}(?::\d{1,4}){1,3}(?![\d:])", NOTHING),
    (rf"\bnot\s(?:about\s)?{_JOINED}", ""),
    (rf"{_JOINED},?\sor\s(?:even\s|maybe\s|perhaps\s|about\s)?{_JOINED}", NOTHING),
    (r"(?<![\w.])\d{1,15}(?:\.\d{1,15})?\s?[–—]\s?\d{1,15}(?:\.\d{1,15})?", NOTHING),
    (r"(?<![\w.-])\d{1,15}(?:-[$€£¥]?\d{1,15}){1,3}(?![\w-]|\s?=)", NOTHING),
)
_STEPS = [(re.compile(pattern, re.IGNORECASE), into) for pattern, into in _WRITTEN]
_MIXED = re.compile(r"(?<![\d.,/^])(-?)(\d{1,9}) (\d{1,9})/([1-9]\d{0,8})(?![\d/])")
_GROUP = re.compile(r"(?:\d|[.,](?=\d)){1,400}(?:e[-+]?\d{1,3})?(?:\s?/\s?\d{1,18})?", re.IGNORECASE)
_DAY_FIRST = re.compile(r"(?<![\w/.-])(\d{1,2})([/-])(\d{1,2})\2(\d{4})(?![\w/-])")
_DOTTED = re.compile(r"(?<![\w.])(\d{4})\.(\d{1,2})\.(\d{1,2})(?!\.?\w)")


def number(text: str, *, scaled: bool = True) -> str:
    """The text with its numbers in plain notation; ``scaled`` writes 1.5 million and 1.5M as 1.5e6, else these are left."""
    # Before NFKC, which would make 102 of 10² and 21/2 of 2½.
    plain = RAISED.sub(lambda m: f"^{m[0].translate(_SUPERSCRIPT)}", text[-_LONGEST:].translate(_FRACTIONS))
    plain = compatible(plain)[-_LONGEST:].replace("\u2044", "/").replace("\u2212", "-").replace("{,}", ",")
    plain = re.sub(r"[ \t]{1,20}", " ", plain)
    for pattern, into in _STEPS:
        plain = pattern.sub(into, plain)
    plain = _MIXED.sub(_improper, plain)
    return _SCALE.sub(_in_full, _SUFFIX.sub(_suffix_in_full, plain)) if scaled else plain


def numbers_in(plain: str) -> int:
    """How many numbers a text in plain notation holds."""
    return len(_GROUP.findall(plain))


def _in_full(match: re.Match[str]) -> str:
    word = match[2].lower()
    if word != "dozen":
        return f"{match[1]}{_SCALES[word]}"
    dozens = 12 * Fraction(match[1])
    return str(int(dozens)) if dozens.denominator == 1 else f"{dozens.numerator}/{dozens.denominator}"


def _suffix_in_full(match: re.Match[str]) -> str:
    return f"{match['money'] or match['number']}{_SUFFIXES[(match['any'] or match['large']).lower()]}"


def _improper(match: re.Match[str]) -> str:
    sign, whole, above, below = match.groups()
    return f"{sign}{Fraction(int(whole) * int(below) + int(above), int(below))}"


def date(text: str, *, day_first: bool) -> str:
    """The text with days in ISO where their order is certain, or is ``day_first``: 24-11-2026, 24/11/2026, 2026.11.24."""
    return _DAY_FIRST.sub(lambda m: _iso(m, day_first), _DOTTED.sub(r"\1-\2-\3", text[-_LONGEST:]))


def ambiguous_day(text: str) -> bool:
    """Whether a text holds a date whose day and month could be exchanged."""
    return any(m[1] != m[3] and max(int(m[1]), int(m[3])) <= 12 for m in _DAY_FIRST.finditer(text))


def _iso(match: re.Match[str], day_first: bool) -> str:
    first, second = int(match[1]), int(match[3])
    if second <= 12 and (day_first or first > 12):
        return f"{match[4]}-{second:02}-{first:02}"
    if match[2] == "-" and first <= 12 and (second > 12 or not day_first):
        return f"{match[4]}-{first:02}-{second:02}"
    return match[0]
