"""Logs of older versions and other producers: fields that are absent, null scores, error lines that are text."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from evals.importers import anthropic_batch, inspect_ai, openai_batch, promptfoo
from evals.recording import RecordingError
from tests.evals.importers.logs import imported

MODEL = "openai/gpt-4o-mini"


def sample(id: int, output: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A sample as the first 0.3 versions wrote it: without ``completion``, and with no more than its input."""
    return {"id": id, "epoch": 1, "input": "2 + 2?", "target": "4", "output": {"model": "gpt-4o-mini", **output}, **more}


def reply(content: Any) -> dict[str, Any]:
    """An output whose text stands in the first choice's message."""
    return {"choices": [{"message": {"role": "assistant", "content": content}, "stop_reason": "stop"}]}


LOG = {
    "version": 2,
    "status": "success",
    "eval": {"task": "t", "model": MODEL, "created": "2024-06-01T10:00:00", "dataset": {}, "config": {}},
    "samples": [
        sample(1, reply("4"), scores={"match": {"value": "C"}}),
        sample(2, reply([{"type": "text", "text": "5"}]), score={"value": "I"},
               input=[{"role": "user", "content": "3 + 3?"}]),
        sample(3, {**reply([{"type": "reasoning", "reasoning": "Hm."}, {"type": "text", "text": "4"}]), "completion": ""},
               messages=[], scores={"m": {"value": None}}),
        sample(4, {"choices": []}),
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", ["json", "eval"])
def test_an_old_inspect_ai_log(tmp_path: Path, kind: str) -> None:
    """The text comes from the message, the prompt from the input, the grade from the one score; in both file formats."""
    path = tmp_path / f"log.{kind}"
    if kind == "json":
        path.write_text(json.dumps(LOG))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("header.json", json.dumps({k: v for k, v in LOG.items() if k != "samples"}))
            for one in LOG["samples"]:  # type: ignore[attr-defined]
                archive.writestr(f"samples/{one['id']}_epoch_1.json", json.dumps(one))
    examples, notes = imported(inspect_ai.items, path)
    answers = [(e.prompt, e.answers[MODEL]["text"], e.answers[MODEL]["quality"]) for e in examples.values()]
    assert answers == [("2 + 2?", "4", 1.0), ("3 + 3?", "5", 0.0), ("2 + 2?", "4", None)]
    assert [e.answers[MODEL].get("reasoning") for e in examples.values()] == [None, None, "Hm."]
    assert dict(notes.skipped) == {"the model gave no answer": 1}


def test_promptfoo_lines(tmp_path: Path) -> None:
    """A null score means no quality, a line without ``testCase`` is read, and a broken line is left out up to the limit."""
    prompt = {"raw": "2 + 2?", "label": "p"}
    row = {
        "testIdx": 0,
        "promptIdx": 0,
        "provider": {"id": "m"},
        "prompt": prompt,
        "vars": {"q": "2"},
        "response": {"output": "4"},
        "success": True,
    }
    rows = [{**row, "score": None, "gradingResult": None}, {**row, "prompt": {"raw": "3 + 3?"}, "testCase": {}, "score": 1}]
    path = tmp_path / "results.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n{broken\n")
    examples, notes = imported(promptfoo.items, path, max_bad=0.5)
    assert [e.answers["m"]["quality"] for e in examples.values()] == [None, None]
    assert sum(notes.skipped.values()) == 1
    path.write_text(path.read_text() + "{broken too\n")
    with pytest.raises(RecordingError, match=r"more than --max-bad 0\.1 allows"):
        imported(promptfoo.items, path, max_bad=0.1)


def test_promptfoos_thoughts(tmp_path: Path) -> None:
    """promptfoo writes Anthropic's thoughts before the answer, each with its signature."""
    output = "Thinking: Hm.\n\nSo four.\nSignature: EuYB==\n\nThinking: Yes.\nSignature: Ab\n\n4"
    row = {"testIdx": 0, "promptIdx": 0, "provider": {"id": "m"}, "prompt": {"raw": "2 + 2?", "label": "p"}, "vars": {},
           "response": {"output": output}, "success": True, "score": 1}  # fmt: skip
    (tmp_path / "results.jsonl").write_text(json.dumps(row) + "\n")
    examples, _ = imported(promptfoo.items, tmp_path / "results.jsonl")
    [answer] = [e.answers["m"] for e in examples.values()]
    assert (answer["text"], answer["reasoning"]) == ("4", "Hm.\n\nSo four.\n\nYes.")


def test_run_batch_errors_in_any_shape(tmp_path: Path) -> None:
    """A text, an object, a status with a text as body: each is a request that failed, and no line ends the import."""
    body = {
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "4"}, "finish_reason": "stop"}],
    }
    lines: list[Any] = [
        {"custom_id": "a", "response": {"status_code": 200, "body": body}, "error": None},
        {"custom_id": "b", "response": None, "error": "Request failed: 400"},
        {"custom_id": "c", "response": {"status_code": 400, "body": "bad request"}, "error": None},
        {
            "custom_id": "d",
            "response": {"status_code": 400, "body": {"object": "error", "message": "m"}},
            "error": {"code": "x"},
        },
    ]
    sent = [
        {"custom_id": id, "body": {"model": "m", "messages": [{"role": "user", "content": f"question {id}"}]}}
        for id in "abcd"
    ]
    (tmp_path / "out.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, sent)))
    examples, notes = imported(openai_batch.items, tmp_path / "out.jsonl", inputs=(str(tmp_path / "in.jsonl"),))
    assert [e.answers["m"]["text"] for e in examples.values()] == ["4"]
    assert sum(notes.skipped.values()) == 3


def test_anthropics_batch_results(tmp_path: Path) -> None:
    """What succeeded is an answer; what errored, expired or was canceled is left out and counted."""
    text = {"type": "message", "role": "assistant", "model": "claude-haiku-4-5", "stop_reason": "end_turn",
            "content": [{"type": "text", "text": "4"}], "usage": {"input_tokens": 3, "output_tokens": 1}}  # fmt: skip
    results: list[Any] = [
        {"type": "succeeded", "message": text},
        {"type": "errored", "error": {"type": "error", "error": {"type": "api_error"}}},
        {"type": "expired"}, {"type": "canceled"},
    ]  # fmt: skip
    lines = [{"custom_id": id, "result": result} for id, result in zip("abcd", results, strict=True)]
    params = {"model": "claude-haiku-4-5", "max_tokens": 5}
    sent = [{"custom_id": id, "params": {**params, "messages": [{"role": "user", "content": id}]}} for id in "abcd"]
    (tmp_path / "out.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, sent)))
    examples, notes = imported(anthropic_batch.items, tmp_path / "out.jsonl", inputs=(str(tmp_path / "in.jsonl"),))
    assert [e.answers["claude-haiku-4-5"]["text"] for e in examples.values()] == ["4"]
    assert sum(notes.skipped.values()) == 3
