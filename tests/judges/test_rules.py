"""Plain rules: each side of each, refusals above all."""

from time import monotonic
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges import Answer, JudgeInput, Prompt, Verdict, make
from judges.reading import is_refusal
from judges.rules import RulesJudge

REFUSALS = """I'm sorry, but I can't help with that.
I’m sorry, but I can’t assist with that request.
I am sorry, I cannot provide that information.
I'm very sorry but I am unable to do this.
Sorry, but I can't share that.
I apologize, but I cannot fulfil this request.
My apologies, I won't be able to answer.
I cannot help with that.
I can't assist with this request.
I won't provide instructions for that.
I'm unable to answer this question.
I am not able to help you here.
Unfortunately, I cannot provide medical advice.
As an AI language model, I don't have personal opinions.
As an AI, I can't browse the internet.
As a large language model, I am unable to access files.
I must decline to answer.
**I cannot comply with this request.**
I'm just an AI and can't do that.
I'm sorry, Dave. I'm afraid I can't do that.
I can't provide that.""".splitlines()

ANSWERS = """I can't see why not: 42
I cannot stress this enough: use HTTPS.
I'm sorry to hear that. The refund takes 5 days.
Sorry for the confusion: the answer is 12.
I apologize for the mistake. The total is 7.
As an AI researcher, Turing asked whether machines can think.
Unfortunately, the train was late by 12 minutes.
I can help with that: 42.
I won 3 games.
You cannot help with that form; use form B.
The phrase "I'm sorry, but I can't" is a refusal.
42
Paris
I'm unable to walk" is what the patient said.
I am the way and the light.
{"reason": "I cannot help with that"}
Sorry, wrong formula. x = 3.
I decline Latin nouns in five ways.
As a language, Model Latin has six cases.
Sorry for the delay, I can't see why not: 42
I can't wait to answer: it is 9.""".splitlines()


def run(answer: Answer | str, **options: Any) -> Verdict:
    given_answer = answer if isinstance(answer, Answer) else Answer(answer)
    return RulesJudge(**options).judge(JudgeInput(prompt=Prompt.of("q"), answer=given_answer))


@pytest.mark.parametrize("text", REFUSALS)
def test_refusal(text: str) -> None:
    """A refusal is a veto that names the rule, unless the rule is off."""
    verdict = run(text)
    assert verdict.veto
    assert verdict.reason.startswith("refusal")
    assert not run(text, refusal=False).veto


@pytest.mark.parametrize("text", ANSWERS)
def test_not_a_refusal(text: str) -> None:
    """An answer that only sounds like a refusal does not count as one."""
    assert not run(text).veto


def test_long_answer_is_no_refusal() -> None:
    """Who goes on at length has answered."""
    assert not is_refusal("I cannot help with that, but here is what I know. " + "It is so. " * 200)


@pytest.mark.parametrize("text", ["", "  \n\t"])
def test_empty(text: str) -> None:
    """No text is a veto, but not with tool calls or with the rule off."""
    assert run(text).reason.startswith("empty")
    assert not run(Answer(text, tool_calls=({"function": {"name": "f"}},)), min_chars=5, choices=["A"]).veto
    assert not run(text, empty=False).veto


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_truncated(reason: str) -> None:
    """An answer that was cut off is a veto; other ends are not."""
    assert run(Answer("42", finish_reason=reason)).reason.startswith("truncated")
    assert not run(Answer("42", finish_reason=reason), truncated=False).veto
    assert not run(Answer("42", finish_reason="stop")).veto


@pytest.mark.parametrize(
    ("text", "ok"),
    [
        ("Yes", True),
        ("yes.", True),
        (" **YES** ", True),
        ("“no”", True),
        ("not  sure", True),
        ("maybe", False),
        ("yes no", False),
    ],
)
def test_choices(text: str, ok: bool) -> None:
    """Case, outer punctuation and spaces aside, the answer must be one of the choices."""
    assert run(text, choices=["yes", "No", "not sure"]).veto is not ok


def test_choices_of_punctuation() -> None:
    """Choices that are nothing but punctuation stay apart."""
    assert not run("*", choices=["*", "?"]).veto
    assert run("!", choices=["*", "?"]).reason == "choices: not one of the 2"


def test_lengths() -> None:
    """Bounds are inclusive and count the stripped text."""
    assert not run(" abc ", min_chars=3, max_chars=3).veto
    assert run("ab", min_chars=3).reason.startswith("min_chars")
    assert run("abcd", max_chars=3).reason.startswith("max_chars")


def test_pattern() -> None:
    """The pattern must be found somewhere."""
    assert not run("so: 42", pattern=r"\d+$").veto
    assert run("so: x", pattern=r"\d+$").reason == "pattern: not found"


def test_evil_pattern() -> None:
    """A pattern that would run for ages is a veto within the time limit."""
    start = monotonic()
    assert run("a" * 40 + "!", pattern="^(a|a)*$").reason == "pattern: took too long"
    assert run("a" * 40 + "!", pattern="^(a+)+$").veto
    assert monotonic() - start < 5


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("choices", "yes"),
        ("choices", []),
        ("choices", [1, 2]),
        ("choices", [" "]),
        ("pattern", "("),
        ("pattern", 5),
        ("min_chars", -1),
        ("max_chars", 1.5),
        ("min_chars", True),
        ("refusal", "no"),
        ("empty", 1),
        ("truncated", None),
    ],
)
def test_wrong_option(option: str, value: Any) -> None:
    """A wrong option is a ValueError that names it."""
    with pytest.raises(ValueError, match=option):
        RulesJudge(**{option: value})


def test_bounds_that_exclude_each_other() -> None:
    """No length can be both."""
    with pytest.raises(ValueError, match="min_chars 5 is more than max_chars 3"):
        RulesJudge(min_chars=5, max_chars=3)


def test_list_becomes_tuple() -> None:
    """Lists, as a file gives them, become tuples, so that the judge can be hashed."""
    rules = make("rules", choices=["A", "B"])
    assert rules == RulesJudge(choices=("A", "B"))
    assert hash(rules) == hash(RulesJudge(choices=("A", "B")))


@given(st.text())
def test_any_text(text: str) -> None:
    """No text raises."""
    verdict = run(text, choices=["A"], pattern="a", min_chars=1, max_chars=20)
    assert verdict.score is None
    assert verdict.veto is bool(verdict.reason)
