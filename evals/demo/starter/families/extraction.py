"""Messy messages to be read into one flat JSON object against a schema; the message is built from the object."""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from evals.demo.starter.row import Row, conversation

COUNT = 64
_NAMES = ("Ana Silva", "Ben Okafor", "Carla Rossi", "Deniz Kaya", "Emil Berg", "Farah Aziz", "Goran Petrov", "Hana Mori")
_CITIES = ("Lisbon", "Oslo", "Vienna", "Turin", "Ghent", "Porto", "Krakow", "Malmo", "Leeds", "Lyon", "Graz", "Bergen")
_THINGS = ("desk lamps", "blue mugs", "oak shelves", "wool blankets", "garden chairs", "bike lights", "tea towels")

Generated = tuple[Mapping[str, Any], str]


def rows(rng: random.Random) -> Iterator[Row]:
    """The kinds of message in turn, each with its wordings in turn."""
    for i in range(COUNT):
        what, properties, shot, make, wordings = _KINDS[i % len(_KINDS)]
        gold = make(rng)
        message = wordings[i // len(_KINDS) % len(wordings)].format(**gold, noise=rng.randint(2, 9) + 40)
        yield {
            "prompt": conversation(
                f"Extract the {what} from each message as one line of JSON with just the keys {', '.join(properties)}.\n\n"
                f"{shot[0]}",
                json.dumps(shot[1]),
                message,
            ),
            "schema": {
                "type": "object",
                "properties": properties,
                "required": list(properties),
                "additionalProperties": False,
            },
            "reference": gold,
        }


def _text() -> Row:
    return {"type": "string"}


def _integer(least: int = 0) -> Row:
    return {"type": "integer", "minimum": least}


def _order(rng: random.Random) -> Row:
    names = (rng.choice(_NAMES), rng.choice(_THINGS), rng.choice(_CITIES))
    return {"name": names[0], "item": names[1], "quantity": rng.randint(2, 38), "city": names[2]}


def _booking(rng: random.Random) -> Row:
    hour = f"{rng.randint(11, 21)}:{rng.choice(('00', '15', '30', '45'))}"
    day = rng.choice(("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"))
    return {"name": rng.choice(_NAMES), "guests": rng.randint(2, 12), "day": day, "time": hour}


def _expense(rng: random.Random) -> Row:
    shop = rng.choice(("Hotel Adler", "Cafe Luna", "Taxi Nord", "Office World", "Rail Direct", "Print Point"))
    return {"vendor": shop, "amount": rng.randint(12, 480), "currency": rng.choice(("EUR", "USD", "GBP", "CHF"))}


def _ticket(rng: random.Random) -> Row:
    device = rng.choice(("router", "printer", "tablet", "scanner", "headset", "monitor", "keyboard", "webcam"))
    return {"device": device, "model": f"{rng.choice('ABKMTX')}{rng.randint(100, 990)}", "error_code": rng.randint(10, 99)}


def _contact(rng: random.Random) -> Row:
    name = rng.choice(_NAMES)
    host = rng.choice(("example.com", "example.org", "mail.example"))
    first, last = name.lower().split()
    return {"name": name, "email": f"{first}.{last}@{host}", "city": rng.choice(_CITIES)}


_KINDS: tuple[tuple[str, Row, tuple[str, Row], Callable[[random.Random], Row], tuple[str, ...]], ...] = (
    (
        "order",
        {"name": _text(), "item": _text(), "quantity": _integer(1), "city": _text()},
        (
            "12 silk scarves for Olga Lind, Rome.",
            {"name": "Olga Lind", "item": "silk scarves", "quantity": 12, "city": "Rome"},
        ),
        _order,
        (
            "Hi, {name} here. Please send {quantity} {item} to my flat in {city}. Thanks!",
            "Order from {city}: customer {name} wants {item}, {quantity} of them, by Friday.",
            "hey can i get {quantity} {item}?? shipping to {city}. cheers, {name}",
            "This is {name}. I said {noise} yesterday, but make it {quantity} {item} please. I live in {city} now.",
        ),
    ),
    (
        "booking",
        {"name": _text(), "guests": _integer(1), "day": _text(), "time": _text()},
        ("Sunday 12:30, 3 of us, Olga Lind", {"name": "Olga Lind", "guests": 3, "day": "Sunday", "time": "12:30"}),
        _booking,
        (
            "Good morning, a table for {guests} on {day} at {time}, please. The name is {name}.",
            "{name} called: {day}, {time}, {guests} guests, near the window if possible.",
            "we are {guests} people, can we come {day} {time}? book it under {name} pls",
            "Sorry, change of plan! Not 10:00 but {time} on {day}. Still {guests} guests. Regards, {name}",
        ),
    ),
    (
        "expense",
        {"vendor": _text(), "amount": _integer(), "currency": _text()},
        ("Bistro Nova took 31 SEK.", {"vendor": "Bistro Nova", "amount": 31, "currency": "SEK"}),
        _expense,
        (
            "Please refund me {amount} {currency} that I paid at {vendor} last week, receipt no. {noise}.",
            "{vendor}, {currency} {amount}, paid by card. Receipt attached.",
            "fyi expense for the trip: {amount} {currency} to {vendor}, thx",
            "Receipt {noise} from {vendor}: total {amount} {currency}, breakfast included.",
        ),
    ),
    (
        "fault report",
        {"device": _text(), "model": _text(), "error_code": _integer()},
        ("phone Q555 is broken, error 71", {"device": "phone", "model": "Q555", "error_code": 71}),
        _ticket,
        (
            "My {device}, model {model}, shows error {error_code} since this morning.",
            "Error code {error_code} again!! It's the {device} ({model}) on floor 3.",
            "device: {device} / type {model} / display says E-{error_code}, nothing else works",
            "Hello, the {device} that I bought {noise} days ago ({model}) stops with error {error_code}.",
        ),
    ),
    (
        "contact",
        {"name": _text(), "email": _text(), "city": _text()},
        ("Olga Lind, Rome, olga@mail.example", {"name": "Olga Lind", "email": "olga@mail.example", "city": "Rome"}),
        _contact,
        (
            "You can reach me at {email}. Best wishes from {city}, {name}",
            "{name} | {city} office | {email} | ext. {noise}",
            "pls add {name} to the newsletter, mail is {email}, based in {city}",
            "I moved from London to {city}; my address {email} stays the same. {name}",
        ),
    ),
)
