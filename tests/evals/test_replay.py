"""Replay: thresholds from the train rows, figures from the test rows, errors in one line."""

import json
import os
import random
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest
from evals.grid import Scored, candidates, choose, outcome
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.replay import main

RECORDINGS = Path(os.environ.get("CASCADE_RECORDINGS", Path(__file__).parents[3] / "shared" / "recordings"))
SMALL = ["--judges", "logprob"]


def recording(path: Path, n: int = 40, **change: Any) -> str:
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


score = st.builds(
    lambda c, v, q, usd, bare: Scored(c, v, q, usd + 0.5, bare, usd),
    st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]),
    st.booleans(),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from([0.0, 1.0, 2.0, 4.0]),
    st.sampled_from([0.0, 1.0]),
)


@given(st.lists(st.tuples(score, score, score), min_size=1, max_size=6), st.sampled_from([0.0, 0.1, 0.5]))
@settings(max_examples=60, deadline=None)
def test_choice_equals_brute_force(rows: list[tuple[Scored, ...]], loss: float) -> None:
    """The chosen ladder costs what an enumeration by the plain rule finds, and keeps the quality."""
    floor = sum(r[2].bare_quality for r in rows) / len(rows) - loss - 1e-12
    best = float("inf")
    for size in (1, 2, 3):
        for tiers in combinations(range(3), size):
            grids = [candidates([r[t].confidence for r in rows]) for t in tiers[:-1]]
            for vector in product(*grids):
                got = [outcome(r, tiers, vector) for r in rows]
                if sum(q for q, _, _ in got) / len(rows) >= floor:
                    best = min(best, sum(usd for _, usd, _ in got) / len(rows))
    chosen = choose(rows, 3, loss)
    assert chosen.cost_usd == pytest.approx(best)
    assert chosen.quality >= floor
    again = [outcome(r, chosen.tiers, chosen.thresholds) for r in rows]
    assert sum(usd for _, usd, _ in again) / len(rows) == pytest.approx(chosen.cost_usd)


def test_perfect_signal_gives_premium_quality_for_less(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where log-probabilities tell right from wrong, the cascade keeps the quality at a lower cost."""
    out = tmp_path / "out.json"
    code = main([recording(tmp_path / "r.jsonl"), "--tiers", "cheap,dear", "--json", str(out), *SMALL])
    assert code == 0
    figures = {item["name"]: item for item in json.loads(out.read_text())["lines"]}
    assert figures["cascade"]["quality"] == 1.0
    assert figures["cascade"]["relative_cost"] < 1.0
    assert figures["cascade"]["mean_s"] is None
    assert "n = 20 train, 20 test" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "arguments", "words"),
    [
        ({}, ["--tiers", "cheep,dear"], "nearest: cheap"),
        ({}, ["--tiers", "dear,dear"], "twice"),
        ({}, ["--max-loss", "2"], "--max-loss"),
        ({}, ["--judges", "logprop"], "logprob"),
        ({"quality": None}, [], "not graded"),
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
    assert "cascade - premium" in capsys.readouterr().out
