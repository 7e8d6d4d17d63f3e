"""The command that grades a recording: by task, once, with its reasons where it cannot."""

import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cascade import Answer, ScriptedModel, Usage
from cascade.costs.prices import Pricer
from cascade.engine.model_handle import ModelHandle
from cascade.models.protocol import ModelError
from cascade.policy.schema import ModelSpec, PriceSpec
from evals.grade import command as grade
from evals.recording import read
from tests.workers import warm_python


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
    assert first.answers["m"]["grader"] == "number:tolerance=0.5@4"
    assert second.answers["m"]["grader"] == "text@2"
    assert second.raw["mine"] == [1]
    output = capsys.readouterr().out
    assert "m  sums" in output
    assert "not graded: 1, no reference: c" in output


@pytest.mark.parametrize(
    ("text", "quality"),
    [
        ('Sure:\n```json\n{"reasoning": "3 * 17", "answer": 51}\n```\nI added 17 three times.', 1),
        ('{"reasoning": "a guess", "answer": 50}\nNo: {"reasoning": "3 * 17", "answer": 51} (17 is prime)', 1),
        ('{"reasoning": "3 * 17", "answer": 51} and {"n": 7}', 1),
        ('{"reasoning": "of 51", "answer": 3}\nIt is 51.', 0),
        ('{"answer": "a broken', 0),
        ("It is 51.", 1),
    ],
)
def test_with_a_schema_the_json_is_graded(tmp_path: Path, text: str, quality: float) -> None:
    """A cascade returns the valid JSON alone, so that what stands around it has no part in the grade."""
    schema = {"type": "object", "required": ["reasoning", "answer"]}
    path = recording(tmp_path, schema=schema, reference=51, answers={"m": {"text": text}})
    assert grade.main([str(path), "--grader", "sums=number"]) == 0
    assert qualities(path)["a", "m"] == quality


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
    ("arguments", "changes", "message"),
    [
        (["--grader", "number"], {"reference": "many"}, "rec.jsonl:1: reference: 'many' is not a number; write digits"),
        (["--grader", "nummer"], {}, "did you mean 'number'"),
        (["--grader", "text", "--grader", "exact"], {}, "a second grader for all tasks"),
        (["--grader", "town=text"], {}, "no task 'town'; it has: sums, towns"),
        (["--grader", "text", "--models", "o"], {}, "no model 'o'; it has: m, n"),
        (["--grader", "regex"], {"reference": ""}, "rec.jsonl:1: reference: the pattern '' matches every reply"),
        (["--grader", "sums=code"], {}, "rec.jsonl:1: reference: the grader code needs a text of tests, got int"),
        (["--grader", "text", "--max-usd", "nan"], {}, "--max-usd must be 0 or more, got nan"),
        (["--grader", "text", "--concurrency", "0"], {}, "--concurrency must be 1 or more"),
        (["--grader", "text"], {"id": "b"}, "rec.jsonl:2: id: 'b' occurs on line 1 too"),
    ],
)
def test_mistakes_write_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], changes: dict[str, Any], message: str
) -> None:
    """The error names what is wrong, and the file is as it was."""
    path = recording(tmp_path, **changes)
    before = path.read_bytes()
    assert grade.main([str(path), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "nothing was written" in error
    assert path.read_bytes() == before


def test_a_judge_model_of_the_policy_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is asked once for each answer, and what it said is kept next to the recording for the next time."""
    path, policies = recording(tmp_path), tmp_path / "policies.yaml"
    policies.write_text(
        "models: {judge: {provider: scripted, answers: ['9', '1']}}\npolicies: {default: {tiers: [{model: judge}]}}\n"
    )
    command = [str(path), "--grader", "sums=model:use=judge", "--policy-file", str(policies), "--concurrency", "1"]
    assert grade.main(command) == 0
    assert {qualities(path)["a", "m"], qualities(path)["a", "n"]} <= {0.0, 1.0}
    cache = tmp_path / ".cascade" / "grades.jsonl"
    lines = cache.read_text()
    assert len(lines.splitlines()) == 3  # a sample says the same as an answer
    assert grade.main([*command, "--regrade"]) == 0
    assert cache.read_text() == lines
    assert "sums" in capsys.readouterr().out


def test_samples_that_came_later_are_graded(tmp_path: Path) -> None:
    """An answer that has its grade is not done while a sample of it has none."""
    path = recording(tmp_path)
    assert grade.main([str(path), "--grader", "text"]) == 0
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows[0]["answers"]["m"]["samples"].append({"text": "4", "quality": None})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert grade.main([str(path), "--grader", "text"]) == 0
    assert [s["quality"] for s in next(read(path)).answers["m"]["samples"]] == [0.0, 0.0, 1.0]


def test_a_task_without_a_grader_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is left ungraded is never left unsaid."""
    assert grade.main([str(recording(tmp_path)), "--grader", "sums=number"]) == 0
    assert "not graded: 3, no grader for the task 'towns': b, c" in capsys.readouterr().out


@pytest.mark.parametrize("task", ["mmlu:physics", "a=b", "text", "text=exact"])
def test_a_task_of_any_name_has_its_grader(tmp_path: Path, task: str) -> None:
    """A task's name may hold the signs that options are written with, and be a grader's."""
    path = recording(tmp_path, task=task)
    assert grade.main([str(path), "--grader", f"{task}=number:tolerance=0.5"]) == 0
    assert next(read(path)).answers["m"]["grader"] == "number:tolerance=0.5@4"


@pytest.mark.parametrize("name", ["rec.jsonl", "rec.jsonl.gz"])
def test_the_same_grades_are_the_same_bytes(tmp_path: Path, name: str) -> None:
    """Grading everything again or nothing again writes the same bytes."""
    path = tmp_path / name
    arguments = ["--grader", "text", "--grader", "sums=number"]
    assert grade.main([str(recording(tmp_path)), *arguments, "--out", str(path)]) == 0
    before = path.read_bytes()
    for more in ([], ["--regrade"]):
        assert grade.main([str(path), *arguments, *more]) == 0
        assert path.read_bytes() == before


def test_half_a_character_is_graded_and_kept(tmp_path: Path) -> None:
    """A model may say half of a surrogate pair, which JSON can hold as an escape."""
    path = recording(tmp_path, answers={"m": {"text": "\ud800 4"}})
    assert grade.main([str(path), "--grader", "text", "--grader", "sums=number"]) == 0
    answer = next(read(path)).answers["m"]
    assert (answer["text"], answer["quality"]) == ("\ud800 4", 1.0)


def test_a_kill_leaves_the_old_file(tmp_path: Path) -> None:
    """A kill in the middle of the work changes nothing; the next run gives the result of an uninterrupted one."""
    path = recording(tmp_path)
    (tmp_path / "slow.py").write_text(
        "import pathlib, time\n"
        "def grade(reference, text):\n"
        "    pathlib.Path('begun').touch()\n"
        "    time.sleep(0 if pathlib.Path('fast').exists() else 60)\n"
        "    return float(str(reference) == text)\n",
        encoding="utf-8",
    )
    before, root = path.read_bytes(), Path(grade.__file__).parents[2]
    command = [sys.executable, "-m", "evals.grade", str(path), "--grader", "python:slow:grade"]
    environment = {"PYTHONPATH": f"{root}:{tmp_path}", "PATH": "/usr/bin:/bin"}
    with warm_python.Popen(command, cwd=tmp_path, env=environment, start_new_session=True) as process:
        while not (tmp_path / "begun").exists():
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert path.read_bytes() == before
    (tmp_path / "fast").touch()
    assert warm_python.run(command, cwd=tmp_path, env=environment, check=False, capture_output=True).returncode == 0
    assert qualities(path) == {("a", "m"): 1, ("a", "n"): 0, ("b", "m"): 0, ("b", "n"): 0, ("c", "m"): 0}


class Bench:
    """A recording and a judge model that costs 0.02 USD a question and says 9 to what holds a 4."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self.cache = recording(folder), folder / ".cascade" / "grades.jsonl"
        self.calls = 0
        self.fails = 0.0
        price = PriceSpec(input_per_mtok=100.0, output_per_mtok=100.0)
        spec = ModelSpec(provider="openai", price=price, api_key_env="JUDGE_KEY")
        model = ScriptedModel("judge", self.say)
        monkeypatch.setenv("JUDGE_KEY", "sk-never-to-be-seen")
        monkeypatch.setattr("evals.grade.model.make_handle", lambda use, file: ModelHandle(model, Pricer("judge", spec)))

    def say(self, prompt: Any, request: Any) -> Answer:
        """Its reply, or its fault from the question on that ``fails`` counts."""
        self.calls += 1
        if self.fails and self.calls >= self.fails:
            raise ModelError("judge: HTTP 401", model="judge")
        right = "4" in prompt.text.split("<candidate")[1]
        return Answer("9" if right else "1", usage=Usage(199, 1))

    def grade(self, *more: str, graders: Sequence[str] = ("sums=model:use=judge",)) -> int:
        """The command."""
        return grade.main([str(self.path), *(a for g in graders for a in ("--grader", g)), *more])


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A recording and its judge model."""
    return Bench(tmp_path, monkeypatch)


def test_what_a_judge_model_cost_is_told(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """With the number of its questions; a run that asks nothing says nothing of it."""
    assert bench.grade() == 0
    # Four texts of which two are the same, each asked for the first token's log-probabilities, then for a rating.
    assert "the judge model was asked 6 times, for 0.120000 USD" in capsys.readouterr().out
    assert bench.grade("--regrade") == 0
    assert "asked" not in capsys.readouterr().out
    assert bench.calls == 6


def test_no_key_is_kept_with_the_grades(bench: Bench) -> None:
    """The file holds hashes and grades only, no key and no text."""
    assert bench.grade() == 0
    rows = [json.loads(line) for line in bench.cache.read_text(encoding="utf-8").splitlines()]
    assert all(set(row) == {"key", "grade"} and len(row["key"]) == 64 for row in rows)
    for file in bench.path.parent.rglob("*"):
        assert file.is_dir() or b"sk-never-to-be-seen" not in file.read_bytes()


def test_max_usd_is_not_passed(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """What is left waits for more money, keeps the grade that it had, and nothing is paid twice."""
    assert bench.grade(graders=["text"]) == 0
    before = qualities(bench.path)
    assert bench.grade("--max-usd", "0.0001") == 1
    assert bench.calls == 0
    assert "not graded: 2, --max-usd would be passed: a" in capsys.readouterr().out
    assert qualities(bench.path) == before
    runs = 0
    while bench.grade("--max-usd", "0.09"):
        runs += 1
        assert bench.calls < 6
    assert runs == 2  # a question may cost more than it does, and so the third is not asked in each
    assert bench.calls == 6
    assert qualities(bench.path)["a", "m"] == 1.0


def test_a_judge_model_that_fails_takes_no_grade_away(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """The answers keep what they had, and the exit code says that the work is not done; it is in the next run."""
    assert bench.grade(graders=["text"]) == 0
    before = qualities(bench.path)
    bench.fails = 1
    assert bench.grade() == 1
    assert "not graded: 2, the judge model failed (judge: HTTP 401): a" in capsys.readouterr().out
    assert qualities(bench.path) == before
    assert next(read(bench.path)).answers["m"]["grader"] == "text@2"
    bench.fails = 0
    assert bench.grade() == 0
    assert next(read(bench.path)).answers["m"]["grader"] == "model:use=judge@2"


def test_comparison_of_a_model_with_itself_is_a_tie(bench: Bench) -> None:
    """It is asked about nothing, and what is compared with has its grade, too."""
    assert bench.grade("--models", "n", graders=["model:use=judge:mode=pairwise:against=n"]) == 0
    assert qualities(bench.path)["a", "n"] == 0.5
    assert bench.calls == 0


def test_comparison_with_a_model_that_is_not_there(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """It is an error of the command, not a missing grade."""
    assert bench.grade(graders=["model:use=judge:mode=pairwise:against=llama3:8b"]) == 2
    assert "the recording has no model 'llama3:8b'; it has: m, n" in capsys.readouterr().err
    assert bench.calls == 0
