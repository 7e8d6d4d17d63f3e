"""Graders of words, numbers, dates and JSON: strict, but fair to an answer that commits itself."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.grade import grade
from evals.graders import Case, GraderError, grader, names
from judges import Prompt

CASES: list[tuple[str, Any, str, float]] = [
    ("number", "22", "Answer: 22", 1.0),
    ("number", "22", "17 + 5 = 22\nThe answer is: $22.00.", 1.0),
    ("number", "1234", "Answer: 1,234 euros", 1.0),
    ("number", "16", "so \\(\\boxed{16}\\).", 1.0),
    ("number", "17", "Answer: 17 + 5", 0.0),
    ("number", "22", "Answer: 2", 0.0),
    ("number", "22", "no idea", 0.0),
    ("number", "-3", "Answer: -3", 1.0),
    ("date", "2025-12-08", "2025-12-8", 1.0),
    ("date", "2025-12-08", "December 8, 2025.", 1.0),
    ("date", "2025-12-08", "It is 2025-12-08, or 2025-12-09.", 0.0),
    ("date", "2025-12-08", "2025-13-08", 0.0),
    ("json", {"a": 1, "b": "x"}, '```json\n{"b": "x", "a": 1}\n```', 1.0),
    ("json", {"a": 1}, '{"a": true}', 0.0),
    ("json", {"a": 1}, '{"a": 1, "b": 2}', 0.0),
    ("json", {"a": 1}, 'Sure: {"a": 1}', 1.0),
    ("choice", "positive", "Positive.", 1.0),
    ("choice", "positive", "positive or neutral", 0.0),
    ("contains", "Paris", "The capital of France is Paris.", 1.0),
    ("contains", "Paris", "Parisian", 0.0),
    ("contains", "Paris", "It is not Paris.", 0.0),
    ("contains", "K", "The symbol of potassium is K.", 1.0),
    ("contains", "8", "It has 8 legs and 6 eyes, I think, but others say otherwise, so who really knows", 0.0),
    ("contains", "south-west", "South West", 1.0),
    ("exact", "a b", " a b\n", 1.0),
    ("exact", "a b", "A b", 0.0),
    ("text", "The Nile", "nile.", 1.0),
    ("text", ["Nile", "Amazon"], "Answer: the Amazon", 1.0),
    ("text", "Nile", "the Nile, or the Amazon", 0.0),
    ("choice", "B", "(b)", 1.0),
    ("choice", "B", "Answer: B) Paris", 1.0),
    ("choice", "B", "A, not B", 1.0),
    ("choice", "B", "C", 0.0),
    ("regex", r"\b4\d\b", "about 42 or so", 1.0),
    ("regex", r"^4\d$", "about 42", 0.0),
    ("number", 22, "Answer: 22", 1.0),
    ("number", "1,234.50", "it costs $1234.5", 1.0),
    ("number", [1, 2], "2", 1.0),
    ("number", "0.5", "1/2", 1.0),
    ("number:tolerance=0.01", 3.14159, "3.14", 1.0),
    ("number:tolerance=0.001", 3.14159, "3.14", 0.0),
    ("number:relative=0.01", 1000, "1009", 1.0),
    ("number:relative=0.01", 1000, "1011", 0.0),
    ("date", "2026-02-28", "on February 28th, 2026", 1.0),
    ("date", "2026-02-28", "March 1, 2026", 0.0),
    ("json", {"a": {"b": 1}}, 'Here:\n```json\n{"a": {"b": 1.0}}\n```', 1.0),
    ("json", {"a": 1}, "no JSON", 0.0),
    ("json", [1, 2], "[2, 1]", 0.0),
    ("json:credit=fields", {"a": 1, "b": {"c": "x", "d": 2}}, '{"a": 1, "b": {"c": "x", "d": 3}}', 2 / 3),
    ("json:credit=fields", {"a": 1}, '{"a": 1, "b": 2}', 0.5),
    ("json:credit=fields", {"a": 1}, '{"a": true}', 0.0),
    ("json:credit=fields", {}, "{}", 1.0),
]


@pytest.mark.parametrize(("kind", "reference", "text", "quality"), CASES)
def test_cases(kind: str, reference: Any, text: str, quality: float) -> None:
    """Each grader gives the quality that a careful reader would."""
    assert grade(reference, text, kind) == pytest.approx(quality)


@pytest.mark.parametrize(
    ("kind", "reference", "said"),
    [
        ("number", "many", "'many' is no number"),
        ("number", True, "True is no number"),
        ("date", "yesterday", "is no date"),
        ("regex", "(", "not a regular expression"),
        ("code", 5, "needs a text of tests"),
    ],
)
def test_a_reference_of_the_wrong_type_is_an_error(kind: str, reference: Any, said: str) -> None:
    """A reference that the grader cannot use is a mistake in the data, not a wrong answer."""
    with pytest.raises(GraderError, match=said):
        grade(reference, "5", kind)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("nummer", "did you mean 'number'"),
        ("number:tolerance", "number:tolerance=0.01"),
        ("number:tolerance=-1", "tolerance must be a number from 0"),
        ("number:toleranz=1", "unexpected keyword"),
        ("json:credit=some", "all or fields"),
        ("text:case=true", "takes no options"),
        ("number:version=9", "write options as"),
        ("code:seconds=0", "whole number from 1"),
        ("python:nowhere", "package.module:function"),
        ("python:math:nothing", "nothing"),
        ("python:math:pi", "is no function"),
        ("model", "model:use=NAME"),
    ],
)
def test_a_wrong_specification_says_what_is_right(spec: str, said: str) -> None:
    """Names, options and values are checked when the grader is made."""
    with pytest.raises(GraderError, match=said):
        grader(spec)


def test_schema_grades_validity_alone() -> None:
    """Valid is 1, invalid 0, and where there is no schema it cannot tell."""
    prompt = Prompt.of("q", schema={"type": "object", "required": ["a"]})
    assert grader("schema").grade(Case(text='{"a": 1}', prompt=prompt)) == 1.0
    assert grader("schema").grade(Case(text="{}", prompt=prompt)) == 0.0
    assert grader("schema").grade(Case(text="{}")) is None


def halves(reference: Any, text: str) -> float:
    """A grader of the user's own."""
    return 0.5 if text == reference else 0.0


def wild(case: Case) -> float:
    """One that takes the whole case, and gives what no grade is."""
    return 7.0 if case.text else 0.0


def test_any_function_grades() -> None:
    """With two arguments it gets reference and text, with one the case; a number outside [0, 1] is an error."""
    where = f"python:{__name__}"
    import sys

    sys.modules[__name__] = sys.modules.get(__name__) or type(sys)(__name__)
    vars(sys.modules[__name__]).update(halves=halves, wild=wild)
    assert grade("x", "x", f"{where}:halves") == 0.5
    with pytest.raises(GraderError, match=r"gave 7\.0"):
        grade(None, "x", f"{where}:wild")


def test_a_function_that_raises_is_named() -> None:
    """With what it raised, in place of a traceback."""
    import sys

    sys.modules[__name__] = sys.modules.get(__name__) or type(sys)(__name__)
    vars(sys.modules[__name__]).update(breaks=breaks)
    with pytest.raises(GraderError, match=r"python:.*:breaks raised KeyError: 'x'"):
        grade("x", "x", f"python:{__name__}:breaks")


def breaks(reference: Any, text: str) -> float:
    """A grader with a defect."""
    table: dict[str, float] = {}
    return table[text]


@pytest.mark.parametrize("kind", ["exact", "text", "choice", "contains", "regex", "number", "date"])
@pytest.mark.parametrize("reference", [{"total": 5}, [], [["5"]], [None]])
def test_a_reference_of_the_wrong_type(kind: str, reference: Any) -> None:
    """Is an error, not a wrong answer: an object's text might even hold the number that was asked for."""
    with pytest.raises(GraderError, match="reference: must be text, a number or a list of those"):
        grade(reference, "5", kind)


@given(st.text(), st.sampled_from(["exact", "text", "choice", "contains", "number", "date", "json", "json:credit=fields"]))
def test_no_answer_breaks_a_grader(text: str, kind: str) -> None:
    """Whatever a model says, the grade is a number in [0, 1]."""
    reference: Any = {"number": 5, "date": "2026-11-24", "json": {"a": 1}}.get(kind.split(":")[0], "x")
    assert 0.0 <= grade(reference, text, kind) <= 1.0


def test_every_name_is_known() -> None:
    """The help lists them all."""
    assert {"exact", "text", "choice", "contains", "regex", "number", "date", "json", "schema", "code", "maths"} <= set(
        names()
    )


def test_maths() -> None:
    """Expressions are equal by their value, not by their writing."""
    pytest.importorskip("math_verify")
    assert grade("$\\frac{1}{2}$", "The answer is $0.5$", "maths") == 1.0
    assert grade("x^2+2x+1", "$(x+1)^2$", "maths") == 1.0
    assert grade("$3$", "$4$", "maths") == 0.0
    assert grader("maths").version.startswith("math-verify ")
