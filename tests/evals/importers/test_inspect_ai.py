"""Logs that inspect_ai wrote, as .json and as .eval."""

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.importers.inspect_ai import items, to_quality
from evals.recording import RecordingError
from tests.evals.importers.logs import FIXTURES, changed, imported

LOGS = FIXTURES / "inspect_ai"
SMALL = "openai-api/local/small"


def test_a_sample_is_an_example() -> None:
    """Prompt, system message, target, answer, usage, time and log-probabilities are read from inspect_ai's fields."""
    examples, _ = imported(items, LOGS / "sums_small.json")
    log = json.loads((LOGS / "sums_small.json").read_text())
    sample = next(s for s in log["samples"] if s["id"] == "sum-2" and s["epoch"] == 1)
    example = examples["sums-sum-2"]
    assert (example.prompt, example.system) == ("What is 26 + 11? Reply with the number only.", "Be brief.")
    assert (example.reference, example.task, example.raw["metadata"]) == ("37", "sums", {"level": "easy"})
    answer = example.answers[SMALL]
    assert answer["text"] == sample["output"]["completion"]
    assert answer["finish_reason"] == "stop"
    assert answer["usage"] == {"input_tokens": 19, "output_tokens": 1}
    assert answer["latency_s"] == pytest.approx(sample["output"]["time"], abs=1e-6)
    logged = sample["output"]["choices"][0]["logprobs"]["content"][0]
    assert answer["token_logprobs"] == [logged["logprob"]]
    assert answer["first_token_top"] == {t["token"]: t["logprob"] for t in logged["top_logprobs"]}
    assert answer["cost_usd"] is None  # a self-hosted server has no list price


def test_epochs_are_samples_with_their_own_quality() -> None:
    """Every epoch's answer is there with the grade that inspect_ai gave it."""
    examples, _ = imported(items, LOGS / "sums_small.json")
    log = json.loads((LOGS / "sums_small.json").read_text())
    for sample in log["samples"]:
        if sample.get("error"):
            continue
        answer = examples[f"sums-{sample['id']}"].answers[SMALL]
        epoch_answer = answer if sample["epoch"] == 1 else answer["samples"][0]
        assert epoch_answer["text"] == sample["output"]["completion"]
        assert epoch_answer["quality"] == float(sample["scores"]["match"]["value"] == "C")


def test_what_failed_is_counted_and_a_refusal_is_an_answer() -> None:
    """A sample with an error is left out in both epochs; what the provider refused was answered, and graded."""
    examples, notes = imported(items, LOGS / "sums_large.json")
    assert dict(notes.skipped) == {"the sample ended in an error": 2}
    assert "sums-sum-fails" not in examples
    refused = examples["sums-sum-forbidden"].answers["openai-api/local/large"]
    assert (refused["finish_reason"], refused["quality"], "usage" in refused) == ("content_filter", 0.0, False)
    assert "several scores (match, closeness, points): 'match' was taken" in "\n".join(notes.lines())


def test_the_archive_says_the_same_as_the_document() -> None:
    """A .eval, packed with zstandard, gives the examples of a .json; only what was drawn anew may differ."""
    document, _ = imported(items, LOGS / "sums_small.json")
    archive, notes = imported(items, LOGS / "sums_small.eval")
    with zipfile.ZipFile(LOGS / "sums_small.eval") as packed:
        assert {i.compress_type for i in packed.infolist()} == {93}
    assert archive.keys() == document.keys()
    for id, example in archive.items():
        other = document[id]
        assert (example.prompt, example.system, example.reference) == (other.prompt, other.system, other.reference)
        assert example.answers[SMALL].keys() == other.answers[SMALL].keys()
    assert notes.skipped.total() == 2


@pytest.mark.parametrize(
    ("score", "qualities"), [("closeness", {0.0, 0.5, 1.0}), ("points.share", {0.75}), ("points.right", {0.0, 1.0})]
)
def test_the_score_can_be_named(score: str, qualities: set[float]) -> None:
    """C, P and N are 1, 0.5 and 0; a key of a score with several is named after a point."""
    examples, notes = imported(items, LOGS / "sums_small.json", score=score)
    answers = [e.answers[SMALL] for e in examples.values()]
    assert {q["quality"] for a in answers for q in (a, *a["samples"])} == qualities
    assert not notes.noted


@pytest.mark.parametrize(
    ("score", "message"),
    [
        ("points", "--score points.KEY takes one of it"),
        ("points.length", "no figure in [0, 1]"),
        ("points.width", "has no 'width', but: share, right, length"),
        ("maths", "no score is called 'maths', but: match, closeness, points"),
    ],
)
def test_a_score_that_is_no_quality_is_none(score: str, message: str) -> None:
    """It is noted what to name instead; nothing is guessed."""
    examples, notes = imported(items, LOGS / "sums_small.json", score=score)
    assert {e.answers[SMALL]["quality"] for e in examples.values()} == {None}
    assert message in "\n".join(notes.lines())


def test_choices() -> None:
    """The choices are stored beside the prompt that shows them; the target is a letter."""
    examples, _ = imported(items, LOGS / "choices_large.json")
    example = examples["choices-1"]
    assert example.reference == "B"
    assert len(example.raw["choices"]) == 4
    assert f"B) {example.raw['choices'][1]}" in str(example.prompt)
    assert example.answers["openai-api/local/large"]["text"].startswith("ANSWER: ")


def test_a_dialogue_stands_under_what_was_asked_first() -> None:
    """Few-shot messages and images are part of the prompt, further turns are not, which is noted; usage is of all turns."""
    examples, notes = imported(items, LOGS / "dialogue_small.json")
    prompt = examples["dialogue-image"].prompt
    assert [m["role"] for m in prompt] == ["user", "assistant", "user"]  # type: ignore[union-attr, call-overload]
    text, image = prompt[2]["content"]  # type: ignore[index]
    assert text == {"type": "text", "text": "What is 40 + 2?"}
    assert image["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    answer = examples["dialogue-image"].answers[SMALL]
    assert answer["latency_s"] is None
    assert answer["usage"]["output_tokens"] == 2
    assert "the answer is the last of several turns" in "\n".join(notes.lines())


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("version",), 1, "version: is 1; read are logs"),
        (("eval",), None, "eval: is missing"),
        (("samples",), None, "has no samples; run inspect eval without --no-log-samples"),
        (("samples", 3, "epoch"), "x", "samples[3].epoch: must be a number, got text"),
        (("samples", 0, "output", "choices", 0, "message"), 1, "output.choices[0].message: must be an object, got a number"),
        (("samples", 0, "messages", 0, "content"), None, "messages[0].content: is missing"),
        (("samples", 0, "output", "usage", "input_tokens"), True, "usage.input_tokens: must be a number"),
    ],
)
def test_another_shape_is_an_error(tmp_path: Path, keys: tuple[Any, ...], value: Any, message: str) -> None:
    """It names file and field, and says what is read and how it is had."""
    path = changed(LOGS / "sums_small.json", tmp_path / "log.json", *keys, value=value)
    with pytest.raises(RecordingError) as error:
        list(imported(items, path)[0])
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)


def test_an_unknown_part_of_a_message_is_left_out(tmp_path: Path) -> None:
    """A prompt cannot hold audio; the sample is counted as left out, the others are read."""
    part = [{"type": "audio", "audio": "x", "format": "wav"}]
    path = changed(LOGS / "sums_small.json", tmp_path / "log.json", "samples", 0, "messages", 1, "content", value=part)
    _, notes = imported(items, path)
    assert any("a part of the type audio" in reason for reason in notes.skipped)


def test_long_texts_are_attached(tmp_path: Path) -> None:
    """A text attached at the end of the sample is put back in its place."""
    path = changed(LOGS / "sums_small.json", tmp_path / "1.json", "samples", 0, "attachments", value={"ab": "a long text"})
    path = changed(path, tmp_path / "2.json", "samples", 0, "messages", 1, "content", value="attachment://ab")
    first = json.loads(path.read_text())["samples"][0]
    examples, _ = imported(items, changed(path, tmp_path / "3.json", "samples", value=[first]))
    (example,) = examples.values()
    assert example.prompt == "a long text"


def test_tool_calls_are_in_openais_shape(tmp_path: Path) -> None:
    """With their arguments as text."""
    call = {"id": "c1", "function": "add", "arguments": {"a": 1}, "type": "function"}
    keys = ("samples", 0, "output", "choices", 0, "message", "tool_calls")
    path = changed(LOGS / "sums_small.json", tmp_path / "log.json", *keys, value=[call])
    examples, _ = imported(items, path)
    called = [a for e in examples.values() if (a := e.answers[SMALL].get("tool_calls"))]
    assert called == [[{"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}]]


def test_a_listed_model_has_its_list_price(tmp_path: Path) -> None:
    """Where the provider itself was asked; with an address of one's own the cost is unknown."""
    path = changed(LOGS / "sums_small.json", tmp_path / "1.json", "eval", "model", value="openai/gpt-4.1-mini")
    priced = imported(items, path)[0]["sums-sum-0"].answers["openai/gpt-4.1-mini"]
    assert priced["cost_usd"] == pytest.approx((18 * 0.4 + 1.6) / 1e6)
    assert imported(items, path)[0]["sums-sum-0"].answers["openai/gpt-4.1-mini"]["sample_cost_usd"] == priced["cost_usd"]
    path = changed(path, tmp_path / "2.json", "eval", "model_base_url", value="http://localhost")
    assert imported(items, path)[0]["sums-sum-0"].answers["openai/gpt-4.1-mini"]["cost_usd"] is None


def test_a_broken_archive(tmp_path: Path) -> None:
    """One that was cut off, one with a damaged member, and one without a header are each named."""
    whole = (LOGS / "sums_small.eval").read_bytes()
    path = tmp_path / "log.eval"
    path.write_bytes(whole[:5000])
    with pytest.raises(RecordingError, match="is not a whole archive"):
        imported(items, path)
    damaged = bytearray(whole)
    damaged[900:1200] = bytes(300)
    path.write_bytes(damaged)
    with pytest.raises(RecordingError, match=r"log\.eval"):
        imported(items, path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.json", "{}")
    with pytest.raises(RecordingError, match=r"neither header\.json nor"):
        imported(items, path)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="Python reads zstandard itself")
def test_without_zstandard_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or how to do without."""
    monkeypatch.setitem(sys.modules, "backports.zstd.zipfile", None)
    with pytest.raises(RecordingError, match=r"pip install 'cascade-gate\[imports\]', or rewrite it"):
        imported(items, LOGS / "sums_small.eval")


@given(st.one_of(st.text(), st.floats(), st.integers(), st.booleans(), st.none(), st.lists(st.floats())))
def test_a_quality_lies_in_the_unit_interval(value: Any) -> None:
    """Whatever a scorer says: a figure in [0, 1], or None."""
    quality = to_quality(value)
    assert quality is None or (isinstance(quality, float) and 0.0 <= quality <= 1.0)


@pytest.mark.parametrize(
    ("value", "quality"),
    [("C", 1.0), ("I", 0.0), ("P", 0.5), ("N", 0.0), ("Yes", 1.0), ("false", 0.0), (True, 1.0), ("0.25", 0.25), (7, None),
     (float("nan"), None), ("nan", None), ("c", None)],
)  # fmt: skip
def test_values(value: Any, quality: float | None) -> None:
    """As inspect_ai itself maps them; what it calls unscored (not a number) has no quality."""
    assert to_quality(value) == quality


def test_an_output_without_completion(tmp_path: Path) -> None:
    """Versions that leave ``completion`` out have the text in the first choice, as text or as parts."""
    path = LOGS / "sums_small.json"
    log = json.loads(path.read_text())
    before = imported(items, path)[0]
    for i, sample in enumerate(log["samples"]):
        if sample.get("output", {}).get("choices"):
            text = sample["output"].pop("completion")
            message = sample["output"]["choices"][0]["message"]
            message["content"] = (
                [{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": text}] if i % 2 else text
            )
    (tmp_path / path.name).write_text(json.dumps(log))
    after = imported(items, tmp_path / path.name)[0]
    thoughts = [answer.pop("reasoning", None) for example in after.values() for answer in example.answers.values()]
    assert "hm" in thoughts
    assert after == before
