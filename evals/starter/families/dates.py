"""Dates as they are written in letters, logs and forms, and simple reckoning with them; the standard library solves them."""

import random
from calendar import monthrange
from collections.abc import Callable, Iterator
from datetime import date, timedelta

from evals.starter.row import Row

COUNT = 84
_ASKED = "Reply with the date only, as YYYY-MM-DD."

Problem = tuple[str, date]


def rows(rng: random.Random) -> Iterator[Row]:
    """Each pattern in turn, every time with another day of the years 2019 to 2029."""
    for i in range(COUNT):
        day = date(2019, 1, 1) + timedelta(days=rng.randint(0, 4000))
        text, gold = _PATTERNS[i % len(_PATTERNS)](rng, day)
        yield {"prompt": f"{text} {_ASKED}", "reference": gold.isoformat()}


def _long(day: date) -> str:
    return f"{day:%B} {day.day}, {day.year}"


def _ordinal(n: int) -> str:
    suffix = "th" if 10 <= n % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{suffix}"


def _iso(rng: random.Random, day: date) -> Problem:
    return f"Write this date in ISO format: {_long(day)}.", day


def _british(rng: random.Random, day: date) -> Problem:
    return f"The letter is dated the {_ordinal(day.day)} of {day:%B} {day.year}. Which date is that?", day


def _dotted(rng: random.Random, day: date) -> Problem:
    return f"A German invoice bears the date {day:%d.%m.%Y} (day first). Which date is that?", day


def _mail(rng: random.Random, day: date) -> Problem:
    return (
        f"A mail header says: Date: {day:%a}, {day.day} {day:%b} {day.year} 09:14:07 +0100. On which date was it sent?",
        day,
    )


def _stamp(rng: random.Random, day: date) -> Problem:
    return f"A log file is called backup-{day:%Y%m%d}-full.tar. On which date was it made?", day


def _american(rng: random.Random, day: date) -> Problem:
    return f"The form says {day:%m/%d/%Y} (month first). Which date is that?", day


def _tomorrow(rng: random.Random, day: date) -> Problem:
    return f"Today is {_long(day)}. What is the date tomorrow?", day + timedelta(days=1)


def _yesterday(rng: random.Random, day: date) -> Problem:
    return f"Today is {day.day} {day:%B} {day.year}. What was the date yesterday?", day - timedelta(days=1)


def _due(rng: random.Random, day: date) -> Problem:
    day, shift = day.replace(day=rng.randint(1, 14)), rng.randint(2, 14)
    return f"The invoice of {_long(day)} is due {shift} days later. When is it due?", day + timedelta(days=shift)


def _late(rng: random.Random, day: date) -> Problem:
    day, shift = day.replace(day=rng.randint(15, 28)), rng.randint(2, 9)
    return f"The parcel arrived on {_long(day)}, {shift} days late. When was it expected?", day - timedelta(days=shift)


def _week(rng: random.Random, day: date) -> Problem:
    day = day.replace(day=rng.randint(1, 21))
    return f"The course begins on {day.isoformat()} and goes on one week later. When is the second lesson?", day + timedelta(
        7
    )


def _first(rng: random.Random, day: date) -> Problem:
    month = day.replace(day=1) + timedelta(days=32)
    return f"The contract was signed on {_long(day)} and starts on the first day of the next month. When?", month.replace(
        day=1
    )


def _last(rng: random.Random, day: date) -> Problem:
    return f"What is the last day of {day:%B} {day.year}?", day.replace(day=monthrange(day.year, day.month)[1])


def _birthday(rng: random.Random, day: date) -> Problem:
    day, years = day.replace(day=min(day.day, 28)), rng.randint(2, 30)
    text = f"The firm was founded on {_long(day)}. On which date is its {_ordinal(years)} anniversary?"
    return text, day.replace(year=day.year + years)


_PATTERNS: tuple[Callable[[random.Random, date], Problem], ...] = (
    _iso,
    _british,
    _dotted,
    _mail,
    _stamp,
    _american,
    _tomorrow,
    _yesterday,
    _due,
    _late,
    _week,
    _first,
    _last,
    _birthday,
)
