"""Mathematical equivalence, by math-verify: 1/2, 0.5 and \\frac{1}{2} are the same."""

import re
import threading
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from cascade.util.extras import needed_by, sentence

from .protocol import GraderError, GradingCase
from .text import one_of, stated

SECONDS = 5
# Math-verify takes the last expression, which is not the answer after "or" or a negation.
_UNDECIDED = re.compile(r"[\d})$]\s{0,4}or\s{1,4}[\d\\${(-]|\b(?:not|n['’]t)\s{1,4}[\d\\${(-]")


@dataclass(frozen=True, slots=True)
class MathsGrader:
    """1 where the reply's final expression equals the reference, as math-verify decides (extra ``maths``).

    Parsing and comparing may take five seconds each; an expression that takes longer gets no grade.
    """

    name: str = "maths"
    needs_reference: bool = True
    waits: bool = False

    def __post_init__(self) -> None:
        try:
            version("math-verify")
        except PackageNotFoundError:
            raise GraderError(sentence("grader maths", "math_verify")) from None

    @property
    def version(self) -> str:
        """The version of this code and that of math-verify, which decides."""
        return f"2, math-verify {version('math-verify')}"

    def check(self, reference: Any) -> None:
        """Raises GraderError if the reference is not an expression."""
        for gold in one_of(reference):
            self._gold(gold)

    def grade(self, case: GradingCase) -> float | None:
        """A reply without an expression, or with two alternatives, is wrong. None after a timeout."""
        with needed_by("grader maths"):
            from math_verify import verify
            from math_verify.errors import TimeoutException

        golds = [self._gold(gold) for gold in one_of(case.reference)]
        if _UNDECIDED.search(stated(case.text)):
            return 0.0
        try:
            answers = _parsed(case.text)
            if not answers:
                return 0.0
            same = (verify(gold, answers, timeout_seconds=SECONDS, raise_on_error=True) for gold in golds)
            return float(any(same))
        except TimeoutException:
            return None
        except Exception:  # sympy may raise anything for an expression that it cannot handle
            return 0.0

    def _gold(self, gold: Any) -> list[Any]:
        with needed_by("grader maths"):
            from math_verify.errors import TimeoutException

        # Only the main thread can receive the signals that limit its time.
        if threading.current_thread() is not threading.main_thread():
            raise GraderError("maths: must run in the main thread, since its time limits are signals")
        try:
            parsed = None if isinstance(gold, bool) else _parsed(str(gold)) or _parsed(f"${gold}$")
        except TimeoutException:
            parsed = None
        if not parsed:
            raise GraderError(f"reference: {str(gold)[:80]!r} is not a mathematical expression; write it as LaTeX between $")
        return parsed


def _parsed(text: str) -> list[Any]:
    with needed_by("grader maths"):
        from math_verify import parse
        from math_verify.errors import TimeoutException

    try:
        parsed: list[Any] = parse(text, parsing_timeout=SECONDS, raise_on_error=True)
        return parsed
    except TimeoutException:
        raise
    except Exception:
        return []
