"""Samples that lm-evaluation-harness wrote."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from evals.importers.lm_eval import items
from evals.recording import RecordingError
from tests.evals.importers.logs import FIXTURES, imported

LOGS = FIXTURES / "lm_eval"


def log(kind: str, model: str, task: str) -> Path:
    """The samples of one task."""
    (file,) = (LOGS / kind / model).glob(f"samples_{task}_*.jsonl")
    return file


def rows(path: Path) -> list[dict[str, Any]]:
    """The lines of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def rewritten(path: Path, copy: Path, **change: Any) -> Path:
    """A copy whose first line has other values."""
    first, *others = rows(path)
    copy.write_text("".join(json.dumps(r) + "\n" for r in [{**first, **change}, *others]))
    return copy


def test_a_generation() -> None:
    """The whole reply is the answer, the first filter's grade its quality, the other filter's is counted."""
    path = log("lm", "small", "demo_sums")
    examples, notes = imported(items, path)
    strict = [r for r in rows(path) if r["filter"] == "strict-match"]
    assert len(examples) == len(strict) == 5
    for row in strict:
        example = examples[f"demo_sums-{row['doc_id']}"]
        assert example.prompt == row["arguments"]["gen_args_0"]["arg_0"]
        assert (example.reference, example.task) == (row["target"], "demo_sums")
        answer = example.answers["small"]
        assert (answer["text"], answer["quality"]) == (row["resps"][0][0], row["exact_match"])
        assert (answer["cost_usd"], answer["latency_s"], "usage" in answer) == (None, None, False)
    assert notes.lines()[0].startswith("left out: 5, grades by the filter 'flexible-extract', not 'strict-match'")


def test_the_filter_can_be_named() -> None:
    """One that is not there is an error that lists those that are."""
    path = log("lm", "large", "demo_sums")
    examples, _ = imported(items, path, filter="flexible-extract")
    assert len(examples) == 5
    with pytest.raises(RecordingError, match="has no filter 'maj', but: strict-match, flexible-extract"):
        imported(items, path, filter="maj")


def test_chat_messages() -> None:
    """A chat is a prompt with its system message."""
    examples, _ = imported(items, log("lm-chat", "small", "demo_sums"))
    example = examples["demo_sums-1"]
    assert (example.system, example.prompt) == ("You add.", "What is 19 + 8? Reply in a sentence.\nAnswer:")


@pytest.mark.parametrize("model", ["small", "large"])
@pytest.mark.parametrize("metric", [None, "acc_norm"])
def test_multiple_choice(model: str, metric: str | None) -> None:
    """The likeliest choice is the answer; it equals the reference exactly where the harness counted it as right."""
    path = log("lm", model, "demo_choice")
    examples, _ = imported(items, path, score=metric)
    for row in rows(path):
        example = examples[f"demo_choice-{row['doc_id']}"]
        assert example.raw["choices"] == row["doc"]["choices"]
        assert example.reference == row["doc"]["answer"]
        answer = example.answers[model]
        assert answer["quality"] == row[metric or "acc"] == float(answer["text"] == example.reference)
        assert answer["choice_logprobs"] == [float(r[0][0]) for r in row["resps"]]
        assert answer["logprob"] < 0
    assert {e.answers[model]["quality"] for e in examples.values()} >= {1.0}


def test_repeats_are_samples() -> None:
    """The grade is the first reply's; the others are not graded."""
    path = log("lm", "large", "demo_repeats")
    examples, _ = imported(items, path)
    for row in rows(path):
        answer = examples[f"demo_repeats-{row['doc_id']}"].answers["large"]
        assert [answer["text"], *(s["text"] for s in answer["samples"])] == row["resps"][0]
        assert answer["quality"] == row["exact_match"]
        assert {s["quality"] for s in answer["samples"]} == {None}


def test_a_vote_is_no_quality_of_one_answer(tmp_path: Path) -> None:
    """Where a filter chose another reply than the first, the first has no grade."""
    path = rewritten(log("lm", "large", "demo_repeats"), tmp_path / "samples.jsonl", filtered_resps=["999"])
    examples, notes = imported(items, path)
    (model,) = examples["samples-0"].answers
    assert examples["samples-0"].answers[model]["quality"] is None
    assert notes.noted == {"no quality: 'exact_match' grades several replies together": 1}


def test_the_model_is_named_by_the_results(tmp_path: Path) -> None:
    """Else by the folder."""
    path = log("lm", "small", "demo_choice")
    moved = tmp_path / "org__model"
    moved.mkdir()
    shutil.copy(path, moved)
    examples, _ = imported(items, moved / path.name)
    assert {m for e in examples.values() for m in e.answers} == {"org__model"}
    results = next(path.parent.glob("results_*.json"))
    (moved / results.name).write_text(json.dumps({"model_name": "org/model"}))
    examples, _ = imported(items, moved / path.name)
    assert {m for e in examples.values() for m in e.answers} == {"org/model"}


def test_likelihoods_are_left_out(tmp_path: Path) -> None:
    """Tasks that only weigh a given text, or choices after different texts, have no answer and are left out."""
    path = log("lm", "small", "demo_choice")
    two = {"gen_args_0": {"arg_0": "a", "arg_1": " x"}, "gen_args_1": {"arg_0": "b", "arg_1": " x"}}
    target = rewritten(path, tmp_path / "1.jsonl", arguments={"gen_args_0": {"arg_0": "a", "arg_1": " x"}}, resps=[[["-1"]]])
    assert list(imported(items, target)[1].skipped) == ["the likelihood of a given text was measured; nothing was answered"]
    target = rewritten(path, tmp_path / "2.jsonl", arguments=two, resps=[[["-1"]], [["-2"]]])
    examples, notes = imported(items, target)
    assert len(examples) == 4
    assert "behind different texts" in next(iter(notes.skipped))


@pytest.mark.parametrize("worst", ["-inf", "-1e999"])
def test_a_choice_that_is_ruled_out(worst: str, tmp_path: Path) -> None:
    """-inf is the least likely choice: the answer is the likeliest of the others, and JSON says null for it."""
    path = log("lm", "small", "demo_choice")
    first = rows(path)[0]
    least = min(range(len(first["resps"])), key=lambda i: float(first["resps"][i][0][0]))
    before = imported(items, path)[0]["demo_choice-0"].answers["small"]
    first["resps"][least][0][0] = worst
    copy = rewritten(path, tmp_path / path.name, resps=first["resps"])
    shutil.copy(*path.parent.glob("results_*.json"), tmp_path)
    examples, notes = imported(items, copy)
    assert (len(examples), notes.skipped) == (len(rows(path)), {})
    answer = examples["demo_choice-0"].answers["small"]
    assert answer["text"] == before["text"]
    assert before["logprob"] < answer["logprob"] <= 0
    assert [i for i, value in enumerate(answer["choice_logprobs"]) if value is None] == [least]


@pytest.mark.parametrize("value", [["nan", "False"], ["inf", "True"], [float("-inf"), False], [None, False]])
def test_likelihoods_that_are_no_numbers(value: list[Any], tmp_path: Path) -> None:
    """The example is left out and counted; the file's others are imported."""
    path = log("lm", "small", "demo_choice")
    resps = rows(path)[0]["resps"]
    resps[0][0] = value
    examples, notes = imported(items, rewritten(path, tmp_path / "x.jsonl", resps=resps))
    assert len(examples) == len(rows(path)) - 1
    (line,) = notes.lines()
    assert line.startswith("left out: 1, the likelihoods of its choices are not numbers, so that none was chosen: ")
    assert "x.jsonl:1: doc_id 0" in line
    every = [[["-inf", "False"]] for _ in resps]
    assert len(imported(items, rewritten(path, tmp_path / "x.jsonl", resps=every))[0]) == len(rows(path)) - 1


def test_the_shape_before_0_4_3(tmp_path: Path) -> None:
    """Arguments were lists, likelihoods numbers, and neither filter nor metrics were named."""
    row = rows(log("lm", "small", "demo_choice"))[0]
    row["arguments"] = [[a["arg_0"], a["arg_1"]] for a in row["arguments"].values()]
    row["resps"] = [[[float(r[0][0]), True]] for r in row["resps"]]
    del row["filter"], row["metrics"]
    path = tmp_path / "samples_old_2024-05-01T10-00-00.000000.jsonl"
    path.write_text(json.dumps(row | {"target": 1}))
    examples, _ = imported(items, path)
    now, _ = imported(items, log("lm", "small", "demo_choice"))
    (answer,) = examples["old-0"].answers.values()
    assert answer == now["demo_choice-0"].answers["small"]
    assert examples["old-0"].reference == "17"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"doc_id": None}, "1: doc_id: is missing"),
        ({"arguments": "x"}, "1: arguments: must be an object or a list, got text"),
        ({"resps": []}, "resps: 0 replies to 1 requests"),
        ({"resps": [[1.5]]}, "[0]: must be text"),
        ({"target": {}}, "target: must be text or a number"),
    ],
)
def test_another_shape_is_an_error(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    """It names file, line and field."""
    path = rewritten(log("lm", "small", "demo_sums"), tmp_path / "x.jsonl", **change)
    with pytest.raises(RecordingError) as error:
        imported(items, path)
    assert message in str(error.value)
    assert "lm-evaluation-harness 0.4" in str(error.value)


def test_several_right_answers(tmp_path: Path) -> None:
    """The harness makes a text of a list; it is a list again."""
    path = rewritten(log("lm", "small", "demo_repeats"), tmp_path / "x.jsonl", target="['17', 'seventeen']")
    assert imported(items, path)[0]["x-0"].reference == ["17", "seventeen"]


def test_a_metric_that_is_no_quality(tmp_path: Path) -> None:
    """It is noted, and the answer is not graded."""
    path = rewritten(log("lm", "small", "demo_repeats"), tmp_path / "x.jsonl", metrics=["bleu"], bleu=["a", "b"])
    examples, notes = imported(items, path)
    assert next(iter(examples["x-0"].answers.values()))["quality"] is None
    assert "no quality: the metric 'bleu' is not a figure in [0, 1]" in notes.noted
    assert "no metric is called 'rouge', but: exact_match" in next(
        iter(imported(items, log("lm", "small", "demo_sums"), score="rouge")[1].noted)
    )
