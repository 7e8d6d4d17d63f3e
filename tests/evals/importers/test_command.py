"""The command: several logs as one recording, and what can be done with it."""

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from evals.grade.command import main as grade
from evals.recording import read
from evals.recording.command import main
from evals.replay import command as replay
from tests.evals.importers.logs import FIXTURES, changed, run

LM = FIXTURES / "lm_eval" / "lm"
INSPECT = FIXTURES / "inspect_ai"
BATCH = FIXTURES / "openai_batch"
PRICES = ("--price", "small=0.1,0.4", "large=2,8")
SAMPLES = (*LM.glob("small/samples_*.jsonl"), *LM.glob("large/samples_*.jsonl"))
RENAMED = ("--model", "openai-api/local/small=small", "openai-api/local/large=large")
SENT = ("--input", BATCH / "small_input.jsonl", BATCH / "large_input.jsonl")
WAYS: dict[str, tuple[Any, ...]] = {
    "inspect_ai": (*INSPECT.glob("*.json"), *RENAMED, "--match", "prompt", *PRICES),
    "archive": (*INSPECT.glob("*.eval"), *RENAMED, *PRICES),
    "lm_eval": (*SAMPLES, *PRICES),
    "promptfoo": (
        FIXTURES / "promptfoo" / "first.json", "--model", "openai:chat:small=small", "the large one=large", *PRICES,
    ),
    "openai_batch": (BATCH / "small_output.jsonl", BATCH / "large_output.jsonl", *SENT, *PRICES),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_an_import_is_shown_and_replayed(way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both models' answers belong to the same examples, `show` prints them, and a replay runs them through the engine."""
    out = tmp_path / "rec.jsonl"
    assert run("inspect_ai" if way == "archive" else way, *WAYS[way], "--out", out) == 0
    output = capsys.readouterr().out
    examples = list(read(out))
    assert output.startswith(f"{len(examples)} examples written to {out}\n")
    assert "is unknown" not in output
    if way == "openai_batch":
        assert grade([str(out), "--grader", "number"]) == 0
    assert all(set(e.answers) == {"small", "large"} for e in examples)
    assert all(a["cost_usd"] > 0 for e in examples for a in e.answers.values())
    assert main(["show", str(out)]) == 0
    assert f"{len(examples)} examples" in capsys.readouterr().out
    graded = [e for e in read(out) if all(a["quality"] is not None for a in e.answers.values())]
    # A handful of rows bear no promise but that of a budget: what counts is that they go through the engine.
    figures = tmp_path / "figures.json"
    rows = tmp_path / "graded.jsonl"
    rows.write_text("".join(json.dumps(e.to_json()) + "\n" for e in graded))
    options = ["--tiers", "small,large", "--judges", "rules,logprob", "--max-loss", "0.9", "--json", str(figures)]
    assert replay.main([str(rows), *options]) == 0, capsys.readouterr().err
    assert json.loads(figures.read_text())["chosen"]["tiers"]


@pytest.mark.parametrize("way", WAYS)
def test_a_log_is_never_replaced(way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A recording cannot take the place of a log that it is made of, nor of what was sent."""
    format = "inspect_ai" if way == "archive" else way
    log = tmp_path / WAYS[way][0].name
    shutil.copy(WAYS[way][0], log)
    assert run(format, log, "--out", log) == 2
    assert f"--out: {log} is the log itself" in capsys.readouterr().err
    assert log.read_bytes() == WAYS[way][0].read_bytes()


@pytest.mark.parametrize("way", ["inspect_ai", "lm_eval", "promptfoo"])
def test_packed_logs(way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A gzipped log is read directly; one that was cut off, or is not UTF-8, is an error that says so."""
    log, out = WAYS[way][0], tmp_path / "rec.jsonl"
    packed = tmp_path / f"{log.name}.gz"
    packed.write_bytes(gzip.compress(log.read_bytes()))
    assert run(way, log, "--out", out) == 0
    plain = [list(e.answers.values()) for e in read(out)]
    assert run(way, packed, "--out", out) == 0
    assert [list(e.answers.values()) for e in read(out)] == plain
    packed.write_bytes(packed.read_bytes()[:-20])
    assert run(way, packed, "--out", out) == 2
    assert "the gzip data is cut off; copy the file again" in capsys.readouterr().err
    other = tmp_path / log.name
    other.write_bytes(log.read_bytes().replace(b"What is", "Qu'est-ce que \xe7a".encode("latin-1")))
    assert run(way, other, "--out", out) == 2
    assert "is not UTF-8 text; save it as UTF-8" in capsys.readouterr().err


def test_what_was_left_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With its reason and its places; what is still missing, with the option that gives it."""
    assert run("inspect_ai", INSPECT / "sums_small.json", "--out", tmp_path / "r.jsonl") == 0
    output = capsys.readouterr().out
    assert "left out: 2, the sample ended in an error: " in output
    assert "sums_small.json: sample 'sum-fails', epoch 1" in output
    assert "--price openai-api/local/small=IN,OUT gives it" in output


def test_what_is_missing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Answers without a grade, and logs whose ids have nothing in common, with the command or option that helps."""
    assert run("promptfoo", FIXTURES / "promptfoo" / "first.json", "--out", tmp_path / "r.jsonl") == 0
    assert "    2 of them have no quality; python -m evals.grade gives it" in (output := capsys.readouterr().out)
    assert "no answer of it" not in output
    data = json.loads((INSPECT / "sums_large.json").read_text())
    for sample in data["samples"]:
        sample["id"] = f"other-{sample['id']}"
    (tmp_path / "other.json").write_text(json.dumps(data))
    logs = (INSPECT / "sums_small.json", tmp_path / "other.json", "--out", tmp_path / "r.jsonl")
    assert run("inspect_ai", *logs) == 0
    note = "    6 examples have no answer of it, so that a replay leaves them out; --match prompt finds equal questions"
    assert capsys.readouterr().out.count(note) == 2
    assert run("inspect_ai", *logs, "--match", "prompt") == 0
    assert "no answer of it" not in capsys.readouterr().out


def test_nothing_to_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Is an error with the reasons; no file is written."""
    out = tmp_path / "r.jsonl"
    assert run("openai_batch", BATCH / "small_errors.jsonl", *SENT, "--out", out) == 2
    assert "nothing was written" in (error := capsys.readouterr().err)
    assert "batch_expired" in error
    assert not out.exists()


def test_ids_that_stand_for_other_prompts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """inspect_ai numbers samples after a shuffle, so that ids contradict each other; they are matched by prompt."""
    logs = (INSPECT / "choices_small.json", INSPECT / "choices_large.json")
    assert run("inspect_ai", *logs, "--out", tmp_path / "r.jsonl") == 2
    error = capsys.readouterr().err
    assert f"{logs[1]}: id 'choices-" in error
    assert f"has another prompt in {logs[0]}; give one of them another id; --match prompt distinguishes them" in error
    assert run("inspect_ai", *logs, "--out", tmp_path / "r.jsonl", "--match", "prompt") == 0
    examples = list(read(tmp_path / "r.jsonl"))
    assert len(examples) == 4
    assert all(len(e.answers) == 2 for e in examples)


def test_equal_prompts_under_other_ids(tmp_path: Path) -> None:
    """--match prompt gives them the first one's id, and another prompt with that id one of its own."""
    log = INSPECT / "sums_small.json"
    data = json.loads(log.read_text())
    data["eval"]["model"] = "other"
    swapped = {"sum-0": "sum-1", "sum-1": "sum-0", "sum-2": "new"}
    for sample in data["samples"]:
        sample["id"] = swapped.get(sample["id"], sample["id"])
        if sample["id"] == "sum-3":
            sample["messages"][1]["content"] = "What else?"
    (tmp_path / "other.json").write_text(json.dumps(data))
    assert run("inspect_ai", log, tmp_path / "other.json", "--match", "prompt", "--out", tmp_path / "r.jsonl") == 0
    examples = {e.id: e for e in read(tmp_path / "r.jsonl")}
    assert len(examples) == 7
    assert [len(examples[f"sums-sum-{i}"].answers) for i in range(5)] == [2, 2, 2, 1, 2]
    (other,) = (e for e in examples.values() if e.prompt == "What else?")
    assert other.id.startswith("sums-sum-3-")


def test_two_runs_of_one_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Contradict each other where they answer otherwise; a name for each file keeps both."""
    keys = ("samples", 0, "output", "completion")
    again = changed(INSPECT / "sums_small.json", tmp_path / "again.json", *keys, value="something else")
    logs = (INSPECT / "sums_small.json", again)
    assert run("inspect_ai", *logs, "--out", tmp_path / "r.jsonl") == 2
    assert f"is another one in {logs[0]}; rename the model" in capsys.readouterr().err
    assert run("inspect_ai", *logs, "--out", tmp_path / "r.jsonl", "--model", "one", "two") == 0
    assert all(set(e.answers) == {"one", "two"} for e in read(tmp_path / "r.jsonl"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--model", "a", "b"), "--model: 2 names for 1 files"),
        (("--model", "x=y"), "--model: no log has a model 'x'; they have: openai-api/local/small"),
        (("--model", "x=y", "z"), "--model: write OLD=NEW for every model"),
        (("--price", "small"), "write NAME=IN,OUT in USD per million tokens"),
        (("--price", "small=1"), "write NAME=IN,OUT"),
        (("--price", "small=1,-2"), "write NAME=IN,OUT"),
        (("--price", "small=1,nan"), "write NAME=IN,OUT"),
    ],
)
def test_options_that_cannot_be_meant(
    more: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error says how they are written; no file is."""
    assert run("inspect_ai", INSPECT / "sums_small.json", "--out", tmp_path / "r.jsonl", *more) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "r.jsonl").exists()


def test_one_name_for_two_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Would put their answers together; the error names them."""
    log = FIXTURES / "promptfoo" / "first.json"
    assert run("promptfoo", log, "--out", tmp_path / "r.jsonl", "--model", "one") == 2
    assert (
        f"{log}: holds the models openai:chat:small, the large one: rename them by --model OLD=NEW"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("format", ["inspect_ai", "lm_eval", "promptfoo", "openai_batch"])
@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b"\xff\xfe\x00", b'"text"', b"{}", b'{"version": 2}', b"[" * 100_000]
)
def test_files_of_another_kind(format: str, content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Are errors in one line that names the file, never a traceback, and leave an older recording as it was."""
    log, out = tmp_path / "log.json", tmp_path / "r.jsonl"
    log.write_bytes(content)
    out.write_text("an older recording")
    assert run(format, log, *SENT, "--out", out) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert str(log) in error or "nothing could be imported" in error
    assert out.read_text() == "an older recording"


def test_tokens_are_estimated_only_for_a_price(tmp_path: Path) -> None:
    """And are marked as such; a log that counts tokens keeps its own."""
    log = next(LM.glob("small/samples_demo_sums_*"))
    assert run("lm_eval", log, "--out", tmp_path / "r.jsonl", "--price", "small=1,2") == 0
    answer = next(read(tmp_path / "r.jsonl")).answers["small"]
    # 44 bytes asked, 18 answered, a token for four bytes and one more
    assert (answer["usage"], answer["usage_estimated"]) == ({"input_tokens": 12, "output_tokens": 5}, True)
    assert answer["cost_usd"] == pytest.approx((12 * 1 + 5 * 2) / 1e6)
    assert (
        run("inspect_ai", INSPECT / "choices_small.json", "--out", tmp_path / "r.jsonl", "--model", "s", "--price", "s=1,2")
        == 0
    )
    answer = next(read(tmp_path / "r.jsonl")).answers["s"]
    assert answer["cost_usd"] == pytest.approx(
        (answer["usage"]["input_tokens"] + 2 * answer["usage"]["output_tokens"]) / 1e6
    )
    assert "usage_estimated" not in answer
