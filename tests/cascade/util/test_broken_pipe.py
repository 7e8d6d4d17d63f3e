"""Commands whose reader goes away."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = [
    ["cascade", "schema"],
    ["cascade", "--help"],
    ["evals.replay", "--help"],
    ["evals.grade", "--help"],
    ["evals.record", "--help"],
    ["evals.recording", "show", "rec.jsonl"],
    ["evals.grade", "rec.jsonl", "--grader", "text"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_reader_that_goes_away(command: list[str], tmp_path: Path) -> None:
    """A closed pipe ends the command without a traceback or message."""
    row = {"id": "a", "prompt": "q", "reference": "a", "answers": {"m": {"text": "a", "quality": None}}}
    (tmp_path / "rec.jsonl").write_text(json.dumps(row) + "\n")
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    with subprocess.Popen(
        [sys.executable, "-m", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read().decode() == ""
    assert process.returncode == 0
