"""Graders of numbers and dates."""

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from judges.equivalence import final_answer, key, last_number, stated_number
from judges.reading import numerals

from .protocol import GraderError, GradingCase
from .text import leading, one_of, stated

# "17 + 5" is a sum, not its result, and "3 to 5" is not one number; 1/2 is.
_SUM = re.compile(r"[\s$€£]*[-+]?[\d.,]+\s*(?:[-+*]|to\b|and\b)\s*[$€£]?[\d.,]+[\s.]*")
_ALONE = re.compile(r"\W{0,6}\d[\d.,]{0,30}\W{0,6}(?:[^\W\d]{1,12}\W{0,3}){0,2}")
_SENTENCE_END = re.compile(r"(?<=[\w%)*])\.\s{1,4}(?=[A-Z(])")
_ASIDE = re.compile(r"(?<=[\w%*])\s\([^()]{0,300}\)")
_NONE = re.compile(
    r"\b(?:none|unknown|undefined|infinit\w{0,3}|nan|impossible|unclear|cannot|not|no|don['’]t|can['’]t)\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class NumberGrader:
    """1 where the reply's number equals the reference within ``tolerance`` (absolute) or ``relative`` (a share of it).

    The reply's number is the last one of its final answer, as ``judges.equivalence`` reads it once ``numerals`` has put it
    in plain notation. "50%" is 50, not a half; "1.5 million" is right for 1.5 (where millions were asked for) and 1500000.
    """

    tolerance: float = 0.0
    relative: float = 0.0
    name: str = "number"
    version: str = "4"
    needs_reference: bool = True
    waits: bool = False

    def __post_init__(self) -> None:
        for option in ("tolerance", "relative"):
            value = getattr(self, option)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
                raise GraderError(f"number: {option} must be a number from 0 on, got {value!r}")

    def check(self, reference: Any) -> None:
        """Raises GraderError if the reference is not a number, or contains several."""
        self._golds(reference)

    def grade(self, case: GradingCase) -> float | None:
        """Compares exactly; a reply without a number, or with several alternatives, is wrong."""
        golds = self._golds(case.reference)
        readings = {_value_of(case.text, scaled=scaled) for scaled in (True, False)}
        return float(any(self._near(one, gold) for one in readings if one is not None for gold in golds))

    def _golds(self, reference: Any) -> list[Fraction]:
        golds = []
        for gold in one_of(reference):
            plain = numerals.number(final_answer(str(gold)))
            value = None if isinstance(gold, bool) else _number(plain)
            if value is None:
                raise GraderError(f"reference: {gold!r} is not a number; write digits, or name another grader")
            if numerals.numbers_in(plain) > 1:
                raise GraderError(
                    f"reference: {gold!r} holds several numbers; give the right one, or a list where each is right"
                )
            golds.append(value)
        return golds

    def _near(self, value: Fraction, gold: Fraction) -> bool:
        return abs(value - gold) <= max(Fraction(self.tolerance), abs(gold) * Fraction(self.relative))


def _value_of(text: str, *, scaled: bool) -> Fraction | None:
    answer = leading(stated(text), _ALONE)
    if answer != text.strip():  # what follows a marked answer on its line is a remark about it
        answer = _ASIDE.sub("", _first_sentence(answer))
    in_words = stated_number(answer)
    if in_words is not None:
        return Fraction(in_words)
    plain = numerals.number(answer, scaled=scaled)
    if _SUM.fullmatch(plain):
        return None
    if not any(char.isdigit() for char in plain) and numerals.NOTHING not in plain and not _NONE.search(plain):
        plain = numerals.number(text, scaled=scaled)  # "the answer is as follows"
    return _number(plain)


def _first_sentence(answer: str) -> str:
    """The text up to the end of the first sentence with a digit."""
    digit = re.search(r"\d", answer)
    end = _SENTENCE_END.search(answer, digit.end()) if digit else None
    return answer[: end.start()] if end else answer


def _number(plain: str) -> Fraction | None:
    _, nothing, after = plain.rpartition(numerals.NOTHING)
    if nothing and not any(char.isdigit() for char in after):
        return None
    value = last_number(plain)
    try:
        return None if value is None else Fraction(value)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class DateGrader:
    """1 if the reply's last date is the reference's day.

    05/09/2026 is the 9th of May, as everywhere in this package, unless ``day_first``; in a reference it is an error.
    """

    day_first: bool = False
    name: str = "date"
    version: str = "3"
    needs_reference: bool = True
    waits: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.day_first, bool):
            raise GraderError(f"date: day_first must be true or false, got {self.day_first!r}")

    def check(self, reference: Any) -> None:
        """Raises GraderError if the reference is not a date, or is ambiguous."""
        self._golds(reference)

    def grade(self, case: GradingCase) -> float | None:
        """Compares days in any notation; a reply without a date, or with two alternatives, is wrong."""
        golds = self._golds(case.reference)
        plain = numerals.date(stated(case.text), day_first=self.day_first)
        return float(self._day(_NOT_SAID.sub("", plain)) in golds)

    def _golds(self, reference: Any) -> list[Any]:
        golds = []
        for gold in map(str, one_of(reference)):
            day = self._day(numerals.date(gold, day_first=self.day_first))
            if day is None or (numerals.ambiguous_day(gold) and not self.day_first):
                reason = "is not a date" if day is None else "could be two days"
                raise GraderError(f"reference: {gold!r} {reason}; write it as 2026-11-24")
            golds.append(day)
        return golds

    def _day(self, text: str) -> Any:
        one, two = (_read_day(part) for part in (text, _before_or(text)))
        return None if two is not None and one != two else one


_NOT_SAID = re.compile(r"\b(?:not|rather than|instead of)\s(?:on\s)?[\w ,./-]{6,30}")


def _before_or(text: str) -> str:
    """The text before the last "or" that a date follows."""
    before, _, after = text.rpartition(" or ")
    return before if _read_day(after) is not None else ""


def _read_day(text: str) -> Any:
    parsed = key(text, "date")
    return parsed if isinstance(parsed, tuple) and parsed[0] == "date" else None
