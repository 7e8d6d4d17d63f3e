"""Answers that say the same share a key, whatever their dress; hostile text neither raises nor takes long."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges.equivalence import KINDS, canonical_json, final_answer, key, same

ALIKE = [
    ("number", ["Answer: 1,234.50", "#### 1234.5", r"It is \boxed{1{,}234.5}.", "$1,234.50", "so 7 and then 1234.5 %."]),
    ("number", [r"\boxed{\frac{1}{2}}", "0.5", "1/2", "Answer: 2/4"]),
    ("number", ["\u22125", "-5", "The answer is -5.0", "-$5"]),
    ("choice", ["B", "(B)", "b.", "Answer: B", "**B**", "B) Paris", "The answer is (B) because of x", "Option B"]),
    ("json", ['{"a": 1, "b": [2.0]}', 'Here:\n```json\n{"b": [2], "a": 1.0}\n```\nDone.', 'It is {"b":[2],"a":1}, see']),
    (
        "date",
        [
            "2026-05-09",
            "05/09/2026",
            "May 9, 2026",
            "9 May 2026",
            "It was on the 9th of May 2026.",
            "09.05.2026",
            "答えは2026年5月9日です。",
            "2026년 5월 9일",
        ],
    ),
    ("text", ["The  cat's (hat)!", "cats hat", "Answer: THE CATS HAT.", "ｃａｔｓ ｈａｔ"]),
    ("auto", ["I think.\nAnswer: 8", "#### 8", r"\boxed{8}", "8.0", "$8", "**Answer:** 8."]),
    ("auto", ['{"a":1}', '```json\n{"a": 1.0}\n```', 'Sure: {"a": 1}', 'Answer:\n{"a":1}']),
    ("auto", ["Answer: May 9, 2026", "2026-05-09", "13 words.\n#### 9 May 2026"]),
    ("auto", ["Answer: C", "(c)", "C) because"]),
]


@pytest.mark.parametrize(("kind", "texts"), ALIKE)
def test_the_same_in_other_words(kind: str, texts: list[str]) -> None:
    """Every spelling of an answer has the key of the first."""
    assert {key(text, kind) for text in texts} == {key(texts[0], kind)}


@pytest.mark.parametrize(
    ("kind", "a", "b"),
    [
        ("number", "5", "-5"),
        ("number", "1/4", "3/4"),
        ("number", "50%", "0.5"),
        ("choice", "A", "B"),
        ("json", '{"a": 1}', '{"a": true}'),
        ("json", '{"a": "1"}', '{"a": 1}'),
        ("json", "[1, 2]", "[2, 1]"),
        ("date", "05/09/2026", "09/05/2026"),
        ("text", "version 3.5", "version 35"),
        ("text", "C", "C++"),
        ("auto", "", "0"),
        ("auto", "?", "!"),
    ],
)
def test_different_answers_stay_apart(kind: str, a: str, b: str) -> None:
    """What differs in meaning differs in its key."""
    assert not same(a, b, kind)


def test_slashes_are_month_first_unless_that_is_no_month() -> None:
    """05/09 is in May, 13/05 can only be the 13th, and a day that does not exist is not a date."""
    assert key("05/09/2026", "date") == ("date", "2026-05-09")
    assert key("13/05/2026", "date") == ("date", "2026-05-13")
    assert key("02/30/2026", "date") == ("text", "02/30/2026")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Step 1: answer: 3\nFinal answer: 4\nbye", "4"),
        ("Answer: 4\nAnswer:", "4"),
        (r"Answer: \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{1} no, Answer: 2", "2"),
        ('{"note": "answer: 5"}', '{"note": "answer: 5"}'),
        (" plain ", "plain"),
        (r"\boxed{never closed", r"\boxed{never closed"),
    ],
)
def test_the_final_answer_is_found(text: str, answer: str) -> None:
    """The last marker wins, an empty one is passed over, and JSON is its own answer."""
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    ("a", "b", "alike"),
    [
        ('{"reasoning": "first", "answer": "5"}', '{"answer": 5.0, "reasoning": "then"}', True),
        ('{"reasoning": "first", "answer": "5"}', "Answer: 5", True),
        ('{"answer": [1, 2]}', "[1,2]", True),
        ('{"answer": "Paris"}', "The Paris.", True),
        ('{"Explanation": "x", "city": "Bonn", "year": 3}', '{"city": "Bonn", "year": 3}', True),
        ('{"steps": ["a"], "city": "Bonn"}', '{"steps": ["b"], "city": "Bonn"}', True),
        ('{"reasoning": "first", "answer": "5"}', '{"reasoning": "first", "answer": "6"}', False),
        ('{"reasoning": "a"}', '{"reasoning": "b"}', False),
        ('{"answer": {"answer": 5}}', '{"answer": 5}', False),
        ('{"city": "Bonn", "answer": 5}', "5", False),
        ('[{"reasoning": "a"}]', '[{"reasoning": "b"}]', False),
    ],
)
def test_reasoning_beside_an_answer_is_not_part_of_it(a: str, b: str, alike: bool) -> None:
    """Two JSON answers that differ in how they explain themselves say the same; the json kind still compares all of it."""
    assert same(a, b) is alike
    assert not same(a, b, "json") or a == b


def test_an_unknown_kind_is_named() -> None:
    """A kind that does not exist is a mistake of the caller's, not of the text."""
    with pytest.raises(ValueError, match="'colour'"):
        key("red", "colour")


@given(st.text() | st.from_regex(r"[-+$\d.,/eE%{}\[\]\"\\:A-C ]{0,30}"), st.text(), st.sampled_from(KINDS))
def test_sameness_is_reflexive_and_symmetric_and_never_raises(a: str, b: str, kind: str) -> None:
    """Any text is the same as itself, and order does not matter."""
    assert same(a, a, kind)
    assert same(a, b, kind) == same(b, a, kind)
    hash(key(a, kind))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_json_does_not_depend_on_its_layout(value: object) -> None:
    """Indentation and escapes change nothing, inside a fence or outside."""
    text = json.dumps(value)
    spread = json.dumps(value, indent=2, ensure_ascii=False)
    assert canonical_json(value) is not None
    assert same(text, spread, "json")


@given(st.integers(-(10**12), 10**12), st.sampled_from(["{}", "Answer: {}", "#### {}", "\\boxed{{{}}}", "{}.", "{}.00"]))
def test_numbers_survive_their_dress(value: int, dress: str) -> None:
    """Separators, markers and trailing zeros leave the value alone."""
    assert key(dress.format(f"{value:,}"), "auto") == ("number", str(value))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "text",
    [
        *("[" * 200_000, '{"a":' * 50_000, "{" * 200_000, "[" * 50_000 + "]" * 50_000, "1" * 200_000, "111," * 50_000 + "1"),
        *("answer: " * 30_000, "\\boxed{" * 30_000, "```" * 60_000, "a" + "\u0301\u0316" * 60_000, " " * 200_000 + "x"),
        *("\ud800" * 1_000, "1e" * 60_000, "\\text{" * 30_000, "1/" * 60_000, "5" + " " * 200_000 + "x"),
    ],
    ids=lambda text: repr(text[:6]),
)
def test_hostile_text_is_read_in_linear_time(text: str, kind: str) -> None:
    """Deep, huge and unclosed texts end quickly and are the same as themselves."""
    start = time.process_time()
    assert same(text, text, kind)
    assert time.process_time() - start < 5  # quadratic work on these would take minutes


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3,14", "157/50"),
        ("1,00,000", "100000"),
        ("1,234", "1234"),
        ("1.234,5", "2469/2"),
        ("10^5", "100000"),
        ("1.5 million", "1500000"),
        ("2 1/2", "5/2"),
        ("It is 51.", "51"),
        ("That's 51", "51"),
        ("12 apples", "12"),
        ("17 * 3 = 51", "51"),
        ("x = -7", "-7"),
        ("Answer: 3,14", "157/50"),
    ],
)
def test_numbers_as_they_are_written(text: str, value: str) -> None:
    """A vote reads numbers as the graders do, with a few words around or none."""
    assert key(text, "auto") == key(text, "number") == ("number", value)


@pytest.mark.parametrize(
    "text", ["3 May", "12 pm", "4 or 5", "12 apples and 3 pears", "Route 66", "1984 is a novel", "7 of 9"]
)
def test_what_is_no_statement_of_one_number(text: str) -> None:
    """Dates, times, ranges and names stay text."""
    assert key(text, "auto")[0] == "text"  # type: ignore[index]


@pytest.mark.parametrize("letter", ["A", "B", "I"])
@pytest.mark.parametrize(
    "frame",
    [
        "**{}**",
        "{} (the first)",
        "{} because it fits",
        "{}, of course",
        "I choose **{}** here",
        "{}: Paris",
        "{} is right",
    ],
)
def test_each_letter_counts_alike(letter: str, frame: str) -> None:
    """A and I are options where B is one."""
    assert key(frame.format(letter), "choice") == ("choice", letter)


@pytest.mark.parametrize(
    "text",
    [
        "It is 51.", "51 apples", "17 * 3 = 51", "17 × 3 = 51", "They have 51 apples.", "He has 51 apples in total.",
        "The sum is **51**.", "I get 51.", "This gives 51.", "Total: 51", "Result = 51", "= 51", "~51", "So, that makes 51.",
        "The answer is 51.", "(51)", "51,0", "There are 51 apples left.", "The total cost is $51",
    ],
)  # fmt: skip
def test_a_statement_of_a_number_votes_with_it(text: str) -> None:
    """With at most a few words around it."""
    assert key(text) == ("number", "51")


@pytest.mark.parametrize(
    ("text", "value"),
    [("10⁵", "100000"), ("10²", "100"), ("2½", "5/2"), ("2 crore", "20000000"), ("3 lakh", "300000"),
     ("€1.5 bn", "1500000000"), ("1,00,000", "100000"), ("3,14", "157/50"), ("2 1/2", "5/2"), ("1.5 million", "1500000")],
)  # fmt: skip
def test_a_number_alone(text: str, value: str) -> None:
    """As it is meant, whichever kind is asked for."""
    assert key(text) == key(text, "number") == ("number", value)


@pytest.mark.parametrize(
    "text",
    [
        "They have 51 or 52 apples.",
        "I have 51 reasons to stay and 3 to go.",
        "He was born in 1951 in Ulm",
        "51 is not 17 * 3",
    ],
)
def test_more_than_a_statement_is_text(text: str) -> None:
    """What says more than a number is not read as one."""
    assert key(text)[0] == "text"  # type: ignore[index]
