"""The letter that a reply chooses: one reader for votes and graders, and A and I count as B does."""

import pytest

from evals.grade.choices import choice
from judges.equivalence import key
from judges.reading import chosen

SENTENCES = [
    "**{}**", "({})", "{}", "{}.", "{}) Paris", "{} (Paris)", "{} because it is", "{}, because it is", "[{}]", "*{}*",
    "**{}** because it is", "{}, since it is Paris", "Option {}", "I choose {}", "The correct option is ({})", "{}: Paris",
    "{} - Paris", "{} — Paris", "**{}. Paris**", "{}, Paris", "{} (because it is)", "It is {}, not C", "**({})** Paris",
    "{} is correct", "So, {}",
]  # fmt: skip


@pytest.mark.parametrize("sentence", SENTENCES)
@pytest.mark.parametrize("letter", ["A", "B", "I"])
def test_every_letter_is_read_alike(sentence: str, letter: str) -> None:
    """By the reader, by the vote and by the grader, in an answer and after its marker."""
    text = sentence.format(letter)
    assert chosen(text) == letter
    assert key(text, "choice") == key(f"The answer is: {text}", "choice") == ("choice", letter)
    assert choice(letter, text)
    assert not choice("D", text)


@pytest.mark.parametrize(
    "text",
    [
        "A cat sat on a mat",
        "I think so",
        "I do not know",
        "A good answer needs more detail.",
        "B or C",
        "A and B",
        "",
        "Paris",
    ],
)
def test_no_letter(text: str) -> None:
    """A word is none, and of several none is chosen."""
    assert chosen(text) is None
    assert key(text, "choice")[0] == "text"  # type: ignore[index]
    assert not choice("A", text)
