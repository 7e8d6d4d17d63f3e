"""Graders of numbers and dates."""

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from judges.equivalence import final_answer, key

from .grader import Case, GraderError
from .words import one_of

# "17 + 5" states a sum, not its result; 1/2 is a number.
_SUM = re.compile(r"[\s$€£]*[-+−]?[\d.,]+\s*[-+*×−]\s*[\d.,]+[\s.]*")


@dataclass(frozen=True, slots=True)
class NumberGrader:
    """1 where the reply's number equals the reference within ``tolerance`` (absolute) or ``relative`` (a share of it).

    The reply's number is the last one of its final answer, as ``judges.equivalence`` reads it.
    """

    tolerance: float = 0.0
    relative: float = 0.0
    name: str = "number"
    version: str = "2"
    needs_reference: bool = True
    waits: bool = False

    def __post_init__(self) -> None:
        for option in ("tolerance", "relative"):
            value = getattr(self, option)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
                raise GraderError(f"number: {option} must be a number from 0 on, got {value!r}")

    def grade(self, case: Case) -> float | None:
        """Exact arithmetic; a reply without a number is wrong."""
        golds = [_number(str(gold)) for gold in one_of(case.reference)]
        if None in golds or isinstance(case.reference, bool):
            raise GraderError(f"reference: {case.reference!r} is no number")
        said = None if _SUM.fullmatch(final_answer(case.text)) else _number(case.text)
        if said is None:
            return 0.0
        return float(any(self._near(said, gold) for gold in golds if gold is not None))

    def _near(self, said: Fraction, gold: Fraction) -> bool:
        return abs(said - gold) <= max(Fraction(self.tolerance), abs(gold) * Fraction(self.relative))


def _number(text: str) -> Fraction | None:
    found = key(text, "number")
    try:
        return Fraction(found[1]) if isinstance(found, tuple) and found[0] == "number" else None
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class DateGrader:
    """1 where the reply's last date is the reference's day."""

    name: str = "date"
    version: str = "2"
    needs_reference: bool = True
    waits: bool = False

    def grade(self, case: Case) -> float | None:
        """Days are compared, however they are written; a reply without a date is wrong."""
        golds = [_day(str(gold)) for gold in one_of(case.reference)]
        if None in golds:
            raise GraderError(f"reference: {case.reference!r} is no date; write it as 2026-11-24")
        return float(_day(case.text) in golds)


def _day(text: str) -> Any:
    found = key(text, "date")
    return found if isinstance(found, tuple) and found[0] == "date" else None
