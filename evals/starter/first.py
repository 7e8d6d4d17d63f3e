"""The questions of the recording that ships: five small task families, every gold answer computed or certain.

``questions()`` gives the same list on every machine: the generated families draw from a fixed seed, the sentiment and
fact families are written by hand. Arithmetic and dates are solved by the generator itself, so their gold cannot be
wrong; the facts are ones that do not change.
"""

import random
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

SEED = 20261124

Row = dict[str, Any]


def questions() -> list[Row]:
    """Every question as an example of the recording format without ``answers``: id, task, split, prompt, reference."""
    rng = random.Random(SEED)
    rows: list[Row] = []
    for task, family in (
        ("arithmetic", _arithmetic(rng)),
        ("date", _dates(rng)),
        ("extraction", _extraction(rng)),
        ("sentiment", _sentiment()),
        ("fact", _facts()),
    ):
        rows += [{"id": f"{task}-{i:03d}", "task": task, "split": None, **row} for i, row in enumerate(family)]
    # Splits alternate inside each family after a shuffle, so that both halves hold every task in equal parts.
    for task in dict.fromkeys(row["task"] for row in rows):
        members = [row for row in rows if row["task"] == task]
        rng.shuffle(members)
        for i, row in enumerate(members):
            row["split"] = "train" if i % 2 == 0 else "test"
    return rows


# ---------------------------------------------------------------------------------------------- arithmetic (60)

_NAMES = ("Ana", "Ben", "Carla", "Deniz", "Emil", "Farah", "Goran", "Hana", "Ivo", "Jun")
_THINGS = ("pens", "books", "apples", "tickets", "plants", "mugs", "candles", "stickers")


def _arithmetic(rng: random.Random) -> Iterator[Row]:
    ending = "Work in at most three short lines. End with one line of the form: Answer: <number>"
    for i in range(60):
        name, thing = rng.choice(_NAMES), rng.choice(_THINGS)
        if i % 3 == 0:
            text, gold = _one_step(rng, i // 3, name, thing)
        elif i % 3 == 1:
            text, gold = _two_steps(rng, i // 3, name, thing)
        else:
            text, gold = _three_steps(rng, i // 3, name, thing)
        yield {"prompt": f"{text}\n{ending}", "reference": str(gold)}


def _one_step(rng: random.Random, i: int, name: str, thing: str) -> tuple[str, int]:
    a, b = rng.randint(12, 89), rng.randint(3, 11)
    if i % 4 == 0:
        return f"{name} has {a} {thing} and buys {b} more. How many {thing} does {name} have now?", a + b
    if i % 4 == 1:
        return f"{name} has {a} {thing} and gives away {b}. How many {thing} are left?", a - b
    if i % 4 == 2:
        return f"A box holds {b} {thing}. How many {thing} are in {a} boxes?", a * b
    return f"{name} packs {a * b} {thing} into boxes of {b}. How many boxes are filled?", a


def _two_steps(rng: random.Random, i: int, name: str, thing: str) -> tuple[str, int]:
    price, count = rng.randint(3, 9), rng.randint(3, 9)
    if i % 3 == 0:
        paid = 10 * (price * count // 10 + 2)
        return (
            f"{thing.capitalize()} cost {price} euros each. {name} buys {count} and pays with {paid} euros. "
            "How many euros of change are due?",
            paid - price * count,
        )
    if i % 3 == 1:
        extra = rng.randint(11, 45)
        return (
            f"{name} earns {price + 8} euros an hour for {count} hours and gets a bonus of {extra} euros. "
            "How many euros is that in total?",
            (price + 8) * count + extra,
        )
    return (
        f"{name} has {price * count * 2} {thing}. Half of them are given to {count} friends in equal parts. "
        f"How many {thing} does each friend get?",
        price,
    )


def _three_steps(rng: random.Random, i: int, name: str, thing: str) -> tuple[str, int]:
    a, b, c = rng.randint(4, 12), rng.randint(3, 9), rng.randint(2, 6)
    if i % 3 == 0:
        return (
            f"A shop sells {thing} for {a} euros. {name} buys {b}, then {c} more, and has a voucher of {a} euros. "
            "How many euros does it cost?",
            (b + c) * a - a,
        )
    if i % 3 == 1:
        return (
            f"A train has {a} cars with {b * 8} seats each. {c * 7} seats are broken and a quarter of all seats, broken "
            "ones included, is reserved. How many seats are neither broken nor reserved, if no broken seat is reserved?",
            a * b * 8 - c * 7 - a * b * 2,
        )
    left = rng.randint(15, 60)
    return (
        f"{name} reads {a} pages a day for {b} days, then {c * 5} pages a day for {c} days. The book has "
        f"{a * b + c * c * 5 + left} pages. How many pages are left?",
        left,
    )


# ---------------------------------------------------------------------------------------------------- dates (40)


def _dates(rng: random.Random) -> Iterator[Row]:
    ending = "Reply with the date only, as YYYY-MM-DD."
    for i in range(40):
        day = date(2024, 1, 1) + timedelta(days=rng.randint(0, 1000))
        shift = rng.randint(2, 20)
        spoken = f"{day:%B} {day.day}, {day.year}"
        if i % 5 == 0:
            text, gold = f"Today is {spoken}. What is the date tomorrow?", day + timedelta(days=1)
        elif i % 5 == 1:
            text, gold = f"Write this date in ISO format: {spoken}.", day
        elif i % 5 == 2:
            text, gold = f"The invoice of {spoken} is due in {shift} days. When is it due?", day + timedelta(days=shift)
        elif i % 5 == 3:
            text, gold = (
                f"The parcel arrived on {spoken}, {shift} days late. When was it expected?",
                day - timedelta(shift),
            )
        else:
            text, gold = f"Yesterday was {spoken}. What is the date one week from today?", day + timedelta(days=8)
        yield {"prompt": f"{text} {ending}", "reference": gold.isoformat()}


# ----------------------------------------------------------------------------------------------- extraction (32)

_ORDER_SCHEMA: Row = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "item": {"type": "string"},
        "quantity": {"type": "integer", "minimum": 1},
        "city": {"type": "string"},
    },
    "required": ["name", "item", "quantity", "city"],
    "additionalProperties": False,
}
_CITIES = ("Lisbon", "Oslo", "Vienna", "Turin", "Ghent", "Porto", "Krakow", "Malmo")
_ORDERS = (
    "Hi, {name} here. Please send {n} {thing} to my flat in {city}. Thanks!",
    "Order from {city}: customer {name} wants {thing}, {n} of them, by Friday.",
    "hey can i get {n} {thing}?? shipping to {city}. cheers, {name}",
    "This is {name}. I said {m} {thing} yesterday, but make it {n} please. I live in {city} now.",
)


def _extraction(rng: random.Random) -> Iterator[Row]:
    for i in range(32):
        gold: Row = {
            "name": rng.choice(_NAMES),
            "item": rng.choice(_THINGS),
            "quantity": rng.randint(2, 40),
            "city": rng.choice(_CITIES),
        }
        message = _ORDERS[i % 4].format(
            name=gold["name"], thing=gold["item"], n=gold["quantity"], m=gold["quantity"] + 3, city=gold["city"]
        )
        yield {
            "prompt": (
                "Extract the order from the message as one JSON object with the keys name (string), item (string), "
                f"quantity (integer) and city (string). Reply with the JSON only.\n\nMessage: {message}"
            ),
            "schema": _ORDER_SCHEMA,
            "reference": gold,
        }


# ------------------------------------------------------------------------------------------------ sentiment (36)

_REVIEWS = {
    "positive": (
        "The battery lasts two full days, exactly what I hoped for.",
        "Support answered within minutes and solved it. Impressive.",
        "I was sceptical at first, but this is the best kettle I have owned.",
        "Not a single complaint after six months of daily use.",
        "My kids fight over who gets to use it. Money well spent.",
        "It arrived a day early and looks even better than in the pictures.",
        "Hard to believe it costs so little. I ordered a second one.",
        "The update fixed everything that bothered me.",
        "Finally a bag that does not hurt my shoulders.",
        "I can't imagine my kitchen without it any more.",
        "Quiet, quick and easy to clean.",
        "Five stars are not enough.",
    ),
    "negative": (
        "It stopped working after a week and nobody replies.",
        "Great, another charger that melts. Just what I needed.",
        "The colour is nothing like the photo.",
        "I wanted to love it, but it leaks every single time.",
        "Save your money and buy something else.",
        "Two stars only because the box was nice; the rest went back.",
        "The app crashes whenever I open the settings.",
        "I have waited five weeks and it is still not here.",
        "It is so loud that the neighbours came to ask.",
        "The seams came apart on the first day.",
        "Once was enough. Never again.",
        "They charged me twice and call it a feature.",
    ),
    "neutral": (
        "The parcel contains one cable and one adapter.",
        "I bought it on Monday and it was delivered on Thursday.",
        "It weighs about two kilograms.",
        "The manual is available in four languages.",
        "This is the 2024 model, not the 2023 one.",
        "It runs on two AA batteries.",
        "The lid is blue and the base is grey.",
        "I use it in the office on the third floor.",
        "The warranty is two years, as is usual here.",
        "It comes in small, medium and large.",
        "The shop opens at nine.",
        "The cable is one metre long.",
    ),
}


def _sentiment() -> Iterator[Row]:
    for label, reviews in _REVIEWS.items():
        for review in reviews:
            yield {
                "prompt": (
                    "Classify the sentiment of this review as positive, negative or neutral. Reply with one word.\n\n"
                    f"Review: {review}"
                ),
                "reference": label,
            }


# ---------------------------------------------------------------------------------------------------- facts (44)

_FACTS = (
    ("What is the capital of France?", "Paris"),
    ("What is the capital of Australia?", "Canberra"),
    ("What is the capital of Canada?", "Ottawa"),
    ("What is the capital of Kenya?", "Nairobi"),
    ("What is the capital of Norway?", "Oslo"),
    ("What is the capital of Peru?", "Lima"),
    ("What is the capital of New Zealand?", "Wellington"),
    ("What is the capital of Mongolia?", "Ulaanbaatar"),
    ("Which planet is closest to the Sun?", "Mercury"),
    ("Which planet is the largest in the Solar System?", "Jupiter"),
    ("What is the chemical symbol of gold?", "Au"),
    ("What is the chemical symbol of iron?", "Fe"),
    ("What is the chemical symbol of potassium?", "K"),
    ("What is the chemical symbol of tungsten?", "W"),
    ("How many sides does a hexagon have? Use digits.", "6"),
    ("How many legs does a spider have? Use digits.", "8"),
    ("How many minutes are in three hours? Use digits.", "180"),
    ("How many continents are there in the seven-continent model? Use digits.", "7"),
    ("How many degrees are in a right angle? Use digits.", "90"),
    ("How many bits are in a byte? Use digits.", "8"),
    ("How many squares are on a chessboard? Use digits.", "64"),
    ("What is the square root of 144? Use digits.", "12"),
    ("Which is the smallest prime number? Use digits.", "2"),
    ("In which year did the first person walk on the Moon? Use digits.", "1969"),
    ("In which year did the Berlin Wall fall? Use digits.", "1989"),
    ("In which year did the Titanic sink? Use digits.", "1912"),
    ("Who wrote the play Hamlet? Give the surname.", "Shakespeare"),
    ("Who painted Guernica? Give the surname.", "Picasso"),
    ("Who developed the theory of general relativity? Give the surname.", "Einstein"),
    ("Who wrote the novel War and Peace? Give the surname.", "Tolstoy"),
    ("Who discovered penicillin? Give the surname.", "Fleming"),
    ("Which metal is liquid at room temperature?", "Mercury"),
    ("Which gas do plants take in for photosynthesis? Give its chemical formula.", "CO2"),
    ("What is the longest bone of the human body?", "Femur"),
    ("Which is the largest ocean?", "Pacific"),
    ("On which continent is Egypt?", "Africa"),
    ("On which continent is Brazil? Answer with two words.", "South America"),
    ("Which language has the most native speakers in Brazil?", "Portuguese"),
    ("What is the currency of Japan?", "Yen"),
    ("What is the currency of India?", "Rupee"),
    ("What is the opposite of the compass direction north-east? Answer with one hyphenated word.", "south-west"),
    ("Which HTTP status code means Not Found? Use digits.", "404"),
    ("Which TCP port does HTTPS use by default? Use digits.", "443"),
    ("What does the acronym CPU stand for?", "Central Processing Unit"),
)


def _facts() -> Iterator[Row]:
    for question, gold in _FACTS:
        yield {"prompt": f"{question} Reply with the answer only.", "reference": gold}
