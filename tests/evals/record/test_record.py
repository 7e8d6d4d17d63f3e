"""The record command against a provider in another process: what is recorded and what is rejected."""

import json
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from evals.grade import command as grade
from evals.recording import read
from tests.evals.record.desk import ONE_USD, Desk
from tests.evals.record.provider import IN_USD, TOKENS_IN, TOKENS_OUT, Provider


def test_what_is_recorded(desk: Desk, provider: Provider) -> None:
    """Answer, samples, log-probabilities, verdict, usage, cost and latency of every tier follow the format."""
    desk.policy(small={"temperature": 0}, large={})
    desk.rows(3, reference="x", task="t")
    status = desk.record("--samples", 3, "--temperature", 0.9, "--judges", "logprob,verifier:model=large")
    assert status == 0
    [first, *_] = desk.answers("small")
    assert first["text"] == "small says question 0?"
    assert first["samples"] == [
        {"text": first["text"], "quality": None, "finish_reason": "stop", "latency_s": s["latency_s"]}
        for s in first["samples"]
    ]
    assert len(first["samples"]) == 3
    assert first["sample_cost_usd"] == pytest.approx((ONE_USD * 3 - 2 * TOKENS_IN * IN_USD) / 3)
    assert (first["tokens"], first["token_logprobs"]) == (["small", " says", " question"], [-0.25] * 3)
    assert (first["logprob"], first["finish_reason"], first["quality"]) == (-0.25, "stop", None)
    assert first["usage"] == {"input_tokens": TOKENS_IN, "output_tokens": TOKENS_OUT}
    assert first["cost_usd"] == pytest.approx(ONE_USD)
    assert 0 < first["latency_s"] < 60
    assert first["verdicts"]["verifier"] == pytest.approx(0.777, abs=0.001)
    assert first["verdict_cost_usd"] == {"verifier": pytest.approx(ONE_USD)}
    requests = {tuple(json.loads(k)[0::2]) for k in provider.counts()["received"]}
    assert requests == {("small", 0), ("small", 0.9), ("large", None), ("large", 0.9), ("large", 0.0)}
    assert provider.counts()["usd"] == pytest.approx(
        sum(
            a["cost_usd"] + 3 * a["sample_cost_usd"] + a["verdict_cost_usd"]["verifier"]
            for model in ("small", "large")
            for a in desk.answers(model)
        )
    )


def test_a_judge_without_a_score(desk: Desk) -> None:
    """Stands as null, with what that cost."""
    desk.policy(small={})
    desk.rows(1)
    assert desk.record("--judges", "verifier:mode=rating") == 0
    [answer] = desk.answers("small")
    assert answer["verdicts"] == {"verifier": None}
    assert answer["verdict_cost_usd"] == {"verifier": pytest.approx(ONE_USD)}


def test_anthropic_samples_one_by_one(desk: Desk, provider: Provider) -> None:
    """A provider of one answer a request is asked for each sample, and each is kept by itself."""
    desk.policy(claude={"provider": "anthropic"})
    desk.rows(2)
    assert desk.record("--samples", 2, "--judges", "verifier") == 0
    assert [len(a["samples"]) for a in desk.answers("claude")] == [2, 2]
    assert [a["verdicts"] for a in desk.answers("claude")] == [{"verifier": 0.7}] * 2
    # Answer, two samples, the verifier's two questions: it has no log-probabilities.
    assert sum(provider.counts()["received"].values()) == 2 * 5


def test_the_policy_decides_what_is_recorded(desk: Desk, provider: Provider) -> None:
    """Without --judges and --samples the recording holds what the policy's judges will read in a replay."""
    desk.policy([{"use": "logprob"}, {"use": "self_consistency", "samples": 2, "temperature": 0.5}], small={})
    desk.rows(1)
    assert desk.record() == 0
    [answer] = desk.answers("small")
    assert len(answer["samples"]) == 2
    assert answer["token_logprobs"]
    assert "verdicts" not in answer
    assert {json.loads(k)[2] for k in provider.counts()["received"]} == {None, 0.5}


def test_grades(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """Answers are graded at the end, and stay graded when more is recorded."""
    desk.rows(2, reference="small says question 0?")
    assert desk.record("--tiers", "small", "--grader", "text") == 0
    assert [a["quality"] for a in desk.answers("small")] == [1.0, 0.0]
    assert "0.500" in capsys.readouterr().out
    assert desk.record() == 0
    assert [a["quality"] for a in desk.answers("small")] == [1.0, 0.0]
    assert [a["quality"] for a in desk.answers("large")] == [None, None]


def test_a_custom_grader_sees_only_answers(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is not called while the dataset is surveyed, where there is no answer yet; and it gives the same ever after."""
    source = """
def grade(case):
    assert case.text.startswith("small says"), case.text
    return 0.25
"""
    (tmp_path / "ours_while_recording.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    desk.rows(3, reference="x")
    grader = ("--grader", "python:ours_while_recording:grade")
    assert desk.record("--tiers", "small", "--samples", 1, *grader) == 0
    assert [a["quality"] for a in desk.answers("small")] == [0.25] * 3
    before = desk.out.read_bytes()
    assert grade.main([str(desk.out), *grader, "--regrade"]) == 0
    assert desk.out.read_bytes() == before


def test_samples_of_a_later_run_are_graded(desk: Desk) -> None:
    """Though the answer beside them has its grade."""
    desk.rows(1, reference="small says question 0?")
    assert desk.record("--tiers", "small", "--samples", 1, "--grader", "text") == 0
    assert desk.record("--tiers", "small", "--samples", 3, "--grader", "text") == 0
    [answer] = desk.answers("small")
    assert [s["quality"] is None for s in answer["samples"]] == [False] * 3


def test_a_later_command_may_add_more(desk: Desk, provider: Provider) -> None:
    """Further rows, tiers, samples and judges are added; nothing that is there is asked again."""
    assert desk.record("--tiers", "small", "--limit", 4) == 0
    assert len(desk.answers("small")) == 4
    assert desk.record("--tiers", "small", "--samples", 1) == 0
    assert desk.record("--samples", 3, "--judges", "verifier") == 0
    requests = provider.counts()["received"]
    assert len(desk.answers("large")) == 10
    assert all(len(a["samples"]) == 3 and a["verdicts"] for m in ("small", "large") for a in desk.answers(m))
    assert set(requests.values()) == {1}
    assert desk.record("--samples", 3, "--judges", "verifier") == 0
    assert provider.counts()["received"] == requests


REFUSED = [
    (lambda d: d.rows(11), [], "belongs to another dataset .SHA-256 [0-9a-f]{16}, 10 rows. than the one given .SHA-256"),
    (
        lambda d: d.policy(small={"temperature": 1}, large={}),
        [],
        "was started with model small: .*; use the same value again",
    ),
    (
        lambda d: None,
        ["--samples", "1", "--temperature", "0.1"],
        "started with temperature of small's samples: 0.7, now it is 0.1",
    ),
    (lambda d: d.work.unlink(), [], "exists, but was not written by this command"),
]


@pytest.mark.parametrize(("change", "more", "words"), REFUSED)
def test_another_recording_is_refused(
    desk: Desk, provider: Provider, capsys: pytest.CaptureFixture[str], change: Any, more: list[str], words: str
) -> None:
    """Another dataset, other arguments that change answers, or a foreign file is an error; nothing is overwritten."""
    assert desk.record("--samples", 1) == 0
    before, requests = desk.out.read_bytes(), provider.counts()["received"]
    capsys.readouterr()
    change(desk)
    assert desk.record(*(more or ["--samples", "1"])) == 2
    output = capsys.readouterr().err
    assert re.search(words, output), output
    assert desk.out.read_bytes() == before
    assert provider.counts()["received"] == requests


def test_a_run_without_answers_pins_nothing(desk: Desk, provider: Provider) -> None:
    """After a run in which nothing was answered its dataset, models and judges may be corrected under the same --out."""
    provider.behave(faults={"question": 401})
    assert desk.record("--samples", 1) == 1
    desk.rows(5)
    desk.policy(small={"temperature": 1}, large={"price": None})
    assert desk.record("--judges", "verifier:model=large", "--max-usd", 1) == 2  # no price
    provider.behave(faults={'["small"': 400})
    assert desk.record("--samples", 1) == 1
    desk.policy(small={"temperature": 0.5}, large={"price": None})
    provider.behave()
    assert desk.record("--samples", 1, "--retry-failed", "--judges", "verifier:model=small") == 0
    assert len(desk.answers("small")) == len(desk.answers("large")) == 5
    assert sum(provider.counts()["received"].values()) == 5 * (1 + 1 + 2)


def test_only_the_difference_is_named(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """A judge that reads log-probabilities comes too late for answers that were recorded without."""
    assert desk.record() == 0
    assert desk.record("--judges", "logprob") == 2
    assert 'was started with model small: {"logprobs": null}, now it is {"logprobs": true}; use' in capsys.readouterr().err


WRONG = [
    (["--tiers", "smal"], "unknown tier or model 'smal'; did you mean 'small'?"),
    (["--judges", "verifer"], "unknown judge 'verifer'; did you mean 'verifier'?"),
    (["--judges", "verifier:model=larg"], "unknown model 'larg'; did you mean 'large'?"),
    (["--samples", "-1"], "--samples must be 0 or more, got -1"),
    (["--max-usd", "nan"], "--max-usd must be 0"),
    (["--grader", "numbr"], "numbr"),
    (["--grader", "number"], "rows.jsonl:1: reference: 'x' is not a number"),
    (["--grader", "json"], "rows.jsonl:1: reference: 'x' is not JSON"),
    (["--grader", "sums=text"], "--grader: the dataset has no task 'sums'; it has: ''"),
    (["--out", "nowhere/rec.jsonl"], "the folder nowhere does not exist"),
    (["--out", "rec.txt"], "a recording's name ends in .jsonl"),
    (["--policy", "nope"], "no policy 'nope'"),
    (["--template", "{prompt}", "--prompt-field", "prompt"], "--template and --prompt-field both define the prompt"),
]


@pytest.mark.parametrize(("more", "words"), WRONG)
def test_wrong_arguments(desk: Desk, capsys: pytest.CaptureFixture[str], more: list[str], words: str) -> None:
    """A wrong argument is an error that says which and what is meant, before anything is asked or written."""
    desk.rows(1, reference="x")
    assert desk.record(*more) == 2
    assert words in capsys.readouterr().err
    assert not desk.work.exists()


def test_two_at_once_are_refused(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """A second process must not record to the same file."""
    from evals.record.checkpoint import Checkpoint
    from evals.record.dataset import Dataset

    work = Checkpoint(desk.work, Dataset(str(desk.folder / "rows.jsonl")).survey())
    assert desk.record() == 2
    assert "another process is recording to it" in capsys.readouterr().err
    work.close()
    assert desk.record() == 0


def test_a_corrected_reference_reaches_the_recording(desk: Desk, provider: Provider) -> None:
    """References may be corrected after all was asked: nothing is asked again, and only what they change is graded anew."""
    desk.rows(3, reference="wrong")
    assert desk.record("--tiers", "small", "--samples", 1, "--grader", "text") == 0
    assert [a["quality"] for a in desk.answers("small")] == [0, 0, 0]
    rows = [json.loads(line) for line in (desk.folder / "rows.jsonl").read_text().splitlines()]
    rows[1]["reference"] = "small says question 1?"
    (desk.folder / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert desk.record("--tiers", "small", "--samples", 1) == 0
    assert [a["quality"] for a in desk.answers("small")] == [0, None, 0]
    assert desk.record("--tiers", "small", "--samples", 1, "--grader", "text") == 0
    assert [(a["quality"], a["samples"][0]["quality"]) for a in desk.answers("small")] == [(0, 0), (1, 1), (0, 0)]
    assert set(provider.counts()["received"].values()) == {1}


def test_foreign_fields_survive(desk: Desk, provider: Provider) -> None:
    """What somebody added to the recording stays when more is recorded; rows of another order are refused."""
    assert desk.record("--tiers", "small") == 0
    rows = [json.loads(line) for line in desk.out.read_text().splitlines()]
    rows[2]["mark"] = 1
    rows[2]["answers"]["small"]["quality"] = 0.25
    desk.out.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert desk.record() == 0
    third = list(read(desk.out))[2]
    assert (third.raw["mark"], third.answers["small"]["quality"]) == (1, 0.25)
    desk.out.write_text("".join(json.dumps(r) + "\n" for r in rows[::-1]))
    assert desk.record("--samples", 1) == 2
    assert next(read(desk.out)).id == "r9"


def test_only_missing_answers_are_requested(desk: Desk, provider: Provider, capsys: pytest.CaptureFixture[str]) -> None:
    """--missing keeps the answers and grades that a recording has, and records the others only."""
    desk.rows(6, reference="small says question 0?")
    assert desk.record("--tiers", "small", "--grader", "text") == 0
    rows = [json.loads(line) for line in desk.out.read_text().splitlines()]
    for row in rows[4:]:
        row["answers"] = {}
    rows[1]["answers"]["small"] |= {"quality": 0.25, "grader": "ours@1", "mark": 7}
    (desk.folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    provider.behave()
    desk.out, desk.work = desk.folder / "full.jsonl", desk.folder / "full.jsonl.work"
    assert desk.record("--missing") == 0
    requests = [tuple(json.loads(key)) for key in provider.counts()["received"]]
    assert [model for model, *_ in requests].count("small") == 2
    assert [model for model, *_ in requests].count("large") == 6
    assert [a["quality"] for a in desk.answers("small")] == [1.0, 0.25, 0.0, 0.0, None, None]
    assert desk.answers("small")[1]["mark"] == 7
    assert "note: --missing: the recording has no answers of 'large'; it has: small" in capsys.readouterr().err
    assert desk.record("--missing") == 0
    assert sum(provider.counts()["received"].values()) == 8


def test_a_recording_that_lacks_nothing(desk: Desk, provider: Provider) -> None:
    """--missing writes the recording, and requests nothing, where every answer is there."""
    assert desk.record("--tiers", "small") == 0
    before = list(read(desk.out))
    (desk.folder / "rows.jsonl").write_bytes(desk.out.read_bytes())
    provider.behave()
    desk.out, desk.work = desk.folder / "full.jsonl", desk.folder / "full.jsonl.work"
    assert desk.record("--tiers", "small", "--missing") == 0
    assert not provider.counts()["received"]
    assert list(read(desk.out)) == before


def test_missing_needs_a_recording(desk: Desk, provider: Provider, capsys: pytest.CaptureFixture[str]) -> None:
    """A dataset without answers is not a recording: a wrong path would otherwise be paid for in full."""
    assert desk.record("--missing") == 2
    assert "has no recorded answers; give a recording as the dataset" in capsys.readouterr().err
    assert not provider.counts()["received"]


def test_a_work_file_is_its_owner_s_alone(desk: Desk) -> None:
    """It may hold a provider's words; the recording itself follows the umask, as any data file of the user's."""
    desk.rows(2)
    assert desk.record("--tiers", "small") == 0
    assert stat.S_IMODE(desk.work.stat().st_mode) == 0o600
