"""The command line: what it prints, where, and how it exits."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from cascade.cli import main

FILE = """version: 1
models:
  small: {provider: scripted, answers: ["51"]}
  unsure: {provider: scripted, answers: ["perhaps"]}
  slow: {provider: openai, model: gpt-4o-mini, timeout_s: 60}
policies:
  default:
    tiers: [{model: small, accept_at: 0, judges: [schema, rules, {use: self_consistency, samples: 2}]}]
  unjudged:
    when_unsure: raise
    tiers: [{model: small, accept_at: 0, judges: [schema, rules]}]
  doubtful:
    when_unsure: raise
    tiers: [{model: unsure, accept_at: 0.9}]
  hasty:
    deadline_s: 30
    tiers: [{model: slow, accept_at: 0.9}, {model: slow, name: last, accept_at: 0}]
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A policy file with scripted models."""
    path = tmp_path / "policies.yaml"
    path.write_text(FILE)
    return str(path)


def test_run_prints_the_answer_and_tells_how_it_came(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Only the text goes to standard output, so that it can be piped."""
    assert main(["run", "--policy-file", file, "What is 17 * 3?"]) == 0
    out, err = capsys.readouterr()
    assert out == "51\n"
    assert "— accepted, confidence 1.000 (uncalibrated), tier small (small)" in err
    assert "small: accepted; schema -, rules -, self_consistency 1.000" in err


def test_run_says_that_no_judge_scored_the_answer(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is returned, even where the policy raises on an unsure answer, but not accepted."""
    assert main(["run", "--policy-file", file, "--policy", "unjudged", "What is 17 * 3?"]) == 1
    out, err = capsys.readouterr()
    assert out == "51\n"
    assert "NOT accepted (last_tier: no judge scored it), confidence 0.500 (uncalibrated)" in err


def test_run_reads_standard_input(file: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the prompt is a dash."""
    monkeypatch.setattr("sys.stdin", io.StringIO("What is 17 * 3?"))
    assert main(["run", "--policy-file", file, "-"]) == 0
    assert capsys.readouterr().out == "51\n"


def test_json_holds_everything(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The result with its attempts and verdicts; a schema from a file fills ``parsed``."""
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "integer"}')
    assert main(["run", "--policy-file", file, "--schema", str(schema), "--json", "17 * 3?"]) == 0
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (printed["text"], printed["parsed"], printed["accepted"], printed["cost_usd"]) == ("51", 51, True, None)
    assert [v["judge"] for v in printed["attempts"][0]["verdicts"]] == ["schema", "rules", "self_consistency"]


def test_what_is_not_accepted_exits_with_1(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where the policy raises: the best answer is shown all the same."""
    assert main(["run", "--policy-file", file, "--policy", "doubtful", "17 * 3?"]) == 1
    out, err = capsys.readouterr()
    assert out == "perhaps\n"
    assert "NOT accepted (unsure)" in err


def test_gate_scores_an_answer_from_elsewhere(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By the judges of the tier; a refusal is not accepted."""
    assert main(["gate", "--policy-file", file, "--answer", "51", "17 * 3?"]) == 0
    assert main(["gate", "--policy-file", file, "--answer", "I'm sorry, I can't help with that.", "17 * 3?"]) == 1
    assert "refusal" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policy", "defualt"], "did you mean 'default'"),
        (["--schema", "none.json"], "none.json"),
        (["--budget-usd", "-1"], "budget_usd must be 0 or more"),
    ],
)
def test_mistakes_exit_with_2(file: str, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    """In one line, without a traceback."""
    assert main(["run", "--policy-file", file, *arguments, "q"]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.startswith("cascade: ")


def test_check_of_one_policy_leaves_the_others_out(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Their models' missing keys are no warnings of it; an unknown name is an error with the nearest one."""
    assert main(["check", "--strict", "--policy", "default", file]) == 0
    out = capsys.readouterr().out
    assert "default  (hash" in out
    assert "hasty" not in out
    assert main(["check", "--strict", "--policy", "hasty", file]) == 1
    assert main(["check", "--policy", "hastly", file]) == 2
    assert "unknown policy 'hastly'; did you mean 'hasty'? Known: " in capsys.readouterr().err


def test_check_prints_the_ladders_and_warns(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What a call costs, unknown where it is; and a tier that could use up the whole deadline."""
    assert main(["check", file]) == 0
    out = capsys.readouterr().out
    assert "3 models, 4 policies, valid" in out
    assert "scripted:small" in out
    assert "cost per call: unknown" in out
    assert out.count("one slow response can use up the deadline: timeout_s is 60, deadline_s 30") == 1


def test_schema_prints_the_schema_of_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    """As editors read it."""
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "PolicyFile"
