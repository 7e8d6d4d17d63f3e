"""A provider's word for why an answer ended."""

import pytest

from judges.reading import finish_reason, read_finish_reason


def test_words_without_end_are_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that invents a word of a megabyte for each answer fills neither the memory nor the log."""
    words: set[str] = set()
    monkeypatch.setattr(finish_reason, "_unknown_words", words)
    for i in range(300):
        word = f"{i} {'x' * 1_000_000}"
        assert read_finish_reason(word) == word
    assert sum(map(len, words)) < 10_000
