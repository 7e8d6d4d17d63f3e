"""The command that grades a recording: by task, once, with its reasons where it cannot."""

import json
from pathlib import Path
from typing import Any

import pytest

from evals import grade
from evals.recording import read


def recording(folder: Path, **changes: Any) -> Path:
    """Two tasks, two models; one example without a reference, one answer with samples."""
    rows = [
        {"id": "a", "task": "sums", "prompt": "2 + 2?", "reference": 4,
         "answers": {"m": {"text": "4", "quality": None, "samples": [{"text": "5"}, {"text": "four: 4"}]},
                     "n": {"text": "5"}}},
        {"id": "b", "task": "towns", "prompt": "Capital?", "reference": "Paris", "mine": [1],
         "answers": {"m": {"text": "paris."}, "n": {"text": "Rome"}}},
        {"id": "c", "task": "towns", "prompt": "Another?", "answers": {"m": {"text": "Oslo"}}},
    ]  # fmt: skip
    rows[0].update(changes)
    path = folder / "rec.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def qualities(path: Path) -> dict[tuple[str, str], Any]:
    """Each answer's quality by example and model."""
    return {(e.id, m): a.get("quality") for e in read(path) for m, a in e.answers.items()}


def test_each_task_has_its_grader(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Answers and samples are graded, the grader is kept with them, and all else in the file stays."""
    path = recording(tmp_path)
    assert grade.main([str(path), "--grader", "text", "--grader", "sums=number:tolerance=0.5"]) == 0
    assert qualities(path) == {("a", "m"): 1, ("a", "n"): 0, ("b", "m"): 1, ("b", "n"): 0, ("c", "m"): None}
    first, second, _ = read(path)
    assert [s["quality"] for s in first.answers["m"]["samples"]] == [0.0, 1.0]
    assert first.answers["m"]["grader"] == "number:tolerance=0.5@3"
    assert second.answers["m"]["grader"] == "text@2"
    assert second.raw["mine"] == [1]
    said = capsys.readouterr().out
    assert "m  sums" in said
    assert "not graded: 1, no reference: c" in said


def test_what_has_this_grade_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second run changes nothing; --regrade and another grader do."""
    path = recording(tmp_path)
    assert grade.main([str(path), "--grader", "text"]) == 0
    changed = path.read_text().replace('"quality": 1.0', '"quality": 0.25')
    path.write_text(changed)
    assert grade.main([str(path), "--grader", "text"]) == 0
    assert "had this grade already" in capsys.readouterr().out
    assert path.read_text() == changed
    assert grade.main([str(path), "--grader", "text", "--regrade"]) == 0
    assert qualities(path)["b", "m"] == 1.0
    assert grade.main([str(path), "--grader", "exact"]) == 0
    assert qualities(path)["b", "m"] == 0.0


def test_only_the_models_that_were_named(tmp_path: Path) -> None:
    """--models leaves the others' answers as they were; --out leaves the recording as it was."""
    path = recording(tmp_path)
    before = path.read_bytes()
    target = tmp_path / "graded.jsonl.gz"
    assert grade.main([str(path), "--grader", "text", "--models", "n", "--out", str(target)]) == 0
    assert path.read_bytes() == before
    assert qualities(target)["b", "n"] == 0.0
    assert qualities(target)["b", "m"] is None


@pytest.mark.parametrize(
    ("arguments", "changes", "said"),
    [
        (["--grader", "number"], {"reference": "many"}, "rec.jsonl:1: reference: 'many' is no number; write digits"),
        (["--grader", "nummer"], {}, "did you mean 'number'"),
        (["--grader", "text", "--grader", "exact"], {}, "a second grader for all tasks"),
        (["--grader", "town=text"], {}, "no task 'town'; it has: sums, towns"),
        (["--grader", "text", "--models", "o"], {}, "no model 'o'; it has: m, n"),
        (["--grader", "text", "--concurrency", "0"], {}, "--concurrency must be 1 or more"),
        (["--grader", "text"], {"id": "b"}, "rec.jsonl:2: id: 'b' stands on line 1 too"),
    ],
)
def test_mistakes_write_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], changes: dict[str, Any], said: str
) -> None:
    """The error names what is wrong, and the file is as it was."""
    path = recording(tmp_path, **changes)
    before = path.read_bytes()
    assert grade.main([str(path), *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "nothing was written" in error
    assert path.read_bytes() == before


def test_a_judge_model_of_the_policy_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is asked once for each answer, and what it said is kept beside the recording for the next time."""
    path, policies = recording(tmp_path), tmp_path / "policies.yaml"
    policies.write_text(
        "models: {judge: {provider: scripted, answers: ['9', '1']}}\npolicies: {default: {tiers: [{model: judge}]}}\n"
    )
    command = [str(path), "--grader", "sums=model:use=judge", "--policy-file", str(policies), "--concurrency", "1"]
    assert grade.main(command) == 0
    assert {qualities(path)["a", "m"], qualities(path)["a", "n"]} <= {0.0, 1.0}
    kept = tmp_path / ".cascade" / "grades.jsonl"
    lines = kept.read_text()
    assert len(lines.splitlines()) == 3  # a sample says the same as an answer
    assert grade.main([*command, "--regrade"]) == 0
    assert kept.read_text() == lines
    assert "sums" in capsys.readouterr().out
