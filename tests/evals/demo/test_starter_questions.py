"""The questions of the starter recording: every gold answer is worked out again, from the question's text alone."""

import calendar
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import jsonschema
import pytest

from evals.demo.starter.families import FAMILIES, languages, support
from evals.demo.starter.questions import GRADERS, questions
from evals.grade.command import grade

QUESTIONS = questions()


def of(task: str) -> list[dict[str, Any]]:
    """The rows of one family."""
    return [row for row in QUESTIONS if row["task"] == task]


def question_of(row: dict[str, Any]) -> str:
    """The question itself: what the last message says, behind any example."""
    prompt = row["prompt"]
    return str(prompt if isinstance(prompt, str) else prompt[-1]["content"])


def test_counts() -> None:
    """At least 600 questions of at least six families, each family with 60 and a grader; both splits hold each family."""
    counts = Counter(row["task"] for row in QUESTIONS)
    assert len(QUESTIONS) >= 600
    assert len(counts) >= 6
    assert min(counts.values()) >= 60
    assert set(counts) == set(FAMILIES) == set(GRADERS)
    for task in counts:
        splits = Counter(row["split"] for row in of(task))
        assert abs(splits["train"] - splits["test"]) <= 1


def test_no_question_stands_twice() -> None:
    """Ids and prompts are unique, and so are the hand-written messages and facts whatever their case."""
    assert len({row["id"] for row in QUESTIONS}) == len(QUESTIONS)
    assert len({json.dumps(row["prompt"]).casefold() for row in QUESTIONS}) == len(QUESTIONS)
    assert len({question_of(row).casefold() for row in QUESTIONS}) == len(QUESTIONS)


def test_questions_are_the_same_in_another_process() -> None:
    """Neither the hash seed nor what ran before changes a question."""
    code = "import json; from evals.demo.starter.questions import questions; print(json.dumps(questions()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == json.loads(json.dumps(QUESTIONS))


@pytest.mark.parametrize("task", list(FAMILIES))
def test_the_grader_takes_the_gold_answer_and_no_other(task: str) -> None:
    """Answered with its own gold every question is right; with another question's gold it is wrong."""
    rows = of(task)
    for row in rows:
        other = next(r["reference"] for r in rows if r["reference"] != row["reference"])
        for reply, quality in ((row["reference"], 1.0), (other, 0.0)):
            text = json.dumps(reply) if isinstance(reply, dict) else str(reply)
            assert grade(row["reference"], text, GRADERS[task]) == quality, (row["id"], text)


N = r"(\d+)"
ARITHMETIC: dict[str, Callable[..., float]] = {
    rf"What is {N} \+ {N}\?": lambda a, b: a + b,
    rf"What is {N} - {N}\?": lambda a, b: a - b,
    rf"What is {N} \* {N}\?": lambda a, b: a * b,
    rf"What is {N} percent of {N}\?": lambda percent, whole: percent * whole / 100,
    rf"has {N} \w+ and buys {N} more": lambda a, b: a + b,
    rf"has {N} \w+ and sells {N}\. How many \w+ are left": lambda a, b: a - b,
    rf"are {N} boxes of {N} \w+\. How many": lambda boxes, each: boxes * each,
    rf"buys {N} \w+ at {N} euros each\. How many euros": lambda n, price: n * price,
    rf"shares {N} \w+ equally among {N} friends": lambda all_, n: all_ / n,
    rf"buys {N} \w+ at {N} euros each and pays with {N}": lambda n, price, paid: paid - n * price,
    rf"are {N} boxes of {N} \w+\. {N} \w+ are broken": lambda boxes, each, broken: boxes * each - broken,
    rf"costs {N} euros once and {N} euros a month\. What do {N}": lambda once, monthly, months: once + monthly * months,
    rf"has {N} \w+, sells {N} and receives {N}": lambda start, sold, came: start - sold + came,
}


def test_arithmetic() -> None:
    """Each problem solved from the numbers in its text."""
    solved = Counter[str]()
    for row in of("arithmetic"):
        [(pattern, match)] = [(p, m) for p in ARITHMETIC if (m := re.search(p, question_of(row)))]
        assert ARITHMETIC[pattern](*map(int, match.groups())) == row["reference"], row["id"]
        assert row["reference"] >= 0
        solved[pattern] += 1
    assert set(solved) == set(ARITHMETIC)


MONTHS = dict(zip(calendar.month_abbr[1:], range(1, 13), strict=True))


def written(text: str) -> date:
    """The first date in a text, whatever its form."""
    forms: tuple[tuple[str, Callable[..., date]], ...] = (
        (r"(\d{4})-(\d\d)-(\d\d)", lambda y, m, d: date(int(y), int(m), int(d))),
        (r"backup-(\d{4})(\d\d)(\d\d)\.tar", lambda y, m, d: date(int(y), int(m), int(d))),
        (r"(\d\d)\.(\d\d)\.(\d{4})", lambda d, m, y: date(int(y), int(m), int(d))),
        (r"(\d\d)/(\d\d)/(\d{4})", lambda m, d, y: date(int(y), int(m), int(d))),
        (r"([A-Z][a-z]{2})[a-z]* (\d+), (\d{4})", lambda m, d, y: date(int(y), MONTHS[m], int(d))),
        (r"(\d+)(?:st|nd|rd|th)? (?:of )?([A-Z][a-z]{2})[a-z]* (\d{4})", lambda d, m, y: date(int(y), MONTHS[m], int(d))),
    )
    for pattern, convert in forms:
        if match := re.search(pattern, text):
            return convert(*match.groups())
    raise AssertionError(text)


def test_dates() -> None:
    """Each date read from the text, and the days that it names counted on or back."""
    day_counts = {"one day": 1, **{f"{n} days": n for n in range(2, 10)}}
    kinds = Counter[str]()
    for row in of("date"):
        text = question_of(row)
        day = written(text)
        if match := re.fullmatch(r"Which date is (one day|\d days) (after|before) \S+\?", text):
            day += timedelta(days=day_counts[match[1]] * (1 if match[2] == "after" else -1))
        else:
            assert text.startswith("Write the date as YYYY-MM-DD: ")
        assert day.isoformat() == row["reference"], row["id"]
        kinds[match[2] if match else "read"] += 1
    assert set(kinds) == {"read", "after", "before"}


def test_extraction() -> None:
    """Each reference is valid under the schema, as the example is, and each of its values occurs in the message."""
    for row in of("extraction"):
        jsonschema.validate(row["reference"], row["schema"])
        message, example = question_of(row), json.loads(row["prompt"][1]["content"])
        jsonschema.validate(example, row["schema"])
        for value in row["reference"].values():
            assert str(value) in message, row["id"]


def test_support() -> None:
    """At least eighty messages in six queues of about equal size; the prompt names every queue."""
    counts = Counter(row["reference"] for row in of("support"))
    assert set(counts) == set(support.MESSAGES)
    assert len(counts) == 6
    assert sum(counts.values()) >= 80
    assert max(counts.values()) <= 1.25 * min(counts.values())
    for row in of("support"):
        assert row["reference"] in row["prompt"][0]["content"]


def test_languages() -> None:
    """Ten messages in each of six languages, each with a letter or word typical of its language."""
    assert Counter(row["reference"] for row in of("language")) == dict.fromkeys(languages.MESSAGES, 10)
    telling = {
        "German": r"[äöüß]|\b(ich|die|das|meine|bitte|ans|auf)\b",
        "French": r"[çèêùàâ]|\b(est|les?|mon|ma|ne|sur|chemise|voudrais|renvoyer|répond)\b",
        "Spanish": r"[¿ñ]|\b(ya|el|otra|quiero|puedo|hora)\b",
        "Italian": r"\b(il|mio|si|di|che|è|la mia|vorrei|posso|nuovo|risponde|arrivato|camicia)\b",
        "Dutch": r"\b(mijn|het|niet|ik|de|op|nog|jullie)\b",
        "English": r"\b(my|the|is|would|how|can|you|please|nobody)\b",
    }
    for row in of("language"):
        message = question_of(row).partition("? ")[2]
        assert re.search(telling[row["reference"]], message, re.IGNORECASE), message


def regular(word: str, kind: str) -> str:
    """The form that the rules of spelling give: plural, past tense or comparative."""
    ending = {"plural": "s", "past tense": "ed", "comparative": "er"}[kind]
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "i" + ("es" if kind == "plural" else ending)
    if kind == "plural":
        return word + ("es" if re.search(r"(s|x|ch|sh)$", word) else ending)
    if word.endswith("e"):
        return word + ending[1:]
    double = re.fullmatch(r"[^aeiou]*[aeiou][^aeiouwxy]", word) is not None
    return word + (word[-1] if double else "") + ending


IRREGULAR = {
    "began",
    "saw",
    "mice",
    "tomatoes",
    "paid",
    "took",
    "children",
    "chose",
    "sold",
    "better",
    "bought",
    "wrote",
    "knives",
    "oxen",
    "brought",
    "drove",
    "worse",
    "geese",
    "shelves",
    "broke",
    "gave",
    "found",
    "teeth",
    "women",
    "sent",
    "crises",
    "halves",
    "leaves",
    "thought",
    "went",
    "men",
    "taught",
    "wives",
}


def test_words() -> None:
    """Each form follows the spelling rules or is a listed exception."""
    for row in of("words"):
        kind, word = re.fullmatch(r"What is the (.+) of (\w+)\?", question_of(row)).groups()  # type: ignore[union-attr]
        if row["reference"] in IRREGULAR:
            assert regular(word, kind) != row["reference"], word
        else:
            assert regular(word, kind) == row["reference"], word


def test_facts() -> None:
    """At least a hundred facts, and no question gives its own answer away unless it offers a choice."""
    assert len(of("fact")) >= 100
    for row in of("fact"):
        question = question_of(row).rpartition("Question: ")[2]
        leak = re.search(rf"\b{re.escape(row['reference'])}\b", question.partition(":")[0])
        assert leak is None, row["id"]
