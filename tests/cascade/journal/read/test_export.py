"""What leaves a journal: JSON Lines, Parquet, and recordings that a replay reads."""

import asyncio
import json
import os
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cascade import Answer, Cascade, JournalError, Policy, ScriptedModel, Usage
from cascade.cli import main
from cascade.journal.read.commands import moment
from cascade.journal.read.export import export
from evals import recording
from evals.replay.command import main as replay
from judges import Prompt
from tests.cascade.journal.cascades import BEST, POOR, SURE, cascade, records


async def test_jsonl_holds_everything(url: str, tmp_path: Path) -> None:
    """A line a record, filtered by policy, time and feedback."""
    async with cascade(url) as c:
        first = await c.arun("a", tags={"user": "ana"})
        await c.arun("b")
        await c.afeedback(first.run_id, quality=1.0, note="yes")
    out = tmp_path / "out.jsonl"
    assert main(["journal", "export", "--journal", url, str(out)]) == 0
    a, b = map(json.loads, out.read_text().splitlines())
    assert a["run_id"] == first.run_id
    assert a["tags"] == {"user": "ana"}
    assert a["feedback"][0]["note"] == "yes"
    assert [x["tier"] for x in a["attempts"]] == ["cheap", "premium"]
    assert "prompt" not in a
    assert b["feedback"] == []
    for options, count in (
        (["--graded"], 1),
        (["--policy", "default"], 2),
        (["--policy", "other"], 0),
        (["--since", "1h"], 2),
        (["--until", "1h"], 0),
        (["--since", "2020-01-01", "--until", "2999-12-31T23:59+02:00"], 2),
    ):
        assert main(["journal", "export", "--journal", url, *options, str(out)]) == 0
        assert len(out.read_text().splitlines()) == count, options


async def test_jsonl_to_standard_output(url: str, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """ "-" writes lines that another program can read."""
    async with cascade(url) as c:
        result = await c.arun("a")
    assert main(["journal", "export", "--journal", url, "-"]) == 0
    assert json.loads(capsysbinary.readouterr().out)["run_id"] == result.run_id


async def test_parquet_holds_columns(url: str, tmp_path: Path) -> None:
    """Typed columns; unknown is null; times are timestamps; what is nested is JSON."""
    pq = pytest.importorskip("pyarrow.parquet")
    async with cascade(url, SURE, BEST) as c:
        first = await c.arun("a", tags={"n": 1})
        await c.afeedback(first.run_id, quality=0.5)
        await c.arun("b")
    out = tmp_path / "out.parquet"
    assert main(["journal", "export", "--journal", url, "--format", "parquet", str(out)]) == 0
    table = pq.read_table(out)
    assert table.num_rows == 2
    a, b = table.to_pylist()
    (record, _) = records(url)
    assert a["started"] == datetime.fromtimestamp(round(record.started * 1e6) / 1e6, UTC)
    assert (a["run_id"], a["accepted"], a["quality"], json.loads(a["tags"])) == (first.run_id, True, 0.5, {"n": 1})
    assert (b["quality"], b["premium_usd"], b["error"], b["prompt"]) == (None, None, None, None)
    assert json.loads(b["attempts"])[0]["tier"] == "cheap"


def test_an_export_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    """A file is replaced as a whole or not at all, and no part of one is left behind."""
    out = tmp_path / "out.jsonl"
    out.write_text("old")

    def broken() -> Any:
        raise RuntimeError("the connection broke")
        yield

    with pytest.raises(RuntimeError):
        export(broken(), "jsonl", str(out))
    assert out.read_text() == "old"
    assert list(tmp_path.iterdir()) == [out]
    with pytest.raises(JournalError, match="name one"):
        export([], "parquet", "-")


def test_an_export_replaces_files_only(tmp_path: Path) -> None:
    """Never a device or pipe, whose place a file of root's would take; what people asked is for its owner's eyes."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="is a pipe or device"):
        export([], "jsonl", str(tmp_path / "pipe"))
    assert (tmp_path / "pipe").is_fifo()
    export([], "jsonl", str(tmp_path / "new"))
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600


def graded_models(rng: random.Random) -> dict[str, ScriptedModel]:
    """Two models that add: the small one is right less often, and less sure where it is wrong."""

    def small(prompt: Prompt, request: Any) -> Answer:
        a, b = map(int, prompt.text.split("+"))
        right = (a * 7 + b) % 5 != 0
        text = str(a + b if right else a + b + 1)
        logprob = -rng.uniform(0.01, 0.3) if right else -rng.uniform(0.2, 2.0)
        return Answer(text, finish_reason="stop", mean_logprob=logprob, usage=Usage(20, 3), cost_usd=1e-5)

    def large(prompt: Prompt, request: Any) -> Answer:
        a, b = map(int, prompt.text.split("+"))
        return Answer(str(a + b), finish_reason="stop", mean_logprob=-0.01, usage=Usage(20, 3), cost_usd=1e-3)

    return {"small": ScriptedModel("small", small), "large": ScriptedModel("large", large)}


async def test_a_replay_reads_the_recording(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Runs shadowed by a second policy, graded by feedback, become a recording of both models, and a replay runs on it."""
    models = graded_models(random.Random(1))
    for model in ("small", "large"):
        tier = {"name": model, "model": model, "accept_at": 0, "judges": ["rules", "logprob"]}
        async with Cascade(Policy.model_validate({"tiers": [tier], "journal_text": True}), models=models, journal=url) as c:
            for a in range(20):
                for b in range(15):
                    result = await c.arun(f"{a} + {b}", system="Add.")
                    await c.afeedback(result.run_id, quality=float(result.text == str(a + b)))
    out = tmp_path / "runs.jsonl.gz"
    plain = tmp_path / "runs.jsonl"
    assert main(["journal", "export", "--journal", url, "--format", "recording", "--graded", str(plain)]) == 0
    examples = list(recording.read(plain))
    assert len(examples) == 300
    assert sum(e.answers["small"]["quality"] for e in examples) == 240
    assert all(e.answers["large"]["quality"] == 1.0 for e in examples)
    (one,) = [e for e in examples if e.to_prompt().text == "3 + 4"]
    assert one.to_prompt().messages[0] == {"role": "system", "content": "Add."}
    assert one.answers["large"]["cost_usd"] == 1e-3
    assert one.answers["large"]["usage"] == {"input_tokens": 20, "output_tokens": 3}
    assert one.answers["large"]["verdicts"]["logprob"] == pytest.approx(0.99, abs=0.01)
    recording.write(out, examples)
    capsys.readouterr()
    arguments = [str(out), "--tiers", "small,large", "--max-loss", "0.1", "--delta", "0.2"]
    assert await asyncio.to_thread(replay, arguments) == 0  # it has an event loop of its own
    output = capsys.readouterr().out
    assert "small" in output
    assert "large" in output


async def test_an_export_says_what_its_rows_are(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tags become tasks, escalated rows are marked, sampled rows state their probability."""
    answers = {"sure": SURE, "unsure": POOR}
    async with cascade(url, lambda p, r: answers[p.text], BEST, journal_text=True) as c:
        await c.arun("sure", tags={"team": "search"})
        await c.arun("unsure")
        await c.arun("sure", policy="default/premium", tags={"sampling_probability": 0.05})
    out = tmp_path / "r.jsonl"

    def rows(*options: str) -> list[dict[str, Any]]:
        assert main(["journal", "export", "--journal", url, "--format", "recording", *options, str(out)]) == 0
        return [json.loads(line) for line in out.read_text().splitlines()]

    first, second = rows("--policy", "default", "--task-tag", "team")
    assert (first["task"], first["sampling_probability"], "escalated" in first) == ("search", 0.05, False)
    assert set(first["answers"]) == set(second["answers"]) == {"small", "large"}
    assert (second["task"], second["escalated"], "sampling_probability" in second) == ("default", True, False)
    async with cascade(url, SURE, BEST, journal_text=True) as c:
        await c.arun("cheap is enough")
    assert [len(row["answers"]) for row in rows()] == [2, 2, 1]
    assert {row["task"] for row in rows()} == {"default"}
    assert f"record {out} --missing" in capsys.readouterr().err
    complete = rows("--complete")
    following = capsys.readouterr().err
    assert "--missing" not in following  # nothing is
    assert f"grade {out} " in following
    assert [row["prompt"][0]["content"] for row in complete] == ["sure", "unsure"]
    assert [row.get("incomplete_left_out") for row in complete] == [None, 1]
    assert main(["journal", "export", "--journal", url, "--complete", str(out)]) == 2


async def test_feedback_grades_every_equal_answer(url: str, tmp_path: Path) -> None:
    """It grades equal answers of any run and any model; other answers stay null."""
    async with cascade(url, POOR, BEST, journal_text=True) as c:
        result = await c.arun("What is 6 * 7?")
        await c.afeedback(result.run_id, quality=0.0)
        await c.afeedback(result.run_id, quality=1.0)
    async with cascade(url, SURE, BEST, journal_text=True) as c:
        await c.arun("What is 6 * 7?")
        await c.agate("What is 6 * 7?", "no run")
    async with cascade(url, SURE, BEST) as c:
        await c.arun("without text")
    assert export(records(url), "recording", str(tmp_path / "r.jsonl")) == 1
    (example,) = recording.read(tmp_path / "r.jsonl")
    assert example.task == "default"
    assert {m: (a["text"], a["quality"]) for m, a in example.answers.items()} == {"small": ("42", 1.0), "large": ("42", 1.0)}
    async with cascade(url, POOR, POOR, journal_text=True) as c:
        await c.arun("another")
    export(records(url), "recording", str(tmp_path / "r.jsonl"))
    assert {a["quality"] for e in recording.read(tmp_path / "r.jsonl") for a in e.answers.values()} == {1.0, None}


async def test_what_judges_asked_is_their_cost(url: str, tmp_path: Path) -> None:
    """An answer's cost excludes its judges; the requests of a judge are listed with its verdict."""
    async with cascade(url, SURE, BEST, "rules", {"use": "self_consistency", "samples": 3}, journal_text=True) as c:
        await c.arun("What is 6 * 7?", schema={"type": "integer"}, tools=[{"type": "function", "function": {"name": "f"}}])
    export(records(url), "recording", str(tmp_path / "r.jsonl"))
    (example,) = recording.read(tmp_path / "r.jsonl")
    answer = example.answers["small"]
    assert answer["cost_usd"] == 1e-5
    assert answer["verdict_cost_usd"]["self_consistency"] == pytest.approx(1e-5 * 3)
    assert answer["verdicts"]["self_consistency"] == 1.0
    assert example.schema == {"type": "integer"}
    assert example.tools[0]["function"]["name"] == "f"


def test_times_of_the_command_line() -> None:
    """Dates and times are UTC unless they name a zone; spans count back from now."""
    assert moment(None, 1e9) is None
    assert moment("36h", 1e9) == 1e9 - 36 * 3600
    assert moment("1.5d", 1e9) == 1e9 - 1.5 * 86_400
    assert moment("1970-01-02", 1e9) == 86_400
    assert moment("1970-01-01T02:00+02:00", 1e9) == 0
    for wrong in ("yesterday", "7y", "-3d", ""):
        with pytest.raises(ValueError, match="is not a time"):
            moment(wrong, 1e9)
