"""Results that promptfoo wrote."""

import json
from pathlib import Path
from typing import Any

import pytest

from evals.importers.promptfoo import items
from evals.recording import Example, RecordingError
from tests.evals.importers.logs import FIXTURES, changed, imported

LOGS = FIXTURES / "promptfoo"
SMALL, LARGE = "openai:chat:small", "the large one"
RESULTS = json.loads((LOGS / "first.json").read_text())["results"]["results"]


def of(examples: dict[str, Example], a: int, chat: bool = False) -> Example:
    """The example whose first summand this is, asked in words or as a chat."""
    (example,) = (e for e in examples.values() if e.raw["vars"]["a"] == a and (e.system is not None) == chat)
    return example


def test_a_test_with_a_prompt_is_an_example() -> None:
    """It has every provider's answer with its score, cost, time and tokens."""
    examples, _ = imported(items, LOGS / "first.json")
    assert len(examples) == 8
    example = of(examples, 26)
    assert (example.prompt, example.reference) == ("What is 26 + 11? Reply with the number only.", "37")
    assert example.raw["description"] == "a third"
    results = [r for r in RESULTS if r["vars"]["a"] == 26 and not r["prompt"]["raw"].startswith("[")]
    for result, model in zip(results, (SMALL, LARGE), strict=True):
        answer = example.answers[model]
        assert (answer["text"], answer["quality"]) == (result["response"]["output"], result["score"])
        assert answer["latency_s"] == result["latencyMs"] / 1000
        assert answer["usage"] == {"input_tokens": 19, "output_tokens": 1}
    assert example.answers[LARGE]["cost_usd"] == pytest.approx((19 * 0.4 + 1.6) / 1e6)
    assert example.answers[SMALL]["cost_usd"] is None  # promptfoo says 0 of a model that it has no price of
    assert example.answers[SMALL]["token_logprobs"] == [example.answers[SMALL]["logprob"]]


def test_a_chat_prompt_is_messages() -> None:
    """A prompt that is JSON messages is a chat."""
    examples, _ = imported(items, LOGS / "first.json")
    example = of(examples, 12, chat=True)
    assert (example.system, example.prompt) == ("You add.", "12 + 5")


def test_the_reference() -> None:
    """The variable of that name, else what an assertion says that the answer equals, else none."""
    examples, _ = imported(items, LOGS / "first.json")
    assert [of(examples, a).reference for a in (12, 19, 26, 33)] == ["17", "27", "37", None]
    examples, _ = imported(items, LOGS / "first.json", reference="b")
    assert of(examples, 33).reference == 14
    examples, _ = imported(items, LOGS / "first.json", reference="none")
    assert [of(examples, a).reference for a in (12, 19, 26)] == ["17", "27", None]


def test_what_failed_is_counted() -> None:
    """Errors, and errors that promptfoo keeps as answers; where nothing was asserted there is no quality."""
    examples, notes = imported(items, LOGS / "first.json")
    assert dict(notes.skipped) == {"the provider failed (HTTP 400)": 4, "the provider failed": 4}
    assert notes.noted == {"no quality: nothing was asserted": 4}
    assert of(examples, 33).answers[SMALL]["quality"] is None


def test_repeats_are_samples() -> None:
    """promptfoo numbers repeats as separate tests; equal prompts are joined as samples."""
    examples, _ = imported(items, LOGS / "repeated.json")
    assert len(examples) == 2
    for example in examples.values():
        for model in (SMALL, LARGE):
            (sample,) = example.answers[model]["samples"]
            assert sample["quality"] == example.answers[model]["quality"]
        assert example.answers[LARGE]["sample_cost_usd"] == example.answers[LARGE]["cost_usd"]


def test_cached_answers_have_no_cost() -> None:
    """promptfoo says 0 of them, and counts no tokens: both are unknown, which is noted."""
    examples, notes = imported(items, LOGS / "cached.json")
    for example in examples.values():
        for answer in example.answers.values():
            assert (answer["cost_usd"], answer["latency_s"], "usage" in answer) == (None, None, False)
            assert answer["quality"] is not None
    assert notes.noted.total() == 4


def test_named_scores(tmp_path: Path) -> None:
    """--score takes one of them; where it is not there the answer is not graded."""
    keys = ("results", "results", 0, "namedScores")
    path = changed(LOGS / "first.json", tmp_path / "r.json", *keys, value={"tone": 0.25})
    examples, notes = imported(items, path, score="tone")
    assert of(examples, 12).answers[SMALL]["quality"] == 0.25
    assert of(examples, 12).answers[LARGE]["quality"] is None
    assert notes.noted == {"no quality: no score is called 'tone'": 15}


def test_output_that_is_no_text(tmp_path: Path) -> None:
    """An object is written as JSON; an answer without output is left out, an empty one is not."""
    first = ("results", "results", 0, "response", "output")
    path = changed(LOGS / "first.json", tmp_path / "r.json", *first, value={"sum": 17})
    assert of(imported(items, path)[0], 12).answers[SMALL]["text"] == '{"sum": 17}'
    path = changed(LOGS / "first.json", tmp_path / "r.json", *first, value="")
    assert of(imported(items, path)[0], 12).answers[SMALL]["text"] == ""
    path = changed(LOGS / "first.json", tmp_path / "r.json", *first, value=None)
    examples, notes = imported(items, path)
    assert SMALL not in of(examples, 12).answers
    assert notes.skipped["no text"] == 1


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("results",), [], "results: must be an object, got a list"),
        (("results", "version"), 2, "results.version: is 2; read are results of version 3"),
        (("results", "results", 2, "provider"), "openai", "results.results[2].provider: must be an object, got text"),
        (("results", "results", 0, "prompt", "raw"), None, "results.results[0].prompt.raw: is missing"),
        (("results", "results", 1, "response", "cost"), "free", "results.results[1].response.cost: must be a number"),
    ],
)
def test_another_shape_is_an_error(tmp_path: Path, keys: tuple[Any, ...], value: Any, message: str) -> None:
    """It names file and field, and says how such a file is written."""
    path = changed(LOGS / "first.json", tmp_path / "r.json", *keys, value=value)
    with pytest.raises(RecordingError) as error:
        imported(items, path)
    assert str(error.value).startswith(f"{path}: {message.split(';')[0]}")
    assert "promptfoo eval --output results.json" in str(error.value)


def test_json_lines_and_null_scores(tmp_path: Path) -> None:
    """A .jsonl file has a result a line; a null score means no quality, and is not an error."""
    whole = json.loads((LOGS / "first.json").read_text())["results"]["results"]
    for name, score in (("a.jsonl", ...), ("b.jsonl", None)):
        rows = whole if score is ... else [{**row, "score": None} for row in whole]
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    of_json, of_lines = (imported(items, path)[0] for path in (LOGS / "first.json", tmp_path / "a.jsonl"))
    assert of_lines == of_json
    examples, notes = imported(items, tmp_path / "b.jsonl")
    assert {a["quality"] for e in examples.values() for a in e.answers.values()} == {None}
    assert notes.noted["no quality: the score is null"]


@pytest.mark.parametrize(
    ("output", "answer", "reasoning"),
    [
        ("Thinking: 3 * 17 is 51.\n\n51", "51", "3 * 17 is 51."),
        ('Thinking: First.\n\nSecond.\n\n{"sum": 51}', '{"sum": 51}', "First.\n\nSecond."),
        ("Thinking: cut inside the thought", "Thinking: cut inside the thought", None),
        ("It was long.\n\nThinking: is hard.", "It was long.\n\nThinking: is hard.", None),
    ],
)
def test_a_thought_before_the_answer(tmp_path: Path, output: str, answer: str, reasoning: str | None) -> None:
    """promptfoo writes a provider's thought into the output, before a blank line."""
    first = ("results", "results", 0, "response", "output")
    path = changed(LOGS / "first.json", tmp_path / "r.json", *first, value=output)
    recorded = of(imported(items, path)[0], 12).answers[SMALL]
    assert (recorded["text"], recorded.get("reasoning")) == (answer, reasoning)


def test_a_thought_without_an_end_is_left_out(tmp_path: Path) -> None:
    """Of several paragraphs none is taken for the answer."""
    first = ("results", "results", 0, "response", "output")
    path = changed(LOGS / "first.json", tmp_path / "r.json", *first, value="Thinking: One.\n\nTwo.\n\nThree.")
    examples, notes = imported(items, path)
    assert SMALL not in of(examples, 12).answers
    [reason] = [reason for reason in notes.skipped if "showThinking" in reason]
    assert notes.skipped[reason] == 1
