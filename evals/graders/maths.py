"""Mathematical equivalence, by math-verify: 1/2, 0.5 and \\frac{1}{2} are the same."""

import threading
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from .grader import Case, GraderError
from .words import one_of


@dataclass(frozen=True, slots=True)
class MathsGrader:
    """1 where the reply's final expression equals the reference, as math-verify decides (extra ``maths``)."""

    name: str = "maths"
    needs_reference: bool = True
    waits: bool = False

    def __post_init__(self) -> None:
        try:
            version("math-verify")
        except PackageNotFoundError:
            raise GraderError("grader maths needs math-verify: pip install 'cascade-gate[maths]'") from None

    @property
    def version(self) -> str:
        """That of math-verify, which decides."""
        return f"math-verify {version('math-verify')}"

    def grade(self, case: Case) -> float | None:
        """A reply without an expression is wrong."""
        from math_verify import parse, verify

        # Its time limits are signals, which only the main thread can receive.
        seconds = 5 if threading.current_thread() is threading.main_thread() else None
        said = parse(case.text, parsing_timeout=seconds)
        for gold in one_of(case.reference):
            wanted = parse(str(gold), parsing_timeout=seconds) or parse(f"${gold}$", parsing_timeout=seconds)
            if not wanted:
                raise GraderError(f"reference: {gold!r} is no mathematical expression")
            if said and verify(wanted, said, timeout_seconds=seconds):
                return 1.0
        return 0.0
