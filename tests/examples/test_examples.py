"""The examples that need nothing but this package run as they are."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from cascade.data import STARTER_RECORDING
from evals.recording import read

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_custom_judge_vetoes_and_scores(capsys: pytest.CaptureFixture[str]) -> None:
    """An invented order is vetoed, and the answer that cites all of them is accepted."""
    runpy.run_path(str(EXAMPLES / "custom_judge.py"), run_name="__main__")
    first, second, last = capsys.readouterr().out.splitlines()
    assert first == "small: vetoed, cited_orders cites 1 unknown orders"
    assert second == "large: accepted, cited_orders 1.0"
    assert last.startswith("True Order #17")


def test_the_batch_script_answers_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every prompt has its line, also one that no model can answer; costs are known or null."""
    monkeypatch.delenv("CASCADE_POLICIES", raising=False)
    prompts = [example.prompt for example, _ in zip(read(STARTER_RECORDING), range(20), strict=False)]
    rows = [*({"prompt": prompt} for prompt in prompts), {"prompt": "never recorded"}]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    command = [sys.executable, str(EXAMPLES / "batch_script.py"), "in.jsonl", "out.jsonl"]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(EXAMPLES.parent)}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    answered = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["prompt"] for row in answered] == [row["prompt"] for row in rows]
    assert "error" in answered[-1]
    assert all(row["cost_usd"] > 0 and row["run_id"] for row in answered[:-1])
    assert "for people" in done.stderr


def test_every_example_is_run() -> None:
    """By a test of this folder, which names it."""
    tests = "".join(file.read_text("utf-8") for file in Path(__file__).parent.glob("test_*.py"))
    missing = [file.stem for file in EXAMPLES.glob("*.py") if file.stem not in tests]
    assert not missing


def test_every_example_is_described() -> None:
    """The table of examples/README.md is complete."""
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"]({file.name})" in text for file in EXAMPLES.glob("*.py"))
