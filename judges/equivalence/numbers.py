"""Numbers in an answer in plain notation: exact values, and answers that are one number with a few words around."""

import re
from fractions import Fraction

from judges.reading import numerals
from judges.reading.number_words import in_digits

from .dates import MONTH_NAME
from .plain_text import bare_text, last_match

# Bounded and possessive: a long run of groups that ends badly must not be tried again from each of them.
_DIGITS = r"(?:\d{1,3}(?:,\d{3}){1,99}+(?!,?\d)|\d+)(?:\.\d+)?|\.\d+"
_NUMBER = re.compile(
    rf"(?<![\w.])([-+]?)(?:\\?[$€£¥])?({_DIGITS})([eE][-+]?\d{{1,3}}(?!\d))?(?:[ ]?/[ ]?(\d{{1,18}})(?![\d/]))?"
)
_AFTER_NUMBER = re.compile(r"\s{0,4}(?:\\?%)?[\s.$]{0,8}")
# A number with at most a few words around: "It is 51.", "12 apples", "17 * 3 = 51".
_STATEMENT = re.compile(
    r"(?:(?:so|thus|hence|therefore|then|altogether|in total)(?:[,:] ?| ))?(?:(?:it(?:'s| is| equals| makes| gives)"
    r"|that(?:'s| is| makes| gives| leaves)|this (?:is|makes|gives|leaves)|there (?:are|were|is)"
    r"|(?:he|she|they|we|i|you) (?:have|has|had|get|gets|got|find|need|needs|paid|pay|spent|earned|earns|makes?|sold|sells?)"
    r"|(?:the )?(?:final |total |correct )?(?:result|total|sum|number|value|cost|price|answer|product|difference)"
    r"(?: is| was| equals| ?[:=])|[a-z] ?=|=) ?(?:about |exactly |approximately |equal to |[~≈] ?)?"
    r"|[\d\s.,()*/+x-]{1,60}=\s?|[~≈] ?|(?:about|approximately|roughly|around|exactly|approx\.?) )?\(?"
    rf"(?P<number>[-+]?(?:\\?[$€£¥])?(?:{_DIGITS})(?:e[-+]?\d{{1,3}})?(?:[ ]?/[ ]?\d{{1,18}})?)\)?(?:\s?\\?%)?"
    r"(?:°(?! )| (?P<unit>[a-zµ°²³]{1,15})(?:/[a-zµ²³]{1,7})?)?"
    r"(?: (?:in total|in all|altogether|left|remaining|each|old|tall|long|high|wide|deep|away))?"
    r"(?: \((?!or )[^()]{1,40}\))?[\s.!$]{0,8}",
    re.IGNORECASE,
)
_MOST_STATEMENT = 120  # characters
_NO_UNITS = frozenset(("am", "pm", "bc", "ad", "and", "or", "to", "of", "st", "nd", "rd", "th", "o"))
_LONG = 400


def whole_number(answer: str, bare: str) -> str | None:
    """The number that an answer is as a whole, with at most a few words around it."""
    # Unchanged where nothing has to be converted: 10² is not 102.
    number = None if numerals.RAISED.search(answer) else _NUMBER.match(bare)
    if number is not None and _AFTER_NUMBER.fullmatch(bare, number.end()) and "," not in number[0]:
        return _value(number)
    if len(bare) > _MOST_STATEMENT:
        return None
    if not any(char.isdigit() for char in bare):
        answer = in_digits(bare)
        if answer is bare:
            return None
    statement = _STATEMENT.fullmatch(bare_text(numerals.number(answer)).replace("**", ""))
    if statement is None or (unit := (statement["unit"] or "").lower()) in _NO_UNITS or MONTH_NAME.fullmatch(unit):
        return None
    number = _NUMBER.fullmatch(statement["number"])
    return None if number is None else _value(number)


def stated_number(answer: str) -> str | None:
    """The number that an answer is as a whole in words alone ("twelve apples") or before a remark ("51 (see step 2)")."""
    if len(answer) > _MOST_STATEMENT or ("(" not in answer and any(char.isdigit() for char in answer)):
        return None
    return whole_number(answer, bare_text(answer))


def last_number(plain: str) -> str | None:
    """The last number in a text in plain notation (see ``numerals``), as ``Fraction`` writes it, or None."""
    last = last_match(_NUMBER, bare_text(plain))
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
