"""Numbers as people and models write them: one reader for votes and graders."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.grade.numbers_dates import NumberGrader
from evals.grade.protocol import GradingCase
from judges import Prompt
from judges.equivalence import key, same
from judges.reading.number_words import digits_for_words


def grade(text: str, reference: object) -> float | None:
    """The number grader's score."""
    return NumberGrader().grade(GradingCase(text=text, reference=reference, prompt=Prompt.of("q")))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.5M", 1_500_000),
        ("2.5k", 2500),
        ("10K", 10_000),
        ("$2.5B", 2_500_000_000),
        ("£3.5m", 3_500_000),
        ("It is 1.5M.", 1_500_000),
        ("US$ 1,000", 1000),
        ("USD 1,000", 1000),
        ("1,000 EUR", 1000),
        ("Rs. 500", 500),
        ("₹1,00,000", 100_000),
        ("€ 5", 5),
        ("5€", 5),
        ("fifty-one", 51),
        ("Answer: two hundred and five", 205),
        ("Two hundred and five dollars", 205),
        ("three million two hundred thousand and six", 3_200_006),
        ("minus five", -5),
        ("twelve hundred", 1200),
        ("There are twelve apples.", 12),
        ("The answer is one.", 1),
        ("51 (fifty-one)", 51),
        ("3 dozen", 36),
        ("two dozen eggs", 24),
        ("a dozen", 12),
        ("5km", 5),
        ("5 km", 5),
        ("1e6", 1_000_000),
        ("1.5 × 10^3", 1500),
        ("\u22125", -5),
        ("\u20135", -5),
        ("½", "1/2"),
        ("2½", "5/2"),
    ],
)
def test_votes_and_graders_read_the_same(text: str, value: object) -> None:
    """The whole answer is the number, in a vote of any kind and for the grader."""
    assert key(text) == key(text, "number") == ("number", str(value))
    assert grade(text, value) == 1.0


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Seven Samurai", "Seven Pounds"),
        ("no one", "one"),
        ("the right one", "one"),
        ("one of them", "one"),
        ("twenty-first", "20"),
        ("nineteen eighty-four", "103"),
        ("one or two", "two"),
        ("three point five", "3"),
        ("two thirds", "2"),
        ("a seven-segment display", "7"),
        ("5k run", "5000"),
        ("5m", "5000000"),
        ("room 3B", "3000000000"),
        ("1.5M", "1.5"),
        ("five hundred", "5"),
        ("none of the five", "5"),
    ],
)
def test_no_false_merges(a: str, b: str) -> None:
    """Names, pronouns, ordinals, years and labels are no numbers."""
    assert not same(a, b)


@pytest.mark.parametrize("text", ["one or two", "no one knows", "none of the five", "twenty-first", "nineteen eighty-four"])
def test_what_states_no_number(text: str) -> None:
    """The grader finds no number, so that no reference is met by chance."""
    assert not any(grade(text, value) for value in (1, 2, 5, 19, 20, 21, 84, 103))


def in_words(value: int) -> str:
    """A number below a million in words."""
    small = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    names = f"{small} eighteen nineteen".split()
    tens = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
    if value < 20:
        return names[value]
    if value < 100:
        return tens[value // 10 - 2] + (f"-{names[value % 10]}" if value % 10 else "")
    size, name = (1000, "thousand") if value >= 1000 else (100, "hundred")
    rest = value % size
    joint = " and " if rest < 100 else " "
    return f"{in_words(value // size)} {name}" + (f"{joint}{in_words(rest)}" if rest else "")


@given(st.integers(0, 999_999))
def test_every_number_in_words(value: int) -> None:
    """Each number below a million is read as itself."""
    assert digits_for_words(in_words(value)) == str(value)
    assert same(in_words(value), str(value))


@pytest.mark.parametrize("piece", ["one ", "hundred and ", "a ", "million, ", "twenty-", "5k ", "USD ", "$ ", "1 (one "])
def test_hostile_text(piece: str) -> None:
    """Long runs take linear time."""
    began = time.process_time()
    key(piece * (90_000 // len(piece)), "number")
    assert time.process_time() - began < 2
