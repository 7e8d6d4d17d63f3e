"""Graders of words, numbers, dates and JSON: strict, but fair to an answer that commits itself."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.grade import GraderError, grader, names
from evals.grade.command import grade

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
    ("choice", "B", "A, not B", 0.0),
    ("choice", "A", "A, not B", 1.0),
    ("choice", "C", "B or C", 0.0),
    ("choice", "B", "I cannot choose between A and B", 0.0),
    ("choice", "B", "It's not (B)", 0.0),
    ("choice", "C", "C because B is wrong", 1.0),
    ("choice", "B", "C because B is wrong", 0.0),
    ("choice", "A", "The answer is A because B is wrong", 1.0),
    ("choice", "A", "A) Paris\nB) Rome\nC) Oslo", 0.0),
    ("choice", "B", "The correct option is **B**: Paris", 1.0),
    ("choice", "B", '{"reasoning": "C is tempting", "answer": "B"}', 1.0),
    ("choice", "B) Paris", "B", 1.0),
    ("choice", "B", "**B**\n\nA is wrong, and so is C.", 1.0),
    ("choice", "C", "B\n\nA is wrong, and so is C.", 0.0),
    ("choice", "B", "B\n\nC", 0.0),
    ("choice", "B", "```\nB\n```", 1.0),
    ("choice", "billing", "**Category:** Billing.", 1.0),
    ("choice", "billing", "Category: billing or refund", 0.0),
    ("choice", "B", "C", 0.0),
    ("regex", r"\b4\d\b", "about 42 or so", 1.0),
    ("regex", r"^4\d$", "about 42", 0.0),
    ("text", "<", ">", 0.0),
    ("text", "<", "<", 1.0),
    ("text", "-", "", 0.0),
    ("text", "5", "-5", 0.0),
    ("text", "5", ".5", 0.0),
    ("text", "23", "2*3", 0.0),
    ("text", "C++", "**C++**", 1.0),
    ("text", "Paris", '{"answer": "Paris"}', 1.0),
    ("contains", "5", "It is 3.5", 0.0),
    ("contains", "5", "It is -5", 0.0),
    ("contains", "984", "It is 11,984", 0.0),
    ("contains", "1984", "It was in 1984.", 1.0),
    ("contains", "Paris", "It isn't Paris.", 0.0),
    ("contains", "Paris", "It isn’t Paris.", 0.0),
    ("contains", "Paris", "It cannot be Paris", 0.0),
    ("contains", "Paris", "London rather than Paris", 0.0),
    ("contains", "Paris", "Paris is wrong, it is Rome", 0.0),
    ("contains", "no", "The answer is no.", 1.0),
    ("number", 14, "3,14", 0.0),
    ("number", 3.14, "3,14", 1.0),
    ("number", 56, "1.234,56", 0.0),
    ("number", 1234.56, "1.234,56 €", 1.0),
    ("number", 1234567, "1.234.567", 1.0),
    ("number", 1234, "1,234", 1.0),
    ("number", 3, "The values are 1,2,3", 1.0),
    ("number", 0.125, "0,125", 1.0),
    ("number", 234, "1 234", 0.0),
    ("number", 1234567, "1 234 567", 1.0),
    ("number", 1234567, "1\u202f234\u202f567", 1.0),
    ("number", 1234567, "1'234'567", 1.0),
    ("number", 5, "2x10^5", 0.0),
    ("number", 200000, "2 × 10⁵", 1.0),
    ("number", 200000, r"$2 \times 10^{5}$", 1.0),
    ("number", 0.0015, "1.5e-3", 1.0),
    ("number", 6, "10^6", 0.0),
    ("number", 1000000, "10**6", 1.0),
    ("number", 3, "2^3", 0.0),
    ("number", 8, "2^3 = 8", 1.0),
    ("number", 1500000, "about 1.5 million people", 1.0),
    ("number", 1.5, "1.5 million", 1.0),
    ("number", -3, "minus 3", 1.0),
    ("number", 3, "minus 3", 0.0),
    ("number", 3, "−3", 0.0),
    ("number", 5, "4 or 5", 0.0),
    ("number", 5, "3–5", 0.0),
    ("number", 5, "3 to 5", 0.0),
    ("number", 5, "not 5", 0.0),
    ("number", 4, "4, not 5", 1.0),
    ("number", 22, "17 + 5 = 22. Would you like more help?", 1.0),
    ("number", 3, "between 3 and 5–7 days", 0.0),
    ("number", 6, "of 5–7 days I take 6", 1.0),
    ("number", 42, "**42** apples\n\nExplanation: 6 times 7", 1.0),
    ("number", 7, "42\n\nExplanation: 6 times 7", 0.0),
    ("number", 1, "1\n\n2", 0.0),
    ("number", 2, "5 ± 2", 0.0),
    ("number", 5, "5 ± 2", 1.0),
    ("number", 2, "20 m^2", 0.0),
    ("number", 20, "20 m²", 1.0),
    ("number", 0.5, "½", 1.0),
    ("number", 2.5, "2 1/2", 1.0),
    ("number", 2.5, "2½", 1.0),
    ("number", 30, "12:30", 0.0),
    ("number", 24, "2026-11-24", 0.0),
    ("number", 42, "The answer is 42. See step 3", 1.0),
    ("number", 3, "The answer is 42. See step 3", 0.0),
    ("number", 100, "Answer: 100 (i.e. 10 * 10)", 1.0),
    ("number", 5, "2 + 3 = 5, but the answer is unknown", 0.0),
    ("number", 5, '{"answer": 5, "confidence": 0.9}', 1.0),
    ("number", 5, "```\n5\n```", 1.0),
    ("number", 5, "NaN", 0.0),
    ("number", 5, "Infinity", 0.0),
    ("number", 5, "5/0", 0.0),
    ("number", 50, "50 %", 1.0),
    ("number", 0.5, "50 %", 0.0),
    ("number", 5, "", 0.0),
    ("number", "#### 72", "72", 1.0),
    ("date", "2025-12-09", "2025-12-08 or 2025-12-09", 0.0),
    ("date", "2026-11-24", "not 2026-11-24", 0.0),
    ("date", "2026-11-24", "24-11-2026", 1.0),
    ("date", "2026-11-24", "24/11/2026", 1.0),
    ("date", "2026-11-24", "2026.11.24", 1.0),
    ("date", "2026-05-09", "05/09/2026", 1.0),
    ("date", "2026-05-09", "05-09-2026", 1.0),
    ("date:day_first=true", "2026-09-05", "05/09/2026", 1.0),
    ("date:day_first=true", "2026-05-09", "05/09/2026", 0.0),
    ("date", "2026-11-24", '{"answer": "2026-11-24", "today": "2026-01-01"}', 1.0),
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
    ("json", '{"a": 1}', '{"a": 1}', 1.0),
    ("json", {"a": 1}, '{"a": NaN}', 0.0),
    ("json", {"a": 1}, '{"a": 1e999}', 0.0),
    ("json", {"a": "1"}, '{"a": 1}', 0.0),
    ("json:credit=fields", {"a": 1, "b": None}, '{"a": 1}', 0.5),
]


@pytest.mark.parametrize(("kind", "reference", "text", "quality"), CASES)
def test_cases(kind: str, reference: Any, text: str, quality: float) -> None:
    """Each grader gives the quality that a careful reader would."""
    assert grade(reference, text, kind) == pytest.approx(quality)


@pytest.mark.parametrize(
    ("kind", "reference", "message"),
    [
        ("number", "many", "'many' is not a number"),
        ("number", True, "True is not a number"),
        ("number", "17 + 5", "holds several numbers"),
        ("number", "12:30", "is not a number"),
        ("number", float("nan"), "nan is not a number"),
        ("number:tolerance=1", [1, "many"], "'many' is not a number"),
        ("date", "yesterday", "is not a date"),
        ("date", "05/09/2026", "could be two days; write it as 2026-11-24"),
        ("regex", "", "matches every reply"),
        ("regex", "x*", "matches every reply"),
        ("regex", "(", "not a regular expression"),
        ("code", 5, "needs a text of tests"),
        ("json", "Paris", "'Paris' is not JSON .*; see text"),
        ("json", {"a": float("nan")}, "holds what JSON does not allow"),
    ],
)
def test_a_reference_of_the_wrong_type_is_an_error(kind: str, reference: Any, message: str) -> None:
    """A reference that the grader cannot use is a mistake in the data, not a wrong answer."""
    with pytest.raises(GraderError, match=message):
        grade(reference, "5", kind)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nummer", "did you mean 'number'"),
        ("number:tolerance", "number:tolerance=0.01"),
        ("number:tolerance=-1", "tolerance must be a number from 0"),
        ("number:toleranz=1", "unexpected keyword"),
        ("json:credit=some", "all or fields"),
        ("date:day_first=1", "must be true or false"),
        ("code:unsafe=0", "must be true or false"),
        ("text:case=true", "takes no options"),
        ("number:version=9", "write options as"),
        ("code:seconds=0", "whole number from 1"),
        ("python:nowhere", "package.module:function"),
        ("python:math:nothing", "nothing"),
        ("python:math:pi", "is not a function"),
        ("model", "model:use=NAME"),
    ],
)
def test_a_wrong_specification_says_what_is_right(spec: str, message: str) -> None:
    """Names, options and values are checked when the grader is made."""
    with pytest.raises(GraderError, match=message):
        grader(spec)


@pytest.mark.parametrize("kind", ["exact", "text", "choice", "contains", "regex", "number", "date"])
@pytest.mark.parametrize("reference", [{"total": 5}, [], [["5"]], [None]])
def test_a_reference_of_the_wrong_type(kind: str, reference: Any) -> None:
    """Is an error, not a wrong answer: an object's text might even hold the number that was asked for."""
    with pytest.raises(GraderError, match="reference: must be text, a number or a list of those"):
        grade(reference, "5", kind)


NOTATIONS = {
    "plain": str,
    "English": "{:,}".format,
    "continental": lambda n: f"{n:,}".replace(",", "."),
    "Swiss": lambda n: f"{n:,}".replace(",", "'"),
    "spaced": lambda n: f"{n:,}".replace(",", "\u202f"),
    "continental with cents": lambda n: f"{n:,}".replace(",", ".") + ",00",
    "of dollars": lambda n: f"${n:,}.00" if n >= 0 else f"-${-n:,}.00",
    "in bold": "**{:,}**".format,
    "boxed": r"so $\boxed{{{}}}$.".format,
    "marked": "Since 3 * 4 = 12, the answer is {:,} apples. See step 7".format,
    "raised": "{} m²".format,
    "worded": lambda n: f"minus {-n}" if n < 0 else f"{n}",
    "in JSON": '{{"answer": {}, "confidence": 0.5}}'.format,
}


@given(
    st.integers(-(10**12), 10**12).filter(lambda n: abs(n) >= 10**6),
    st.integers(-(10**12), 10**12) | st.integers(-999, 999),
    st.sampled_from(sorted(NOTATIONS)),
)
def test_a_number_is_what_it_is_in_any_notation(value: int, other: int, notation: str) -> None:
    """It is right for itself and wrong for every other, of which its digits may be a part."""
    text = NOTATIONS[notation](value)
    assert grade(value, text, "number") == 1.0
    assert grade(other, text, "number") == float(other == value)


FIGURES = st.text(st.sampled_from("0123456789.,:/-+*^±×½²–()[]{}$€%eExor not\n'_\u202f\\?"))


@given(
    st.text() | st.text(st.characters()) | FIGURES | FIGURES.map("Answer: {}".format),
    st.sampled_from(["exact", "text", "choice", "contains", "number", "date", "json", "json:credit=fields"]),
)
def test_no_answer_breaks_a_grader(text: str, kind: str) -> None:
    """Whatever a model says, the grade is a number in [0, 1]."""
    reference: Any = {"number": 5, "date": "2026-11-24", "json": {"a": 1}}.get(kind.split(":")[0], "x")
    assert 0.0 <= grade(reference, text, kind) <= 1.0


def test_every_name_is_known() -> None:
    """The help lists them all."""
    assert {"exact", "text", "choice", "contains", "regex", "number", "date", "json", "schema", "code", "maths"} <= set(
        names()
    )
