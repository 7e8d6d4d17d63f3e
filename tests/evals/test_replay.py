"""Replay: thresholds from the train rows, figures from the test rows, errors in one line."""

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from cascade import policy_file
from evals.replay import main

RECORDINGS = Path(os.environ.get("CASCADE_RECORDINGS", Path(__file__).parents[3] / "shared" / "recordings"))
SMALL = ["--judges", "logprob"]


def recording(path: Path, n: int = 400, **change: Any) -> str:
    rng = random.Random(1)
    rows = []
    for i in range(n):
        right = rng.random() < 0.6
        cheap = {"text": "a", "quality": float(right), "logprob": -0.1 if right else -2.0, "cost_usd": 0.001}
        rows.append({"id": str(i), "prompt": f"q{i}", "answers": {
            "cheap": {**cheap, **change}, "dear": {"text": "b", "quality": 1.0, "cost_usd": 0.01, "latency_s": 1.0},
        }})  # fmt: skip
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return str(path)


def test_perfect_signal_gives_premium_quality_for_less(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where log-probabilities tell right from wrong, the certified cascade keeps the quality at a lower cost."""
    out, report = tmp_path / "out.json", tmp_path / "page.html"
    told = ["--json", str(out), "--report", str(report), "--max-loss", "0.05"]
    assert main([recording(tmp_path / "r.jsonl"), "--tiers", "cheap,dear", *told, *SMALL]) == 0
    data = json.loads(out.read_text())
    assert data["chosen"]["certificate"]["certified"]
    assert data["chosen"]["tiers"] == ["cheap", "dear"]
    assert data["test"]["quality"] == 1.0
    assert 0.1 < data["test"]["cost_ratio"] < 0.8
    assert data["test"]["interval"][0] <= data["test"]["quality_difference"] <= data["test"]["interval"][1]
    assert {"cheap", "dear", "oracle", "random mixing", "prompt-only router", "thresholds of 0.7"} <= set(data["baselines"])
    assert data["calibration"]["cheap"]["after"]["ece"][0] < data["calibration"]["cheap"]["before"]["ece"][0]
    assert "CERTIFIED" in capsys.readouterr().out
    assert "<!doctype html>" in report.read_text().lower()


def test_the_calibration_that_is_written_is_the_one_that_runs(tmp_path: Path) -> None:
    """A policy file that names it loads with its ladder and threshold; the same replay writes the same file."""
    out, figures = tmp_path / "calibration.json", tmp_path / "figures.json"
    arguments = [recording(tmp_path / "r.jsonl"), "--tiers", "cheap,dear", "--max-loss", "0.05", "--out", str(out), *SMALL]
    assert main([*arguments, "--json", str(figures)]) == 0
    before = out.read_bytes()
    assert main(arguments) == 0
    assert out.read_bytes() == before
    (tmp_path / "policies.yaml").write_text(
        "models:\n"
        "  a: {provider: recorded, recording: r.jsonl, model: cheap}\n"
        "  b: {provider: recorded, recording: r.jsonl, model: dear}\n"
        "policies:\n"
        "  default: {calibration: calibration.json, tiers: [{model: a, judges: [logprob]}, {model: b, judges: [logprob]}]}\n"
    )
    policy = policy_file.load(tmp_path / "policies.yaml").policies["default"]
    assert [t.accept_at for t in policy.tiers[:-1]] == json.loads(figures.read_text())["chosen"]["thresholds"]


@pytest.mark.parametrize(
    ("change", "arguments", "words"),
    [
        ({}, ["--tiers", "cheep,dear"], "nearest: cheap"),
        ({}, ["--tiers", "dear,dear"], "twice"),
        ({}, ["--max-loss", "2"], "--max-loss"),
        ({}, ["--judges", "logprop"], "logprob"),
        ({"quality": None}, [], "not graded: 0, 1, 2, 3, 4 and 395 more"),
        ({}, ["--delta", "0"], "--delta"),
        ({}, ["--out", "nowhere/c.json"], "create it first"),
        ({}, ["--judges", "logprob:min"], "option=value"),
        ({"cost_usd": None}, SMALL, "cannot be chosen by cost"),
        ({"quality": 3}, [], "quality"),
    ],
)
def test_wrong_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], arguments: list[str], words: str
) -> None:
    """Wrong input exits with 2 and one line that says what is wrong."""
    assert main([recording(tmp_path / "r.jsonl", **change), *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_missing_file(capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not there is an error of one line."""
    assert main(["nowhere.jsonl"]) == 2
    assert "nowhere.jsonl" in capsys.readouterr().err


def test_starter(capsys: pytest.CaptureFixture[str]) -> None:
    """Without arguments the shipped recording is replayed."""
    assert main([]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("cascade", "oracle", "smollm2-135m-instruct", "95 % interval"))


@pytest.mark.parametrize(
    ("name", "tiers"),
    [
        ("mmlu", "gpt-4o-mini,qwen2.5-72b-instruct,gpt-4o"),
        ("triviaqa", "gpt-4o-mini,qwen2.5-72b-instruct,gpt-4o"),
        ("date", "gpt-3.5:cot1_40,gpt-4:cot1"),
        ("cruxeval", "Meta-Llama-3.1-8B-Instruct,gpt-4o-mini-2024-07-18,gpt-4o-2024-08-06"),
    ],
)
def test_real_recordings(name: str, tiers: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Recordings of real models replay from end to end."""
    path = RECORDINGS / f"{name}.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"{path} is not there; set CASCADE_RECORDINGS")
    assert main([str(path), "--tiers", tiers]) == 0
    assert "vs premium" in capsys.readouterr().out
