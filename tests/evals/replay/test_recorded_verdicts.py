"""Verdicts of judges that are not installed here are replayed, by default and by name."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import judges
from evals.recording import Example, write
from evals.replay.command import main
from evals.replay.rows.recorded_verdicts import recorded_judges, verdict_names
from tests.evals.replay.synthetic import examples


def with_gate(example: Example, number: int) -> Example:
    """The row with a checker's verdict on the cheap answer that mostly knows whether it is right; a tenth has none."""
    answer = dict(example.answers["cheap"])
    if number % 10:
        right = float(answer["quality"]) if number % 7 else 1.0 - float(answer["quality"])
        answer |= {"verdicts": {"gate": 0.2 + 0.6 * right}, "verdict_cost_usd": {"gate": 1e-6}}
    bare = {name: value for name, value in answer.items() if name not in ("logprob", "token_logprobs", "samples")}
    return replace(example, answers={**example.answers, "cheap": bare})


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording with the verdicts of a judge called gate."""
    path = tmp_path_factory.mktemp("gate") / "r.jsonl"
    write(path, [with_gate(example, i) for i, example in enumerate(examples(300, 1))])
    return path


def replayed(path: Path, capsys: Any, *more: str) -> tuple[dict[str, Any], str]:
    """What ``--json`` holds, and the output."""
    target = path.with_suffix(".data.json")
    assert main([str(path), "--tiers", "cheap,dear", "--max-loss", "0.1", "--json", str(target), *more]) == 0
    output = capsys.readouterr()
    return json.loads(target.read_text()), output.out + output.err


@pytest.mark.parametrize("more", [(), ("--judges", "rules,gate")], ids=["default", "named"])
def test_verdicts_of_an_uninstalled_judge(
    recording: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, more: tuple[str, ...]
) -> None:
    """The judge is part of the cheap tier, its calibration needs a judge of that name, and nothing stays registered."""
    out = tmp_path / "calibration.json"
    data, output = replayed(recording, capsys, "--out", str(out), *more)
    assert data["chosen"]["judges"]["cheap"] == ["rules", "gate"]
    assert "not installed here: gate; the recorded verdicts are replayed" in output
    assert "gate" in out.read_text()
    assert "gate" not in judges.names()


def test_a_verdict_that_helps_is_worth_money(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the verdicts the certified ladder costs less than without."""
    with_verdicts, without = (
        replayed(recording, capsys, "--judges", names)[0]["chosen"]["usd_per_1000"] for names in ("rules,gate", "rules")
    )
    assert with_verdicts < 0.95 * without


def test_an_unknown_judge_without_verdicts_is_an_error(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A name that is neither installed nor recorded is still refused."""
    assert main([str(recording), "--tiers", "cheap,dear", "--max-loss", "0.1", "--judges", "rules,gaet"]) == 2
    assert "gaet" in capsys.readouterr().err


def test_names_and_registration() -> None:
    """Null verdicts and built-in judges' are not judges of one's own; an installed judge is not replaced."""
    row = Example("a", "q", {"m": {"text": "x", "verdicts": {"verifier": 0.5, "gate": 1.0, "none": None}}})
    assert verdict_names([row], "m") == ["gate"]
    with recorded_judges([row], ["m"]) as names:
        assert names == ["gate"]
        assert "gate" in judges.names()
        with recorded_judges([row], ["m"]) as inner:
            assert inner == []
        assert "gate" in judges.names()
    assert "gate" not in judges.names()
