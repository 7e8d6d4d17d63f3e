"""Replay: thresholds from the train rows, figures from the test rows, errors in one line."""

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from cascade.policy import load
from evals.replay.command import main

RECORDINGS = Path(os.environ.get("CASCADE_RECORDINGS", Path(__file__).parents[4] / "shared" / "recordings"))
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
    """Where log-probabilities separate right from wrong answers, the certified cascade keeps the quality at a lower cost."""
    out, report = tmp_path / "out.json", tmp_path / "page.html"
    flags = ["--json", str(out), "--report", str(report), "--max-loss", "0.05"]
    assert main([recording(tmp_path / "r.jsonl"), "--tiers", "cheap,dear", *flags, *SMALL]) == 0
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
    policy = load.load(tmp_path / "policies.yaml").policies["default"]
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


POLICIES = """
models:
  a: {provider: recorded, recording: r.jsonl, model: cheap}
  b: {provider: recorded, recording: r.jsonl, model: dear}
  c: {provider: recorded, recording: r.jsonl, model: elsewhere}
policies:
"""
TWO = "{tiers: [{model: a, judges: [logprob]}, {model: b}]}"


def lines_of(path: Path, change: dict[int, str]) -> str:
    """A recording with some lines put in the place of others; ``{result_row}`` stands for what was there."""
    lines = Path(recording(path)).read_text().splitlines()
    for at, text in change.items():
        lines[at - 1] = text.replace("{line}", lines[at - 1])
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, *arguments: str) -> str:
    """The one line of error of a command that must write nothing; argparse's own errors end the same way."""

    def held() -> dict[Path, bytes]:  # but for the cache of scores
        return {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file() and ".cascade" not in p.parts}

    before = held()
    try:
        code = main(arguments)
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    assert held() == before
    [last] = [result_row for result_row in err.splitlines() if "error: " in result_row]
    assert last.startswith("error: ") == (len(err.splitlines()) == 1)
    return last


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({3: "{line} }"}, "r.jsonl:3: not valid JSON"),
        ({3: "[]"}, "r.jsonl:3: must be a JSON object"),
        ({3: '{"id": "0", "prompt": "p", "answers": {}}'}, "r.jsonl:3: id: '0' occurs on line 1 too"),
        ({3: '{"id": "x", "answers": {}}'}, "r.jsonl:3: prompt: is missing"),
        ({3: '{"id": "x", "prompt": "p", "answers": {"cheap": null}}'}, "r.jsonl:3: answers['cheap']: must be an object"),
        *(
            ({2: f'{{"id": "x", "prompt": "p", "answers": {{"cheap": {{"text": "", "{field}": {number}}}}}}}'},
             f"r.jsonl:2: answers['cheap'].{field}: must be a number")
            for field in ("quality", "cost_usd", "latency_s", "logprob")
            for number in ("NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400, '"1"', "true")
        ),
    ],
)  # fmt: skip
def test_bad_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[int, str], words: str) -> None:
    """Whatever is wrong in a line, the error names file, line and field, in one line."""
    path = lines_of(tmp_path / "r.jsonl", change)
    assert words in refused(capsys, tmp_path, path, "--json", str(tmp_path / "out.json"))


def test_files_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Missing, empty, blank, a folder, not gzip, not text: an error of one line that names the file."""
    for name, content, words in (
        ("empty.jsonl", b"", "holds no example"),
        ("blank.jsonl", b"\n  \n", "holds no example"),
        ("plain.jsonl.gz", b"{}", "not valid gzip"),
        ("bytes.jsonl", b'{"id": "\xff"}', "is not UTF-8 text"),
    ):
        (tmp_path / name).write_bytes(content)
        meaning = refused(capsys, tmp_path, str(tmp_path / name))
        assert words in meaning
        assert name in meaning
    assert "nowhere.jsonl: the recording cannot be read: No such file" in refused(
        capsys, tmp_path, str(tmp_path / "nowhere.jsonl")
    )
    assert "the recording cannot be read: Is a directory" in refused(capsys, tmp_path, str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--max-loss", "0.1", "--budget-per-1k", "1"], ["--max-loss", "--budget-per-1k"]),
        (["--policy-file", "P", "--tiers", "cheap,dear"], ["--policy-file", "--tiers", "exclude"]),
        (["--policy-file", "P", "--as-is", "--out", "c.json"], ["--as-is", "--out", "exclude"]),
        (["--policy-file", "P", "--as-is", "--keep-premium"], ["--as-is", "--keep-premium", "exclude"]),
        (["--policy-file", "P", "--as-is", "--method", "split"], ["--as-is", "--method split", "exclude"]),
        (["--policy-file", "P", "--as-is", "--budget-per-1k", "1"], ["--as-is", "--budget-per-1k", "exclude"]),
        (
            ["--policy-file", "P", "--as-is", "--min-accepted-quality", "0.9"],
            ["--as-is", "--min-accepted-quality", "exclude"],
        ),
        (
            ["--method", "preset", "--tiers", "cheap,dear,third"],
            ["--method preset", "--tiers cheap,dear,third", "two tiers"],
        ),
        (["--method", "preset", "--error-price", "1"], ["--method preset", "--error-price", "exclude"]),
        (["--method", "split", "--budget-per-1k", "1"], ["--method split", "--budget-per-1k", "exclude"]),
        (["--method", "preset", "--judges", "rules"], ["--method preset", "--judges", "one judge that gives scores"]),
        (["--out", "x.json", "--json", "x.json"], ["--json", "--out", "one file"]),
        (["--report", "r.jsonl"], ["--report", "the recording", "one file"]),
        (["--max-task-loss", "0.1", "--max-loss", "0.1"], ["--max-loss 0.1", "--max-task-loss 0.1", "a smaller one"]),
        (["--max-task-loss", "0.1", "--max-loss", "0.02,0.03"], ["--max-task-loss", "--max-loss", "one value"]),
        (["--max-task-loss", "0.1", "--min-quality", "0.9"], ["--max-task-loss", "--max-loss alone"]),
        (["--max-task-loss", "0.1", "--choose", "0.02"], ["--choose", "no menu"]),
        (["--policy-file", "P", "--json", "P"], ["--json", "--policy-file", "one file"]),
    ],
)
def test_flags_that_contradict_each_other(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: list[str],
) -> None:
    """None is ignored silently: the error names both, and nothing is read or written."""
    monkeypatch.chdir(tmp_path)
    recording(Path("r.jsonl"))
    Path("P").write_text(POLICIES + f"  default: {TWO}")
    meaning = refused(capsys, tmp_path, "r.jsonl", *arguments)
    assert all(word in meaning for word in words), meaning


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tiers", "cheap,dera"], "no model 'dera'; nearest: dear, cheap; it has: cheap, dear"),
        (["--tiers", "cheap,,dear"], "--tiers: a name is empty"),
        (["--tiers", ""], "--tiers: a name is empty"),
        (["--judges", "logprob,logprop"], "--judges: 'logprop': unknown judge 'logprop'; did you mean 'logprob'?"),
        (["--judges", "logprob:statistik=min"], "--judges: 'logprob:statistik=min': judge 'logprob' has no option"),
        (["--judges", "self_consistency"], "needs recorded samples"),
        (["--judges", "rules,rules"], "'rules' is named twice"),
        (["--split", "recorded"], "--split recorded: 0 of 400 rows have the split 'train' and 0 'test'"),
        (["--seed", "-1"], "--seed must be 0 or more"),
        (["--seed", "x"], "--seed: invalid int value"),
        (["--max-loss", "nan"], "--max-loss must lie in [0, 1]"),
        (["--min-quality", "1.5"], "--min-quality must lie in [0, 1]"),
        (["--budget-per-1k", "-1"], "--budget-per-1k must lie in [0, 1e+09]"),
        (["--delta", "1"], "--delta must lie between 0 and 1"),
        (["--method", "best"], "--method: invalid choice"),
        (["--json", "."], "--json: . is a folder; name a file"),
        (["--report", "none/p.html"], "--report: the folder none does not exist; create it first"),
        (["--policy-file", "none.yaml"], "none.yaml: no such policy file"),
        (["--policy-file", "other.yaml"], "other.yaml: the recording has no model 'elsewhere'; it has: cheap, dear"),
        (["--policy-file", "several.yaml"], "several.yaml: none of the policies one, two is called 'default'"),
        (["--policy-file", "broken.yaml"], "broken.yaml:7: policies.default.tires: unknown key; did you mean 'tiers'?"),
    ],
)  # fmt: skip
def test_wrong_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    """Each is an error that names the flag or the file, what was given and what would do; nothing is written."""
    monkeypatch.chdir(tmp_path)
    recording(Path("r.jsonl"))
    Path("other.yaml").write_text(POLICIES + "  default: {tiers: [{model: a}, {model: c}]}")
    Path("several.yaml").write_text(POLICIES + f"  one: {TWO}\n  two: {TWO}")
    Path("broken.yaml").write_text(POLICIES + "  default: {tires: []}")
    outputs = [] if "--json" in arguments else ["--json", "out.json"]
    assert words in refused(capsys, tmp_path, "r.jsonl", *arguments, *outputs)


def test_a_folder_that_may_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is found before the work is done, not after."""
    path = recording(tmp_path / "r.jsonl")
    monkeypatch.setattr("os.access", lambda *_: False)
    monkeypatch.setattr("evals.replay.command.read", None)
    assert "cannot be written; choose another" in refused(capsys, tmp_path, path, "--out", str(tmp_path / "c.json"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"quality": None}, "not graded"),
        ({"cost_usd": None}, "cost unknown"),
        (None, "a tier has no answer"),
    ],
)
def test_rows_that_cannot_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any] | None, reason: str
) -> None:
    """A few are left out with a warning that names them, and counted; without any row the replay is refused."""
    rows = [json.loads(result_row) for result_row in Path(recording(tmp_path / "r.jsonl")).read_text().splitlines()]

    def spoil(count: int) -> str:
        copies = json.loads(json.dumps(rows))
        for row in copies[:count]:
            if change is None:
                del row["answers"]["cheap"]
            else:
                row["answers"]["cheap"].update(change)
        (tmp_path / "r.jsonl").write_text("".join(json.dumps(r) + "\n" for r in copies))
        return str(tmp_path / "r.jsonl")

    out = tmp_path / "out.json"
    assert main([spoil(7), "--tiers", "cheap,dear", *SMALL, "--json", str(out)]) == 0
    assert f"warning: left out: 7 rows, {reason}: 0, 1, 2, 3, 4 and 2 more" in capsys.readouterr().err
    summary = json.loads(out.read_text())["recording"]
    assert summary["n"] == 393
    assert {k: v for k, v in summary["left_out"].items() if v} == {reason: 7}
    assert main([spoil(81), "--tiers", "cheap,dear", *SMALL]) == 0
    assert f"warning: 319 of 400 rows used, because of the others: {reason} (81)" in capsys.readouterr().err
    meaning = refused(capsys, tmp_path, spoil(400), "--tiers", "cheap,dear", *SMALL)
    no_model = (
        "the recording has no model 'cheap'" if change is None else f"none of 400 rows can be used (400 {reason}: 0, 1"
    )
    assert no_model in meaning


def test_tasks_of_one_row_are_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are used, and named."""
    path = Path(recording(tmp_path / "r.jsonl", n=60))
    rows = [json.loads(result_row) for result_row in path.read_text().splitlines()]
    rows[4]["task"], rows[5]["task"] = "lone", "lonely"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert main([str(path), *SMALL]) == 0
    assert "warning: 2 tasks of a single row, which is in one split only: 4, 5" in capsys.readouterr().err


@pytest.mark.parametrize("n", [1, 2, 3])
def test_too_few_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str], n: int) -> None:
    """Where a part of the split would be empty, that is an error; no division by zero."""
    path = recording(tmp_path / "r.jsonl", n=n)
    if n < 3:
        assert "too few for this split" in refused(capsys, tmp_path, path)
    else:
        assert main([path]) == 0
        assert "rows: 1 to fit, 1 to certify, 1 to test" in capsys.readouterr().out


def test_samples_without_a_price(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What self-consistency would cost is unknown, so that nothing can be chosen by cost: rows and field are named."""
    path = recording(tmp_path / "r.jsonl", samples=[{"text": "a", "quality": 1.0}] * 3)
    meaning = refused(capsys, tmp_path, path, "--tiers", "cheap,dear")
    assert "unknown in 400 rows of the model 'cheap': 0, 1, 2, 3, 4 and 395 more" in meaning
    assert "answers['cheap'].sample_cost_usd" in meaning
    assert main([path, "--tiers", "cheap,dear", *SMALL]) == 0


def test_samples_without_a_grade(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They do not count as an answer of quality 0: row, model and judge are named."""
    samples = [{"text": "other", "quality": None}] * 3
    path = recording(tmp_path / "r.jsonl", samples=samples, sample_cost_usd=0.001)
    meaning = refused(capsys, tmp_path, path, "--tiers", "cheap,dear")
    assert "example '0', model 'cheap': judge 'self_consistency' chose a sample that is not graded" in meaning
    policy = tmp_path / "p.yaml"
    judge = "{use: self_consistency, samples: 3}"
    policy.write_text(POLICIES + f"  only: {{tiers: [{{model: a, accept_at: 0.1, judges: [{judge}]}}, {{model: b}}]}}")
    meaning = refused(capsys, tmp_path, path, "--policy-file", str(policy), "--as-is", *SMALL)
    assert "200 of 200 answers that the policy returned are not graded" in meaning


def test_tiers_in_the_wrong_order_are_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The last one is the premium tier, which the losses are against."""
    assert main([recording(tmp_path / "r.jsonl", n=60), "--tiers", " dear , cheap", *SMALL]) == 0
    assert "warning: dear cost more than cheap" in capsys.readouterr().err


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


def test_two_replays_say_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples without a latency let no clock into the figures: all but dates and the replay's own time is equal."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    samples = [{"text": "a", "quality": 1.0}, {"text": "c", "quality": 0.0}]
    path = recording(tmp_path / "r.jsonl", 200, latency_s=0.5, samples=samples, sample_cost_usd=0.0001)
    outputs = []
    for name in ("one", "two"):
        out = tmp_path / f"{name}.json"
        shutil.rmtree(tmp_path / ".cascade", ignore_errors=True)
        judges = "logprob,self_consistency:samples=2"
        assert main([path, "--tiers", "cheap,dear", "--judges", judges, "--json", str(out)]) == 0
        outputs.append(json.loads(out.read_text()))
    assert {**outputs[0], "created": ""} == {**outputs[1], "created": ""}


def test_one_tier_has_nothing_to_prove(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is used, and the words say why that is not a refusal."""
    assert main([recording(tmp_path / "r.jsonl"), "--tiers", "dear", *SMALL]) == 0
    meaning = capsys.readouterr().out
    assert "There is one tier, so there is nothing to prove" in meaning
    assert "efused" not in meaning
