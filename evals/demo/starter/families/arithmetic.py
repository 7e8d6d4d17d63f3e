"""Sums and word problems of one or two steps, as they stand in orders and bills; the generator solves them itself."""

import random
from collections.abc import Callable, Iterator

from evals.demo.starter.row import Row, conversation

COUNT = 98
_SHOTS = ("What is 4 + 3?", "4 + 3 = 7", "There are 3 bags of 4 pens. How many pens are there?", "3 * 4 = 12")
_NAMES = ("Ana", "Ben", "Carla", "Deniz", "Emil", "Farah", "Goran", "Hana", "Ivo", "Jun", "Kofi", "Lena", "Mira", "Nils")
_THINGS = ("books", "candles", "tickets", "plants", "mugs", "cables", "stickers", "lamps", "chairs")

Problem = tuple[str, int]


def rows(rng: random.Random) -> Iterator[Row]:
    """Each pattern in turn, every time with new numbers, names and things."""
    texts: set[str] = set()
    while len(texts) < COUNT:
        text, gold = _PATTERNS[len(texts) % len(_PATTERNS)](rng, rng.choice(_NAMES), rng.choice(_THINGS))
        if text not in texts:
            texts.add(text)
            yield {"prompt": conversation(*_SHOTS, text), "reference": gold}


def _small_sum(rng: random.Random, who: str, what: str) -> Problem:
    a, b = rng.randint(2, 12), rng.randint(2, 9)
    return f"What is {a} + {b}?", a + b


def _large_sum(rng: random.Random, who: str, what: str) -> Problem:
    a, b = rng.randint(13, 79), rng.randint(11, 69)
    return f"What is {a} + {b}?", a + b


def _difference(rng: random.Random, who: str, what: str) -> Problem:
    b, left = rng.randint(2, 19), rng.randint(1, 30)
    return f"What is {b + left} - {b}?", left


def _product(rng: random.Random, who: str, what: str) -> Problem:
    a, b = rng.randint(2, 12), rng.randint(2, 9)
    return f"What is {a} * {b}?", a * b


def _percent(rng: random.Random, who: str, what: str) -> Problem:
    percent, whole = rng.choice((10, 20, 25, 50)), rng.randint(2, 15) * 20
    return f"What is {percent} percent of {whole}?", whole * percent // 100


def _bought(rng: random.Random, who: str, what: str) -> Problem:
    a, b = rng.randint(3, 20), rng.randint(2, 9)
    return f"{who} has {a} {what} and buys {b} more. How many {what} are there now?", a + b


def _sold(rng: random.Random, who: str, what: str) -> Problem:
    b, left = rng.randint(2, 9), rng.randint(3, 20)
    return f"{who} has {b + left} {what} and sells {b}. How many {what} are left?", left


def _boxes(rng: random.Random, who: str, what: str) -> Problem:
    a, b = rng.randint(2, 9), rng.randint(2, 12)
    return f"There are {a} boxes of {b} {what}. How many {what} are there?", a * b


def _price(rng: random.Random, who: str, what: str) -> Problem:
    count, price = rng.randint(2, 9), rng.randint(2, 15)
    return f"{who} buys {count} {what} at {price} euros each. How many euros is that?", count * price


def _shared(rng: random.Random, who: str, what: str) -> Problem:
    friends, each = rng.randint(2, 8), rng.randint(2, 12)
    return f"{who} shares {friends * each} {what} equally among {friends} friends. How many does each get?", each


def _change(rng: random.Random, who: str, what: str) -> Problem:
    price, count = rng.randint(2, 9), rng.randint(2, 9)
    paid = 10 * (price * count // 10 + 1)
    text = f"{who} buys {count} {what} at {price} euros each and pays with {paid} euros. How many euros of change are due?"
    return text, paid - price * count


def _broken(rng: random.Random, who: str, what: str) -> Problem:
    boxes, each, broken = rng.randint(3, 9), rng.randint(5, 11), rng.randint(2, 9)
    text = f"There are {boxes} boxes of {each} {what}. {broken} {what} are broken. How many {what} are not broken?"
    return text, boxes * each - broken


def _subscription(rng: random.Random, who: str, what: str) -> Problem:
    fee, monthly, months = rng.randint(5, 30), rng.randint(4, 10), rng.randint(3, 10)
    text = f"A plan costs {fee} euros once and {monthly} euros a month. What do {months} months cost in total, in euros?"
    return text, fee + monthly * months


def _stock(rng: random.Random, who: str, what: str) -> Problem:
    start, sold, came = rng.randint(30, 60), rng.randint(5, 20), rng.randint(11, 40)
    text = f"A shop has {start} {what}, sells {sold} and receives {came} new ones. How many {what} are there now?"
    return text, start - sold + came


_PATTERNS: tuple[Callable[[random.Random, str, str], Problem], ...] = (
    _small_sum,
    _large_sum,
    _difference,
    _product,
    _percent,
    _bought,
    _sold,
    _boxes,
    _price,
    _shared,
    _change,
    _broken,
    _subscription,
    _stock,
)
