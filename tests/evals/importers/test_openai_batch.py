"""What the Batch API gives back, from a local server whose bodies obey the SDK's types."""

import json
from pathlib import Path
from typing import Any

import pytest

from evals.importers.openai_batch import items
from evals.recording import RecordingError
from tests.evals.importers.logs import FIXTURES, imported

LOGS = FIXTURES / "openai_batch"
INPUT = str(LOGS / "small_input.jsonl")


def edited(path: Path, target: Path, number: int, *keys: Any, value: Any) -> Path:
    """A copy with one value of one line replaced."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    inner = rows[number]
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    target.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return target


def test_answers_meet_their_prompts() -> None:
    """In any order: prompt, system message and reference from the request, the answer from the output."""
    examples, _ = imported(items, LOGS / "small_output.jsonl", inputs=(INPUT,))
    assert list(examples) == ["q3", "q2", "q1", "q0"]
    example = examples["q1"]
    assert (example.prompt, example.system) == ("What is 19 + 8? Reply with the number only.", "You add.")
    assert example.reference == "27"
    answer = example.answers["small"]
    assert (answer["text"], answer["quality"], answer["finish_reason"]) == ("27", None, "stop")
    assert answer["usage"] == {"input_tokens": 18, "output_tokens": 1}
    assert answer["token_logprobs"] == [answer["logprob"]]
    assert set(answer["first_token_top"]) == {"27", "?"}


def test_several_answers_share_the_tokens() -> None:
    """The prompt is counted with the first; each has its share of the output."""
    examples, _ = imported(items, LOGS / "small_output.jsonl", inputs=(INPUT,))
    answer = examples["q2"].answers["small"]
    assert len(answer["samples"]) == 2
    assert answer["usage"] == {"input_tokens": 19, "output_tokens": 1}


def test_failures_are_counted() -> None:
    """With their codes, from the file of errors."""
    examples, notes = imported(items, LOGS / "small_errors.jsonl", inputs=(INPUT,))
    assert not examples
    assert dict(notes.skipped) == {"the request failed (HTTP 400)": 1, "the request failed (batch_expired)": 1}


def test_the_responses_api() -> None:
    """Its objects are read, too."""
    inputs = (str(LOGS / "responses_input.jsonl"),)
    examples, _ = imported(items, LOGS / "responses_output.jsonl", inputs=inputs)
    chat, _ = imported(items, LOGS / "small_output.jsonl", inputs=(INPUT,))
    for id in ("q0", "q1", "q3"):
        answer = examples[id].answers["small"]
        assert (answer["text"], answer["finish_reason"]) == (chat[id].answers["small"]["text"], "stop")
        assert answer["usage"] == chat[id].answers["small"]["usage"]
        assert (examples[id].prompt, examples[id].system) == (chat[id].prompt, chat[id].system)


def test_a_response_that_was_cut_or_called(tmp_path: Path) -> None:
    """Its finish reason and tool calls are read as those of a chat completion."""
    inputs = (str(LOGS / "responses_input.jsonl"),)
    call = [{"type": "function_call", "call_id": "c", "name": "add", "arguments": "{}"}]
    body = ("response", "body")
    path = edited(LOGS / "responses_output.jsonl", tmp_path / "1", 0, *body, "output", value=call)
    path = edited(path, tmp_path / "2", 1, *body, "incomplete_details", value={"reason": "max_output_tokens"})
    path = edited(path, tmp_path / "3", 2, *body, "output", value=[{"type": "reasoning", "summary": []}])
    examples, notes = imported(items, path, inputs=inputs)
    called = examples["q3"].answers["small"]
    assert (called["text"], called["finish_reason"]) == ("", "tool_calls")
    assert called["tool_calls"] == [{"id": "c", "type": "function", "function": {"name": "add", "arguments": "{}"}}]
    assert examples["q2"].answers["small"]["finish_reason"] == "length"
    assert notes.skipped == {"no text": 1}


def test_batches_with_the_same_ids() -> None:
    """Requests are matched by the model that answered."""
    inputs = (INPUT, str(LOGS / "large_input.jsonl"))
    examples, _ = imported(items, LOGS / "large_output.jsonl", inputs=inputs)
    assert {m for e in examples.values() for m in e.answers} == {"large"}


def test_half_the_list_price(tmp_path: Path) -> None:
    """A model that OpenAI lists costs half in a batch; it is called as it was asked for, not by its dated version."""
    sent, got = tmp_path / "sent.jsonl", tmp_path / "got.jsonl"
    sent.write_text(Path(INPUT).read_text().replace('"model": "small"', '"model": "gpt-4.1-mini"'))
    got.write_text(
        (LOGS / "small_output.jsonl").read_text().replace('"model": "small"', '"model": "gpt-4.1-mini-2025-04-14"')
    )
    examples, _ = imported(items, got, inputs=(str(sent),))
    answer = examples["q1"].answers["gpt-4.1-mini"]
    assert answer["cost_usd"] == pytest.approx((18 * 0.4 + 1.6) / 1e6 / 2)
    assert examples["q2"].answers["gpt-4.1-mini"]["sample_cost_usd"] == pytest.approx(1.6 / 1e6 / 2)


def test_nothing_said_is_left_out(tmp_path: Path) -> None:
    """A choice without content is not an answer; an empty one, and a refusal, are."""
    message = ("response", "body", "choices", 0, "message")
    path = edited(LOGS / "small_output.jsonl", tmp_path / "1", 0, *message, "content", value=None)
    path = edited(path, tmp_path / "2", 2, *message, "content", value="")
    path = edited(path, tmp_path / "3", 3, *message, value={"role": "assistant", "content": None, "refusal": "No."})
    examples, notes = imported(items, path, inputs=(INPUT,))
    assert notes.skipped == {"no text": 1}
    assert [examples[q].answers["small"]["text"] for q in ("q1", "q0")] == ["", "No."]


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("custom_id",), None, ":1: custom_id: is missing"),
        (("custom_id",), "q9", "no request for this answer is in the files of --input: custom_id 'q9'"),
        (("response",), None, "has neither response nor error"),
        (("response", "status_code"), "200", ":1: response.status_code: must be a number, got text"),
        (("response", "body", "choices"), [], ":1: response.body: is not a chat completion"),
        (("response", "body", "choices", 0, "message"), None, ":1: response.body: is not a chat completion"),
    ],
)
def test_another_shape_is_an_error(tmp_path: Path, keys: tuple[Any, ...], value: Any, message: str) -> None:
    """It names file, line and field."""
    path = edited(LOGS / "small_output.jsonl", tmp_path / "o.jsonl", 0, *keys, value=value)
    with pytest.raises(RecordingError) as error:
        imported(items, path, inputs=(INPUT,))
    assert str(path) in str(error.value)
    assert message in str(error.value)


def test_without_the_input_there_are_no_prompts() -> None:
    """The error says which file is meant."""
    with pytest.raises(RecordingError, match="--input takes the JSON Lines file that was sent"):
        imported(items, LOGS / "small_output.jsonl")


def test_two_requests_of_one_model_with_one_id(tmp_path: Path) -> None:
    """Which of them was answered cannot be known."""
    other = edited(Path(INPUT), tmp_path / "i.jsonl", 0, "body", "messages", value=[{"role": "user", "content": "Else?"}])
    with pytest.raises(RecordingError, match="import the batches one by one and merge them"):
        imported(items, LOGS / "small_output.jsonl", inputs=(INPUT, str(other)))


def test_errors_as_text(tmp_path: Path) -> None:
    """Self-hosted servers write an error as a text, with or without a response; the others' answers are read."""
    output = tmp_path / "output.jsonl"
    good = (LOGS / "small_output.jsonl").read_text().splitlines()
    ids = [json.loads(line)["custom_id"] for line in (LOGS / "small_input.jsonl").read_text().splitlines()]
    bad = [
        {"custom_id": ids[0], "response": None, "error": "the prompt is too long"},
        {"custom_id": ids[0], "response": {"status_code": 400, "request_id": "r", "body": None}, "error": "no"},
        {"custom_id": ids[0], "response": {"status_code": 200, "request_id": "r", "body": None}, "error": "no"},
    ]
    output.write_text("\n".join([*good, *map(json.dumps, bad)]))
    examples, notes = imported(items, output, inputs=(str(LOGS / "small_input.jsonl"),))
    assert examples
    failures = {reason: n for reason, n in notes.skipped.items() if reason.startswith("the request failed (")}
    assert failures["the request failed (no code)"] == 1
    assert failures["the request failed (no body)"] == 1
    assert failures["the request failed (HTTP 400)"] >= 1
