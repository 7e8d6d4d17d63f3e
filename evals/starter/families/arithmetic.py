"""Word problems of two or three steps, as they stand in orders, rotas and travel plans; the generator solves them itself."""

import random
from collections.abc import Callable, Iterator

from evals.starter.row import Row, conversation

COUNT = 72
_SHOWN = (
    "Solve each problem in one line, one operation at a time.\n\n"
    "Olga buys 3 rolls at 2 euros each and a cake for 8 euros. How many euros does she pay?",
    "3 * 2 = 6; 6 + 8 = 14",
    "Of 24 eggs, 4 are broken. The others are packed in boxes of 10. How many boxes are there?",
    "24 - 4 = 20; 20 / 10 = 2",
)
_NAMES = ("Ana", "Ben", "Carla", "Deniz", "Emil", "Farah", "Goran", "Hana", "Ivo", "Jun", "Kofi", "Lena", "Mira", "Nils")
_THINGS = ("pens", "books", "candles", "tickets", "plants", "mugs", "cables", "stickers", "lamps", "chairs")

Problem = tuple[str, int]


def rows(rng: random.Random) -> Iterator[Row]:
    """Each pattern in turn, every time with new numbers, names and things."""
    for i in range(COUNT):
        text, gold = _PATTERNS[i % len(_PATTERNS)](rng, rng.choice(_NAMES), rng.choice(_THINGS))
        yield {"prompt": conversation(*_SHOWN, text), "reference": gold}


def _change(rng: random.Random, who: str, what: str) -> Problem:
    price, count = rng.randint(3, 9), rng.randint(3, 9)
    paid = 10 * (price * count // 10 + 2)
    text = f"{who} buys {count} {what} at {price} euros each and pays with {paid} euros. How many euros of change are due?"
    return text, paid - price * count


def _wages(rng: random.Random, who: str, what: str) -> Problem:
    pay, hours, bonus = rng.randint(10, 15), rng.randint(3, 8), rng.randint(2, 6) * 5
    text = (
        f"{who} earns {pay} euros an hour, works {hours} hours and gets a bonus of {bonus} euros. How many euros in total?"
    )
    return text, pay * hours + bonus


def _boxes(rng: random.Random, who: str, what: str) -> Problem:
    boxes, each, broken = rng.randint(4, 9), rng.randint(5, 11), rng.randint(2, 9)
    text = f"A shipment has {boxes} boxes of {each} {what}. {broken} {what} arrive broken. How many {what} are intact?"
    return text, boxes * each - broken


def _shared(rng: random.Random, who: str, what: str) -> Problem:
    friends, each, kept = rng.randint(3, 8), rng.randint(4, 12), rng.randint(2, 9)
    text = (
        f"{who} has {friends * each + kept} {what}, keeps {kept} and shares the rest equally among {friends} friends. "
        f"How many {what} does each friend get?"
    )
    return text, each


def _two_prices(rng: random.Random, who: str, what: str) -> Problem:
    a, b, m, n = rng.randint(2, 9), rng.randint(3, 12), rng.randint(2, 6), rng.randint(2, 6)
    text = f"Adult tickets cost {b} euros, child tickets {a} euros. What do {m} adult and {n} child tickets cost together?"
    return text, b * m + a * n


def _discount(rng: random.Random, who: str, what: str) -> Problem:
    price, percent = rng.randint(2, 9) * 20, rng.choice((10, 20, 25, 50))
    text = f"A jacket costs {price} euros and is reduced by {percent} percent. What is the new price in euros?"
    return text, price - price * percent // 100


def _stock(rng: random.Random, who: str, what: str) -> Problem:
    start, sold, came = rng.randint(40, 60), rng.randint(5, 20), rng.randint(11, 40)
    text = f"A shop has {start} {what}, sells {sold} and receives {came} new ones. How many {what} are there now?"
    return text, start - sold + came


def _pages(rng: random.Random, who: str, what: str) -> Problem:
    a, days, left = rng.randint(6, 15), rng.randint(3, 9), rng.randint(15, 60)
    text = f"{who} reads {a} pages a day for {days} days of a book with {a * days + left} pages. How many pages are left?"
    return text, left


def _speed(rng: random.Random, who: str, what: str) -> Problem:
    fast, slow, m, n = rng.randint(7, 12) * 10, rng.randint(3, 6) * 10, rng.randint(2, 4), rng.randint(2, 4)
    text = f"A bus drives {m} hours at {fast} km/h and {n} hours at {slow} km/h. How many kilometres is that in total?"
    return text, m * fast + n * slow


def _saving(rng: random.Random, who: str, what: str) -> Problem:
    have, weekly, weeks = rng.randint(10, 60), rng.randint(5, 15), rng.randint(3, 9)
    text = (
        f"{who} has {have} euros and saves {weekly} euros a week. How many weeks until {who} has "
        f"{have + weekly * weeks} euros?"
    )
    return text, weeks


def _seats(rng: random.Random, who: str, what: str) -> Problem:
    rows_, seats, taken = rng.randint(5, 9), rng.randint(6, 10), rng.randint(11, 25)
    text = f"A hall has {rows_} rows of {seats} seats. {taken} seats are taken. How many seats are free?"
    return text, rows_ * seats - taken


def _area(rng: random.Random, who: str, what: str) -> Problem:
    long, wide, price = rng.randint(4, 9), rng.randint(3, 7), rng.randint(2, 9)
    text = (
        f"A floor is {long} m long and {wide} m wide. Tiles cost {price} euros per square metre. What do they cost in euros?"
    )
    return text, long * wide * price


def _minutes(rng: random.Random, who: str, what: str) -> Problem:
    count, each, pause = rng.randint(3, 6), rng.choice((10, 15, 20, 25, 30)), rng.choice((5, 10, 15, 20))
    text = f"A meeting has {count} talks of {each} minutes and one break of {pause} minutes. How many minutes does it last?"
    return text, count * each + pause


def _average(rng: random.Random, who: str, what: str) -> Problem:
    mean = rng.randint(10, 40)
    a, b = rng.randint(-6, 6), rng.randint(-3, 3)
    text = (
        f"{who} sold {mean + a} {what} on Monday, {mean + b} on Tuesday and {mean - a - b} on Wednesday. What is the mean?"
    )
    return text, mean


def _subscription(rng: random.Random, who: str, what: str) -> Problem:
    fee, monthly, months = rng.randint(10, 40), rng.randint(4, 10), rng.randint(3, 10)
    text = f"A plan costs {fee} euros once and {monthly} euros a month. What do {months} months cost in total, in euros?"
    return text, fee + monthly * months


def _recipe(rng: random.Random, who: str, what: str) -> Problem:
    people, grams, more = rng.randint(2, 5), rng.randint(3, 9) * 10, rng.randint(6, 10)
    text = f"A recipe for {people} people needs {people * grams} g of rice. How many grams are needed for {more} people?"
    return text, grams * more


_PATTERNS: tuple[Callable[[random.Random, str, str], Problem], ...] = (
    _change,
    _wages,
    _boxes,
    _shared,
    _two_prices,
    _discount,
    _stock,
    _pages,
    _speed,
    _saving,
    _seats,
    _area,
    _minutes,
    _average,
    _subscription,
    _recipe,
)
