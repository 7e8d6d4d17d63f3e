"""Hostile YAML: whatever stands in a policy file, the answer is a PolicyError with its line, and soon."""

import tracemalloc
from contextlib import suppress
from itertools import pairwise
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade import PolicyError
from cascade.policy.load import parse
from cascade.policy.yaml import read

GOOD = "models: {m: {provider: scripted, answers: [x]}}\npolicies: {default: {tiers: [{model: m}]}}\n"
LETTERS = "abcdefghijklm"


def lists() -> str:
    """Billion laughs, as lists."""
    more = (f"{b}: &{b} [{','.join(['*' + a] * 10)}]\n" for a, b in pairwise(LETTERS))
    return "a: &a [x,x,x]\n" + "".join(more) + GOOD


def merges() -> str:
    """The same by merge keys."""
    more = (f"{b}: &{b} {{<<: [{','.join(['*' + a] * 10)}]}}\n" for a, b in pairwise(LETTERS))
    return "a: &a {x: 1}\n" + "".join(more) + GOOD


BOMBS = {
    "lists": lists(),
    "merges": merges(),
    "many keys merged often": "a: &a {" + ",".join(f"k{i}: 1" for i in range(1000)) + "}\nb: {<<: [" + "*a," * 200 + "]}",
    "itself": "a: &a [*a]",
    "itself as a key's value": "a: &a {b: *a}",
    "itself merged": "a: &a {<<: *a}",
    "open brackets": "x: " + "[" * 100_000,
    "open braces": "x: " + "{a: " * 50_000,
    "closed brackets": "x: " + "[" * 4000 + "]" * 4000,
    "deep blocks": "\n".join(" " * i + "a:" for i in range(1000)),
    "dashes": "- " * 50_000,
    "questions": "? " * 50_000,
    "to base 60": "version: " + ":".join(["59"] * 200_000),
    "fraction to base 60": "version: 1:" + ":".join(["59"] * 100_000) + ".5",
    "hexadecimal": "version: 0x" + "f" * 900_000,
    "digits": "version: " + "9" * 900_000,
    "exponent": "version: 1.0e+" + "9" * 100_000,
    "one long text": GOOD + "x: " + "a" * 900_000,
    "backslashes": '"' + "\\\\" * 400_000 + '"',
    "quotes": "'" * 900_000,
    "documents": "---\n" * 200_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_soon(name: str) -> None:
    """Nothing takes more than a few seconds, busy as the machine may be."""
    start = process_time()
    with pytest.raises(PolicyError, match=r"^policies.yaml:"):
        parse(BOMBS[name])
    assert process_time() - start < 10


@pytest.mark.parametrize("name", ["lists", "merges", "itself", "itself merged"])
def test_aliases_do_not_fill_the_memory(name: str) -> None:
    """Refused by their number, before they are all there."""
    tracemalloc.start()
    try:
        with pytest.raises(PolicyError, match=r"aliases expand|nested too deeply"):
            parse(BOMBS[name])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 50e6


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("version: !!python/object/apply:os.system ['true']", "tag !!python/object/apply:os.system"),
        ("version: !!python/name:os.system", "tag !!python/name:os.system"),
        ("version: !own 1", "tag !own"),
        ("version: !!binary aGVsbG8=", "tag !!binary"),
        ("version: !!set {a, b}", "tag !!set"),
        ("version: !!omap [a: 1]", "tag !!omap"),
        ("version: !!int abc", "version: not a value of the kind int"),
        ("version: !!int ''", "version: not a value of the kind int"),
        ("version: !!float ''", "version: not a value of the kind float"),
        ("version: !!bool maybe", "version: not a value of the kind bool"),
        ("version: " + "59:" * 30 + "1", "version: a number has at most 64 characters"),
        ('version: "\\ud800"', "half a surrogate"),
        ('"\\ud800": 1', "half a surrogate"),
        ('version: "\\UFFFFFFFF"', "not valid YAML"),
        ("version: \0", "not valid YAML"),
        ("<<: 5", "<< merges mappings"),
        ("<<: [5]", "<< merges mappings"),
        ("<<: ", "<< merges mappings"),
        ("? [a, b]\n: 1", "a key must be a plain word"),
        ("models: {}", "the key models occurs twice"),
    ],
)
def test_what_is_no_plain_value_is_named(line: str, message: str) -> None:
    """Tags run no code, wrong values raise PolicyError, and the error has the line where it is known."""
    with pytest.raises(PolicyError, match=r"^policies.yaml:") as caught:
        parse(GOOD + line)
    assert message in str(caught.value)


def test_a_merged_key_may_be_set_anew() -> None:
    """A mapping's own key overrides merged ones, whatever their order; of several merged ones the first counts."""
    data, lines = read("a: &a {x: 1, y: 1}\nb: &b {x: 2, z: 2}\nc:\n  y: 3\n  <<: [*a, *b]\n  z: 3\n", "f")
    assert data["c"] == {"x": 1, "y": 3, "z": 3}
    assert lines[("c", "z")] == 6


def test_dates_and_signs_are_texts() -> None:
    """Models are called after dates, and choices may be signs."""
    data, _ = read("a: [2024-05-13, 2001-99-99, =, <<, yes, 1_000, ~]", "f")
    assert data["a"] == ["2024-05-13", "2001-99-99", "=", "<<", True, 1000, None]


@given(st.text(alphabet=st.sampled_from("abm:-[]{},&*!|>'\"%@`#?<=\n 1.\\u"), max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Whatever the characters, there is data or a PolicyError."""
    with suppress(PolicyError):
        read(text, "f")
