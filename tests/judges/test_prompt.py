"""The features of a prompt: deterministic, bounded, robust against any text, and free of the prompt's own words."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges import Prompt
from judges.prompt import HEAD, MOST_CHARACTERS, PROPERTIES, TAIL, features, writing_system


@given(st.text(max_size=3000))
def test_any_text_has_features(text: str) -> None:
    """No text is refused, surrogates and control characters included, and the same text has the same features."""
    one, two = features(Prompt.of(text)), features(Prompt.of(text))
    assert one == two
    assert one.length == len(text)
    assert len(one.properties) == len(PROPERTIES)
    assert all(0 <= hash < 2**32 for hash in (*one.ngrams, *one.properties))


def test_the_features_are_the_same_in_every_process() -> None:
    """Hashes do not depend on the process's hash seed."""
    code = (
        "from judges import Prompt; from judges.prompt import features; f = features(Prompt.of('Wo ist 12 kg Öl?')); "
        "print(sorted(f.ngrams), f.properties)"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
        )
        for seed in ("1", "2")
    ]
    assert outputs[0].stdout == outputs[1].stdout != ""


def test_only_the_two_ends_of_a_long_text_are_read() -> None:
    """The middle of a text over the cap changes nothing but its length, so that the time is bounded."""
    head, tail = "a b " * (HEAD // 4), " c d" * (TAIL // 4)
    one, two = (features(Prompt.of(head + middle * 100 + tail)) for middle in ("xyzzy ", "plugh "))
    assert one == two
    assert len(features(Prompt.of("word " * MOST_CHARACTERS)).ngrams) < MOST_CHARACTERS


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("How are you?", "latin"), ("Привет, как дела?", "cyrillic"), ("今天天气", "chinese"),
        ("これはペン", "japanese"),
        ("안녕하세요", "korean"), ("مرحبا", "arabic"), ("12 + 4 = ?", "none"), ("", "none"), ("Où est la gare ?", "latin"),
    ],
)  # fmt: skip
def test_the_script_is_that_of_most_letters(text: str, script: str) -> None:
    """Languages in other scripts are told from those in Latin letters."""
    assert writing_system(text) == script


def test_what_surrounds_the_text_is_a_property() -> None:
    """Turns, system prompt, images, tools, schema, first message and task change the properties, and not the n-grams."""
    plain = features(Prompt.of("Hello there"))
    image = [{"role": "user", "content": [{"type": "text", "text": "Hello there"}, {"type": "image_url", "image_url": {}}]}]
    others = [
        features(Prompt.of([{"role": "assistant", "content": "Hi"}, {"role": "user", "content": "Hello there"}])),
        features(Prompt.of("Hello there", system="Be brief.")),
        features(Prompt.of(image)),
        features(Prompt.of("Hello there", tools=[{"type": "function", "function": {"name": "f"}}])),
        features(Prompt.of("Hello there", schema={"type": "object", "properties": {"a": {}}})),
        features(Prompt.of("Hello there"), "greeting"),
    ]
    for other in others:
        assert other.ngrams == plain.ngrams
        assert sum(a != b for a, b in zip(other.properties, plain.properties, strict=True)) == 1
    assert len({other.properties for other in others}) == len(others)


def test_numbers_stand_for_each_other() -> None:
    """Questions that differ in a digit have the same features: what they ask for is the same."""
    assert features(Prompt.of("What is 17 * 3?")) == features(Prompt.of("What is 25 * 8?"))
