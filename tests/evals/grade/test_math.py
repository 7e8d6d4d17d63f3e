"""Mathematical equivalence by math-verify, within its time."""

import threading
import time
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec

import pytest

from evals.grade import GraderError, GradingCase, grader
from evals.grade import math as maths
from evals.grade.command import grade

# Not imported here: it brings sympy, which every worker would load.
pytestmark = pytest.mark.skipif(find_spec("math_verify") is None, reason="math-verify is not installed")


@pytest.mark.parametrize(
    ("reference", "text", "quality"),
    [
        ("$\\frac{1}{2}$", "The answer is $0.5$", 1.0),
        ("x^2+2x+1", "$(x+1)^2$", 1.0),
        ("$3$", "$4$", 0.0),
        ("4", "3 or 4", 0.0),
        ("3", "It is not 3", 0.0),
        ("3", "", 0.0),
        ("3", "no idea", 0.0),
        ("2", "\ud800 $2$", 1.0),
        (0.5, "\\boxed{\\frac12}", 1.0),
        (["$1$", "$2$"], "$2$", 1.0),
    ],
)
def test_cases(reference: object, text: str, quality: float) -> None:
    """Expressions are equal by their value, not by their writing; one that commits itself to none is wrong."""
    assert grade(reference, text, "maths") == quality


def test_an_expression_that_takes_for_ever_cannot_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither right nor wrong: unknown, in the seconds that it has."""
    monkeypatch.setattr(maths, "SECONDS", 1)
    started = time.monotonic()
    assert grader("maths").grade(GradingCase(text="$9^{9^{9^9}}$", reference="2")) is None
    assert time.monotonic() - started < 8


def test_without_its_time_limit_it_does_not_run() -> None:
    """Signals reach only the main thread: in another thread the grader raises instead of hanging."""
    messages: list[str] = []

    def run() -> None:
        with pytest.raises(GraderError) as caught:
            grade("2", "2", "maths")
        messages.append(str(caught.value))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert messages
    assert "main thread" in messages[0]


def test_references() -> None:
    """What is no expression is an error."""
    for reference in ("", True, {"a": 1}):
        with pytest.raises(GraderError, match=r"^reference: "):
            grade(reference, "2", "maths")


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what to install; with it, the version is that of what decides."""
    assert "math-verify " in grader("maths").version

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(maths, "version", missing)
    with pytest.raises(GraderError, match=r"pip install 'cascade-gate\[maths\]'"):
        grader("maths")
