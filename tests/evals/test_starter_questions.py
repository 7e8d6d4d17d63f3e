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

from evals.grade import grade
from evals.starter.families import FAMILIES, support
from evals.starter.questions import GRADERS, questions

QUESTIONS = questions()


def of(task: str) -> list[dict[str, Any]]:
    """The rows of one family."""
    return [row for row in QUESTIONS if row["task"] == task]


def asked(row: dict[str, Any]) -> str:
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
    assert len({asked(row).casefold() for row in QUESTIONS}) == len(QUESTIONS)


def test_questions_are_the_same_in_another_process() -> None:
    """Neither the hash seed nor what ran before changes a question."""
    code = "import json; from evals.starter.questions import questions; print(json.dumps(questions()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == json.loads(json.dumps(QUESTIONS))


@pytest.mark.parametrize("task", list(FAMILIES))
def test_the_grader_takes_the_gold_answer_and_no_other(task: str) -> None:
    """Answered with its own gold every question is right; with another question's gold it is wrong."""
    rows = of(task)
    for row in rows:
        other = next(r["reference"] for r in rows if r["reference"] != row["reference"])
        for said, quality in ((row["reference"], 1.0), (other, 0.0)):
            text = json.dumps(said) if isinstance(said, dict) else str(said)
            assert grade(row["reference"], text, GRADERS[task]) == quality, (row["id"], text)


N = r"(\d+)"
ARITHMETIC: dict[str, Callable[..., float]] = {
    rf"buys {N} \w+ at {N} euros each and pays with {N}": lambda n, price, paid: paid - n * price,
    rf"earns {N} euros an hour, works {N} hours and gets a bonus of {N}": lambda pay, h, bonus: pay * h + bonus,
    rf"has {N} boxes of {N} \w+\. {N} \w+ arrive broken": lambda boxes, each, broken: boxes * each - broken,
    rf"has {N} \w+, keeps {N} and shares the rest equally among {N}": lambda all_, kept, n: (all_ - kept) / n,
    rf"cost {N} euros, child tickets {N} euros.* do {N} adult and {N} child": lambda a, c, m, n: a * m + c * n,
    rf"costs {N} euros and is reduced by {N} percent": lambda price, percent: price * (100 - percent) / 100,
    rf"has {N} \w+, sells {N} and receives {N}": lambda start, sold, came: start - sold + came,
    rf"reads {N} pages a day for {N} days of a book with {N}": lambda each, days, all_: all_ - each * days,
    rf"drives {N} hours at {N} km/h and {N} hours at {N}": lambda a, v, b, w: a * v + b * w,
    rf"has {N} euros and saves {N} euros a week.* has {N} euros": lambda have, weekly, goal: (goal - have) / weekly,
    rf"has {N} rows of {N} seats\. {N} seats": lambda rows, seats, taken: rows * seats - taken,
    rf"is {N} m long and {N} m wide. Tiles cost {N}": lambda a, b, price: a * b * price,
    rf"has {N} talks of {N} minutes and one break of {N}": lambda n, each, pause: n * each + pause,
    rf"sold {N} \w+ on Monday, {N} on Tuesday and {N}": lambda a, b, c: (a + b + c) / 3,
    rf"costs {N} euros once and {N} euros a month. What do {N}": lambda once, monthly, months: once + monthly * months,
    rf"for {N} people needs {N} g of rice.* for {N} people": lambda people, grams, more: grams / people * more,
}


def test_arithmetic() -> None:
    """Each problem solved from the numbers in its text."""
    solved = Counter[str]()
    for row in of("arithmetic"):
        [(pattern, found)] = [(p, m) for p in ARITHMETIC if (m := re.search(p, asked(row)))]
        assert ARITHMETIC[pattern](*map(int, found.groups())) == row["reference"], row["id"]
        assert row["reference"] >= 0
        solved[pattern] += 1
    assert set(solved) == set(ARITHMETIC)


MONTHS = dict(zip(calendar.month_abbr[1:], range(1, 13), strict=True))


def written(text: str) -> date:
    """The first date in a text, whatever its form."""
    forms: tuple[tuple[str, Callable[..., date]], ...] = (
        (r"(\d{4})-(\d\d)-(\d\d)", lambda y, m, d: date(int(y), int(m), int(d))),
        (r"backup-(\d{4})(\d\d)(\d\d)", lambda y, m, d: date(int(y), int(m), int(d))),
        (r"(\d\d)\.(\d\d)\.(\d{4})", lambda d, m, y: date(int(y), int(m), int(d))),
        (r"(\d\d)/(\d\d)/(\d{4})", lambda m, d, y: date(int(y), int(m), int(d))),
        (r"([A-Z][a-z]{2})[a-z]* (\d+), (\d{4})", lambda m, d, y: date(int(y), MONTHS[m], int(d))),
        (r"(\d+)(?:st|nd|rd|th)? (?:of )?([A-Z][a-z]{2})[a-z]* (\d{4})", lambda d, m, y: date(int(y), MONTHS[m], int(d))),
        (r"of ([A-Z][a-z]{2})[a-z]* (\d{4})", lambda m, y: date(int(y), MONTHS[m], 1)),
    )
    for pattern, made in forms:
        if found := re.search(pattern, text):
            return made(*found.groups())
    raise AssertionError(text)


def following(day: date) -> date:
    """The first day of the next month."""
    return date(day.year + day.month // 12, day.month % 12 + 1, 1)


def test_dates() -> None:
    """Each date worked out from the text, by counting days."""
    one = timedelta(days=1)
    for row in of("date"):
        text = asked(row).rpartition("Question: ")[2]
        day = written(text)
        if "tomorrow" in text:
            day += one
        elif "yesterday" in text:
            day -= one
        elif found := re.search(r"due (\d+) days later", text):
            day += int(found[1]) * one
        elif found := re.search(r"(\d+) days late\b", text):
            day -= int(found[1]) * one
        elif "one week later" in text:
            day += 7 * one
        elif "first day of the next month" in text:
            day = following(day)
        elif "last day of" in text:
            day = following(day) - one
        elif found := re.search(r"its (\d+)\w\w anniversary", text):
            day = day.replace(year=day.year + int(found[1]))
        assert day.isoformat() == row["reference"], row["id"]


def test_extraction() -> None:
    """Each reference obeys the schema, as the example does, and every value of it stands in the message."""
    for row in of("extraction"):
        jsonschema.validate(row["reference"], row["schema"])
        message, shown = asked(row), json.loads(row["prompt"][1]["content"])
        jsonschema.validate(shown, row["schema"])
        for value in row["reference"].values():
            assert str(value) in message, row["id"]


def test_support() -> None:
    """At least eighty messages in six queues of about equal size, each with the queue's name in what the model is told."""
    counts = Counter(row["reference"] for row in of("support"))
    assert set(counts) == set(support.MESSAGES)
    assert len(counts) == 6
    assert sum(counts.values()) >= 80
    assert max(counts.values()) <= 1.25 * min(counts.values())
    for row in of("support"):
        assert f"\n{row['reference']}: " in row["prompt"]


def test_facts() -> None:
    """At least a hundred facts, and no question gives its own answer away unless it offers a choice."""
    assert len(of("fact")) >= 100
    for row in of("fact"):
        question = asked(row).rpartition("Question: ")[2]
        given = re.search(rf"\b{re.escape(row['reference'])}\b", question.partition(":")[0])
        assert given is None, row["id"]


def cells(table: str) -> list[list[str]]:
    """The rows of a table in any of the layouts, its header first."""
    lines = table.splitlines()
    if lines[0].startswith("- "):
        records = [[part.split(": ") for part in line[2:].split(", ")] for line in lines]
        return [[key for key, _ in records[0]], *([value for _, value in record] for record in records)]
    return [re.findall(r"[A-Za-z]+|\d+", line) for line in lines if not line.startswith("|---")]


def test_tables() -> None:
    """Each table read again from its text, and the question answered from it."""
    kinds = Counter[str]()
    for row in of("table"):
        text = asked(row).rpartition("Table:\n")[2]
        table, _, question = text.removesuffix("\nAnswer:").rpartition("\nQuestion: ")
        header, *body = cells(table)
        assert [len(line) for line in body] == [3] * 4

        def figure(name: str, column: str, header: list[str] = header, body: list[list[str]] = body) -> int:
            [line] = [line for line in body if line[0] == name]
            return int(line[header.index(column)])

        if found := re.fullmatch(r"What is the (\w+) of (\w+) and (\w+) together\?", question):
            answer = str(figure(found[2], found[1]) + figure(found[3], found[1]))
        elif found := re.fullmatch(r"What is the (\w+) of (\w+)\?", question):
            answer = str(figure(found[2], found[1]))
        elif found := re.fullmatch(r"Which \w+ has (\d+) as its (\w+)\?", question):
            [answer] = [line[0] for line in body if line[header.index(found[2])] == found[1]]
        else:
            found = re.fullmatch(r"Which \w+ has the (highest|lowest) (\w+)\?", question)
            assert found is not None, question
            best = (max if found[1] == "highest" else min)(figure(line[0], found[2]) for line in body)
            [answer] = [line[0] for line in body if figure(line[0], found[2]) == best]
        assert answer == row["reference"], row["id"]
        kinds[question.split()[0] + question.split()[-2]] += 1
    assert len(kinds) > 5


def test_code() -> None:
    """What each piece of code prints, run in a process of its own."""
    pieces = [asked(row).partition("\n\n")[2] for row in of("code")]
    done = subprocess.run(
        [sys.executable, "-c", "import json, sys\nfor c in json.load(sys.stdin): exec(c, {}); print('\\0', end='')"],
        input=json.dumps(pieces),
        capture_output=True,
        text=True,
        check=True,
    )
    assert [out.strip() for out in done.stdout.split("\0")[:-1]] == [row["reference"] for row in of("code")]
