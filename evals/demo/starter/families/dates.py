"""Dates as they are written in letters, logs and forms, and simple reckoning with them; the standard library solves them."""

import random
from collections.abc import Callable, Iterator
from datetime import date, timedelta

from evals.demo.starter.row import Row, conversation

COUNT = 100
_READ = "Write the date as YYYY-MM-DD: {}"
_READING = (_READ.format("March 7, 2018"), "2018-03-07", _READ.format("21.10.2030 (day first)"), "2030-10-21")
_RECKONING = (
    "Which date is one day after 2018-03-07?",
    "2018-03-08",
    "Which date is 3 days before 2030-10-21?",
    "2030-10-18",
)

Problem = tuple[str, date]


def rows(rng: random.Random) -> Iterator[Row]:
    """Each pattern in turn, every time with another day of the years 2019 to 2029."""
    texts: set[str] = set()
    while len(texts) < COUNT:
        day = date(2019, 1, 1) + timedelta(days=rng.randint(0, 4000))
        shots, pattern = _PATTERNS[len(texts) % len(_PATTERNS)]
        text, gold = pattern(rng, day)
        if text not in texts:
            texts.add(text)
            yield {"prompt": conversation(*shots, text), "reference": gold.isoformat()}


def _ordinal(n: int) -> str:
    suffix = "th" if 10 <= n % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{suffix}"


def _long(rng: random.Random, day: date) -> Problem:
    return _READ.format(f"{day:%B} {day.day}, {day.year}"), day


def _british(rng: random.Random, day: date) -> Problem:
    return _READ.format(f"the {_ordinal(day.day)} of {day:%B} {day.year}"), day


def _dotted(rng: random.Random, day: date) -> Problem:
    return _READ.format(f"{day:%d.%m.%Y} (day first)"), day


def _mail(rng: random.Random, day: date) -> Problem:
    return _READ.format(f"{day:%a}, {day.day} {day:%b} {day.year} 09:14:07 +0100"), day


def _stamp(rng: random.Random, day: date) -> Problem:
    return _READ.format(f"backup-{day:%Y%m%d}.tar"), day


def _american(rng: random.Random, day: date) -> Problem:
    return _READ.format(f"{day:%m/%d/%Y} (month first)"), day


def _tomorrow(rng: random.Random, day: date) -> Problem:
    return f"Which date is one day after {day}?", day + timedelta(days=1)


def _yesterday(rng: random.Random, day: date) -> Problem:
    return f"Which date is one day before {day}?", day - timedelta(days=1)


def _due(rng: random.Random, day: date) -> Problem:
    day, shift = day.replace(day=rng.randint(1, 14)), rng.randint(2, 9)
    return f"Which date is {shift} days after {day}?", day + timedelta(days=shift)


def _late(rng: random.Random, day: date) -> Problem:
    day, shift = day.replace(day=rng.randint(11, 28)), rng.randint(2, 9)
    return f"Which date is {shift} days before {day}?", day - timedelta(days=shift)


_PATTERNS: tuple[tuple[tuple[str, ...], Callable[[random.Random, date], Problem]], ...] = (
    (_READING, _long),
    (_READING, _british),
    (_READING, _dotted),
    (_READING, _mail),
    (_READING, _stamp),
    (_READING, _american),
    (_RECKONING, _tomorrow),
    (_RECKONING, _yesterday),
    (_RECKONING, _due),
    (_RECKONING, _late),
)
