"""What is put together of one log: equal questions, and what must not pass for one."""

from collections.abc import Iterator
from typing import Any

import pytest

from evals.common.notes import Notes
from evals.importers.base import ImportedAnswer, Names, to_examples
from evals.importers.command import WITH_GOLD
from evals.recording import Example, RecordingError
from evals.recording.join import ByPrompt
from judges import Answer


def showSnapshot(id: str = "a", **fields: Any) -> ImportedAnswer:
    """An answer to this example."""
    return ImportedAnswer(Example(id, "q", {}, **fields), "m", Answer("x"))


def both(*items: ImportedAnswer, same: ByPrompt | None = None) -> Iterator[Example]:
    """The examples of a log that holds these."""
    return to_examples(items, Names(), Notes(), same)


@pytest.mark.parametrize(
    ("other", "word"),
    [
        ({"system": "Be brief."}, "system message"),
        ({"schema": {"type": "object"}}, "schema"),
        ({"tools": ({"type": "function"},)}, "tools"),
        ({"reference": "s"}, "reference"),
    ],
)
def test_one_id_for_two_questions(other: dict[str, Any], word: str) -> None:
    """It is an error; matched by content they are different examples, each with its own reference."""
    items = showSnapshot(reference="r"), showSnapshot(**{"reference": "r", **other})
    with pytest.raises(RecordingError, match=f"id 'a': names two examples in one log, the second with another {word}"):
        list(both(*items))
    one, two = both(*items, same=ByPrompt(WITH_GOLD))
    assert one.id != two.id
    assert (one.reference, two.reference) == ("r", other.get("reference", "r"))


def test_a_reference_that_only_one_answer_has() -> None:
    """Is the example's."""
    (example,) = both(showSnapshot(), showSnapshot(reference="r"), showSnapshot())
    assert example.reference == "r"
    assert len(example.answers["m"]["samples"]) == 2
