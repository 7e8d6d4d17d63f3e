"""Numbers as people and models write them: one reader for votes and graders."""

import time

import pytest

from evals.grade.numbers_dates import NumberGrader
from evals.grade.protocol import GradingCase
from judges import Prompt
from judges.equivalence import key, same


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
        ("3 dozen", 36),
        ("5km", 5),
        ("5 km", 5),
        ("1e6", 1_000_000),
        ("1.5 × 10^3", 1500),
        ("\u22125", -5),
        ("\u20135", -5),
        ("2 dozen eggs", 24),
        ("So, 51", 51),
        ("He has 51 marbles left.", 51),
        ("51 apricots", 51),
        ("12.500,00 €", 12_500),
        ("$$51$$", 51),
        ("\\[51\\]", 51),
        ("½", "1/2"),
        ("2½", "5/2"),
        ("twelve apples", 12),
        ("Twelve", 12),
        ("**Twelve.**", 12),
        ("It is fifty-one.", 51),
        ("The answer is twelve.", 12),
        ("She has twenty five apples left.", 25),
        ("one hundred and twenty", 120),
        ("two thousand three hundred forty-five", 2345),
        ("a hundred", 100),
        ("one million two hundred thousand", 1_200_000),
        ("five hundred dollars", 500),
        ("two and a half", "5/2"),
        ("a dozen", 12),
        ("two dozen eggs", 24),
        ("minus five", -5),
        ("one hundred percent", 100),
        ("zero", 0),
        ("about 51", 51),
        ("approximately 51", 51),
        ("51 (fifty-one)", 51),
        ("51 (see step 2)", 51),
        ("It is 51 (17 * 3).", 51),
        ("5 (of 12)", 5),
        ("51 km/h", 51),
        ("51°", 51),
        ("51 years old", 51),
        ("<answer>51</answer>", 51),
        ("17 * 3 makes 51.\n<answer>\n51\n</answer>", 51),
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
        ("Seven Samurai", "7"),
        ("Twelve Angry Men", "12"),
        ("twenty fifteen", "35"),
        ("nineteen ninety-nine", "118"),
        ("One another", "1"),
        ("five hundredths", "5"),
        ("one more time", "1"),
        ("three to five", "5"),
        ("the number one", "one hundred"),
        ("two, three", "2"),
    ],
)
def test_no_false_merges(a: str, b: str) -> None:
    """Names, pronouns, ordinals, years and labels are no numbers."""
    assert not same(a, b)


@pytest.mark.parametrize("text", ["one or two", "no one knows", "none of the five", "twenty-first", "nineteen eighty-four"])
def test_what_states_no_number(text: str) -> None:
    """The grader finds no number, so that no reference is met by chance."""
    assert not any(grade(text, value) for value in (1, 2, 5, 19, 20, 21, 84, 103))


@pytest.mark.parametrize("piece", ["one ", "hundred and ", "a ", "million, ", "twenty-", "5k ", "USD ", "$ ", "1 (one "])
def test_hostile_text(piece: str) -> None:
    """Long runs take linear time."""
    began = time.process_time()
    key(piece * (90_000 // len(piece)), "number")
    assert time.process_time() - began < 2
