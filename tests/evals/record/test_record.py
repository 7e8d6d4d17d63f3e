"""The command, against a provider in a process of its own: what is recorded, what is refused, where it stops."""

import json
import random
import re
import signal
import subprocess
import sys
from pathlib import Path
from time import sleep
from typing import Any

import pytest

from evals.common import progress
from evals.grade import command as grade
from evals.record import adaptive_concurrency, client, command, outage
from evals.record.command import main
from evals.recording import read
from tests.evals.record.fork_server import ForkServer
from tests.evals.record.provider import IN_USD, OUT_USD, TOKENS_IN, TOKENS_OUT, Provider

ONE_USD = IN_USD * TOKENS_IN + OUT_USD * TOKENS_OUT


class Desk:
    """A folder with a dataset and a policy, and the command on both."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.out, self.work = folder / "rec.jsonl", folder / "rec.jsonl.work"
        self.policy(small={}, large={})
        self.rows(10)

    def policy(self, judges: Any = (), **models: dict[str, Any]) -> None:
        """Models of the provider, OpenAI's unless said otherwise, and a ladder of them all."""
        price = {"input_per_mtok": IN_USD * 1e6, "output_per_mtok": OUT_USD * 1e6}
        made = {}
        for name, more in models.items():
            path = "" if more.get("provider") == "anthropic" else "/v1"
            common = {"provider": "openai", "base_url": self.url + path, "price": price, "max_tokens": 20}
            made[name] = {k: v for k, v in {**common, **more}.items() if v is not None}
        tiers = [{"model": name, "judges": list(judges)} for name in models]
        text = json.dumps({"version": 1, "models": made, "policies": {"default": {"tiers": tiers}}})
        (self.folder / "policy.yaml").write_text(text)

    def rows(self, n: int, **more: Any) -> None:
        """A dataset of ``n`` rows."""
        rows = [{"id": f"r{i}", "prompt": f"question {i}?", **more} for i in range(n)]
        (self.folder / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))

    def argv(self, *more: Any) -> list[str]:
        """The command's arguments."""
        common = [self.folder / "rows.jsonl", "--policy", self.folder / "policy.yaml", "--out", self.out]
        return [str(a) for a in (*common, *more)]

    def record(self, *more: Any) -> int:
        """Runs the command here; its exit status."""
        return main(self.argv(*more))

    def answers(self, model: str) -> list[dict[str, Any]]:
        """What the recording holds of a model."""
        return [dict(e.answers[model]) for e in read(self.out) if model in e.answers]


@pytest.fixture
def desk(tmp_path: Path, provider: Provider) -> Desk:
    """A fresh folder."""
    return Desk(tmp_path, provider.url)


def test_what_is_recorded(desk: Desk, provider: Provider) -> None:
    """Answer, samples, log-probabilities, verdict, usage, cost and latency of every tier stand as the format says."""
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
    asked = {tuple(json.loads(k)[0::2]) for k in provider.counts()["asked"]}
    assert asked == {("small", 0), ("small", 0.9), ("large", None), ("large", 0.9), ("large", 0.0)}
    assert provider.counts()["usd"] == pytest.approx(
        sum(
            a["cost_usd"] + 3 * a["sample_cost_usd"] + a["verdict_cost_usd"]["verifier"]
            for model in ("small", "large")
            for a in desk.answers(model)
        )
    )


def test_a_judge_that_could_not_tell(desk: Desk) -> None:
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
    assert sum(provider.counts()["asked"].values()) == 2 * 5


def test_policy_names_what_is_needed(desk: Desk, provider: Provider) -> None:
    """Without --judges and --samples the recording holds what the policy's judges will read in a replay."""
    desk.policy([{"use": "logprob"}, {"use": "self_consistency", "samples": 2, "temperature": 0.5}], small={})
    desk.rows(1)
    assert desk.record() == 0
    [answer] = desk.answers("small")
    assert len(answer["samples"]) == 2
    assert answer["token_logprobs"]
    assert "verdicts" not in answer
    assert {json.loads(k)[2] for k in provider.counts()["asked"]} == {None, 0.5}


def test_grades(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """Answers are graded at the end, and stay graded when more is recorded."""
    desk.rows(2, reference="small says question 0?")
    assert desk.record("--tiers", "small", "--grader", "text") == 0
    assert [a["quality"] for a in desk.answers("small")] == [1.0, 0.0]
    assert "0.500" in capsys.readouterr().out
    assert desk.record() == 0
    assert [a["quality"] for a in desk.answers("small")] == [1.0, 0.0]
    assert [a["quality"] for a in desk.answers("large")] == [None, None]


def test_a_grader_of_ones_own_sees_answers_alone(
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


def test_a_judge_model_is_within_max_usd(desk: Desk, provider: Provider, capsys: pytest.CaptureFixture[str]) -> None:
    """What grading costs is part of what the recording costs: with nothing left the answers stay, ungraded."""
    desk.rows(30, reference="x")
    assert desk.record("--tiers", "small", "--max-usd", 1.0) == 0
    spent = sum(a["cost_usd"] for a in desk.answers("small"))
    capsys.readouterr()
    model = ("--grader", "model:use=large")
    assert desk.record("--tiers", "small", "--max-usd", spent * 1.01, *model) == 1
    assert "--max-usd would be passed" in capsys.readouterr().out
    assert [a["quality"] for a in desk.answers("small")] == [None] * 30
    desk.record("--tiers", "small", "--max-usd", 1.0, *model)
    assert "the judge model was asked" in capsys.readouterr().out
    # Another run remembers what the grades cost.
    lines = [json.loads(line) for line in desk.work.read_text().splitlines()]
    paid = sum(line["graded"] for line in lines if "graded" in line)
    assert paid > 0
    (desk.folder / ".cascade" / "grades.jsonl").unlink()
    before = provider.counts()["asked"]
    assert desk.record("--tiers", "small", "--max-usd", spent + paid, "--grader", "model:use=large:fraction=true") == 1
    assert f"${paid:.6f} more for grades" in capsys.readouterr().out
    assert provider.counts()["asked"] == before


def test_a_judge_model_without_a_price_is_refused_under_max_usd(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """Before the answers are paid for that it was to grade."""
    desk.policy(small={}, judge={"model": "of-no-known-price", "price": None})
    desk.rows(1, reference="x")
    assert desk.record("--tiers", "small", "--max-usd", 1.0, "--grader", "model:use=judge") == 2
    assert "--max-usd needs the price of judge; give it in the policy file" in capsys.readouterr().err
    assert not desk.work.exists()


def test_a_kill_while_a_model_judges_pays_nothing_twice(desk: Desk, provider: Provider) -> None:
    """What it said is on the disk at once: after three kills only what was under way at one was asked again."""
    desk.rows(40, reference="x")
    assert desk.record("--tiers", "small") == 0
    before = desk.out.read_bytes()
    provider.behave(delay_s=0.1)
    command = [sys.executable, "-m", "evals.grade", str(desk.out), "--grader", "model:use=large", "--concurrency", "4"]
    command += ["--policy-file", str(desk.folder / "policy.yaml")]
    cache = desk.folder / ".cascade" / "grades.jsonl"
    for kept in (5, 15, 25):
        with subprocess.Popen(command) as process:
            while not cache.exists() or len(cache.read_bytes().splitlines()) < kept:
                assert process.poll() is None
                sleep(0.02)
            process.send_signal(signal.SIGKILL)
        assert desk.out.read_bytes() == before
    assert subprocess.run(command, check=False).returncode == 0
    rows = [json.loads(line) for line in cache.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == len({row["key"] for row in rows}) == 40
    assert [a["quality"] for a in desk.answers("small")] == [1.0] * 40
    asked = [n for key, n in provider.counts()["asked"].items() if "verify" in key]
    assert len(asked) == 40
    assert sum(asked) <= 40 + 3 * 4


def test_a_later_command_may_ask_for_more(desk: Desk, provider: Provider) -> None:
    """Further rows, tiers, samples and judges are added; nothing that is there is asked again."""
    assert desk.record("--tiers", "small", "--limit", 4) == 0
    assert len(desk.answers("small")) == 4
    assert desk.record("--tiers", "small", "--samples", 1) == 0
    assert desk.record("--samples", 3, "--judges", "verifier") == 0
    asked = provider.counts()["asked"]
    assert len(desk.answers("large")) == 10
    assert all(len(a["samples"]) == 3 and a["verdicts"] for m in ("small", "large") for a in desk.answers(m))
    assert set(asked.values()) == {1}
    assert desk.record("--samples", 3, "--judges", "verifier") == 0
    assert provider.counts()["asked"] == asked


REFUSED = [
    (lambda d: d.rows(11), [], "belongs to another dataset .SHA-256 [0-9a-f]{16}, 10 rows. than the one given .SHA-256"),
    (lambda d: d.policy(small={"temperature": 1}, large={}), [], "was begun with model small: .*; give the same again"),
    (
        lambda d: None,
        ["--samples", "1", "--temperature", "0.1"],
        "begun with temperature of small's samples: 0.7, now it is 0.1",
    ),
    (lambda d: d.work.unlink(), [], "exists, and was not recorded here"),
]


@pytest.mark.parametrize(("change", "more", "words"), REFUSED)
def test_another_recording_is_refused(
    desk: Desk, provider: Provider, capsys: pytest.CaptureFixture[str], change: Any, more: list[str], words: str
) -> None:
    """Another dataset, other arguments that change answers, somebody else's file: an error, nothing asked or overwritten."""
    assert desk.record("--samples", 1) == 0
    before, asked = desk.out.read_bytes(), provider.counts()["asked"]
    capsys.readouterr()
    change(desk)
    assert desk.record(*(more or ["--samples", "1"])) == 2
    said = capsys.readouterr().err
    assert re.search(words, said), said
    assert desk.out.read_bytes() == before
    assert provider.counts()["asked"] == asked


def test_what_answered_nothing_binds_nobody(desk: Desk, provider: Provider) -> None:
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
    assert sum(provider.counts()["asked"].values()) == 5 * (1 + 1 + 2)


def test_only_what_differs_is_named(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """A judge that reads log-probabilities comes too late for answers that were recorded without."""
    assert desk.record() == 0
    assert desk.record("--judges", "logprob") == 2
    assert 'was begun with model small: {"logprobs": null}, now it is {"logprobs": true}; give' in capsys.readouterr().err


WRONG = [
    (["--tiers", "smal"], "unknown tier or model 'smal'; did you mean 'small'?"),
    (["--judges", "verifer"], "unknown judge 'verifer'; did you mean 'verifier'?"),
    (["--judges", "verifier:model=larg"], "unknown model 'larg'; did you mean 'large'?"),
    (["--samples", "-1"], "--samples must be 0 or more, got -1"),
    (["--max-usd", "nan"], "--max-usd must be 0"),
    (["--grader", "numbr"], "numbr"),
    (["--grader", "number"], "rows.jsonl:1: reference: 'x' is no number"),
    (["--grader", "json"], "rows.jsonl:1: reference: 'x' is no JSON"),
    (["--grader", "sums=text"], "--grader: the dataset has no task 'sums'; it has: ''"),
    (["--out", "nowhere/rec.jsonl"], "the folder nowhere does not exist"),
    (["--out", "rec.txt"], "a recording's name ends in .jsonl"),
    (["--policy", "nope"], "no policy 'nope'"),
    (["--template", "{prompt}", "--prompt-field", "prompt"], "--template and --prompt-field both say what the prompt is"),
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


def test_failures_stay_failures_until_retried(desk: Desk, provider: Provider, capsys: pytest.CaptureFixture[str]) -> None:
    """A refused prompt stops nothing, is told by its kind, and is asked again by --retry-failed only."""
    provider.behave(faults={"question 3?": 400, "question 5?": 422, "question 7?": 400})
    assert desk.record("--tiers", "small") == 1
    said = capsys.readouterr().out
    assert "failed: small: answer: HTTP 400: 2 rows, the first 'r3': status 400 (--retry-failed asks again)" in said
    assert "failed: small: answer: HTTP 422: 1 row, 'r5': status 422 (--retry-failed asks again)" in said
    assert len(desk.answers("small")) == 7
    provider.behave()
    assert desk.record("--tiers", "small") == 1
    assert not provider.counts()["asked"]
    assert desk.record("--tiers", "small", "--retry-failed") == 0
    assert sum(provider.counts()["asked"].values()) == 3
    assert [a["text"] for a in desk.answers("small")] == [f"small says question {i}?" for i in range(10)]


def test_failures_of_a_kind_are_one_line(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """Ids and names in a message do not make a kind of their own; the first row's message stands whole."""
    desk.policy(small={"provider": "recorded", "recording": "starter", "model": "smollm2-135m-instruct", "base_url": None})
    assert desk.record() == 1
    said = capsys.readouterr().out
    assert said.count("failed: ") == 1
    assert "the id ... is not among the 606 recorded answers of ...: 10 rows, the first 'r0': " in said
    assert "ask a recorded prompt word for word, or use a live model (--retry-failed asks again)" in said


def test_faults_that_pass_are_asked_again(desk: Desk, provider: Provider) -> None:
    """A cut connection, no JSON and a server error are tried again, and nothing is left of them."""
    provider.behave(passing={"question 1?": 0, "question 2?": -1, "question 3?": 500, "question 4?": 503})
    assert desk.record("--tiers", "small") == 0
    counts = provider.counts()
    assert sum(counts["asked"].values()) == 14
    assert len(desk.answers("small")) == 10


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_stops_its_model_at_once(
    desk: Desk, provider: Provider, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    """The model that refuses the key is asked no more, the other is recorded; the next run asks what is missing."""
    desk.rows(60)
    provider.behave(faults={'["small"': status})
    assert desk.record("--concurrency", 4) == 1
    said = capsys.readouterr().out
    assert f"stopped: small: HTTP {status}: status {status}; check the key, in the environment variable that" in said
    assert "60 answers are missing; once that is put right, the same command goes on" in said
    assert "failed" not in said
    assert sum(n for k, n in provider.counts()["asked"].items() if "small" in k) <= 4
    assert len(desk.answers("large")) == 60
    provider.behave()
    assert desk.record() == 0
    assert sum(provider.counts()["asked"].values()) == 60


def test_a_dead_server_does_not_fail_every_row(desk: Desk, provider: Provider, capsys: pytest.CaptureFixture[str]) -> None:
    """Where nothing succeeds any more, the model is given up instead of failing the whole dataset."""
    desk.rows(200)
    provider.behave(faults={"question": 400})
    assert desk.record("--tiers", "small", "--concurrency", 4) == 1
    assert "requests failed one after the other, the last with: small: HTTP 400" in capsys.readouterr().out
    assert sum(provider.counts()["asked"].values()) < 45


@pytest.mark.parametrize("fault", [0, 502])
def test_an_outage_is_waited_for(
    desk: Desk, provider: Provider, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, fault: int
) -> None:
    """A server that is down for a while in the middle costs no row: all wait, one asks now and then, and it goes on."""
    monkeypatch.setattr(client, "_BACKOFF_S", 0.02)
    monkeypatch.setattr(adaptive_concurrency, "_FIRST_PAUSE_S", 0.02)
    desk.rows(400)
    provider.behave(delay_s=0.02, down_after=200, down_s=1.0, down_as=fault)
    assert desk.record("--tiers", "small", "--concurrency", 16) == 0
    assert len(desk.answers("small")) == 400
    said = capsys.readouterr().err
    assert re.search(r"small: .*; nothing else for 46 requests, asking again for 3600 s", said)
    assert "small: is back after" in said
    asked = sum(provider.counts()["asked"].values())
    assert 400 + 46 <= asked < 400 + 46 + 60


def test_a_server_that_is_gone_fails_no_row(
    desk: Desk, provider: Provider, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that never answers is given up, and its rows are missing, not failed: the same command asks them."""
    monkeypatch.setattr(client, "_BACKOFF_S", 0.02)
    monkeypatch.setattr(outage, "FIRST_PATIENCE_S", 0.2)
    desk.rows(60)
    desk.policy(small={"base_url": "http://127.0.0.1:9/v1"}, large={})
    assert desk.record() == 1
    said = capsys.readouterr().out
    assert "stopped: small: no connection (ConnectionRefusedError)" in said
    assert "failed" not in said
    assert "60 answers are missing" in said
    assert len(desk.answers("large")) == 60


def test_answers_that_are_none_are_told(desk: Desk, provider: Provider, capsys: pytest.CaptureFixture[str]) -> None:
    """Answers that were cut off, filtered or are empty are kept and paid, and said at the end of the run."""
    provider.behave(
        ends={"question 1?": "length", "question 2?": "content_filter", "question 3?": "length"}, mute=["question 4?"]
    )
    assert desk.record("--tiers", "small") == 0
    said = capsys.readouterr().out
    assert "note: small: 2 answers of this run were cut off at the most tokens: 'max_tokens' in the policy file" in said
    assert "note: small: 1 answer of this run was stopped by the provider's filter" in said
    assert "note: small: 1 answer of this run is empty" in said
    provider.behave(logprobs=0)
    desk.policy(large={"logprobs": True})
    assert desk.record() == 0
    assert "note: large: 10 answers of this run came without the token log-probabilities" in capsys.readouterr().out
    assert desk.record() == 0
    assert "note" not in capsys.readouterr().out


def test_rate_limits_slow_everybody(desk: Desk, provider: Provider) -> None:
    """Under a limit the answers come at nearly its rate, few requests are refused, and none comes while told to wait."""
    desk.rows(160)
    provider.behave(per_s=60, retry_after_s=1)
    assert desk.record("--tiers", "small", "--concurrency", 32) == 0
    counts = provider.counts()
    assert counts["refused"] < 0.6 * 160
    came, refused = sorted(counts["came_at"]), counts["refused_at"]
    # Once those under way have arrived, nothing comes until the second is over.
    for at in refused:
        assert not [t for t in came if at + 0.4 < t < at + 0.99], at
    assert len(desk.answers("small")) == 160


def test_a_long_wait_is_told(
    desk: Desk, provider: Provider, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the provider asks for patience, the progress line says for how long nothing will come."""
    monkeypatch.setattr(progress, "_EVERY_LOG_LINE_S", 0.2)
    provider.behave(per_s=5, retry_after_s=4)
    assert desk.record("--tiers", "small") == 0
    assert re.search(r"spent; small is not asked for [34] s", capsys.readouterr().err)


def test_the_budget_is_never_passed(desk: Desk, provider: Provider, capsys: pytest.CaptureFixture[str]) -> None:
    """The run stops before the limit by the provider's own bill; a higher limit goes on."""
    desk.rows(200)
    provider.behave(delay_s=0.005)
    limit = 150.5 * ONE_USD
    assert desk.record("--max-usd", limit, "--concurrency", 20) == 1
    said = capsys.readouterr().out
    assert f"stopped before --max-usd {limit:.6f} was passed" in said
    assert "answers are missing; a higher --max-usd goes on" in said
    billed = provider.counts()["usd"]
    assert 0.5 * limit < billed <= limit
    assert f"${billed:.6f} spent" in said
    assert desk.record("--max-usd", 1) == 0
    assert set(provider.counts()["asked"].values()) == {1}
    assert provider.counts()["usd"] == pytest.approx(400 * ONE_USD)


def test_the_budget_is_kept_over_kills_and_faults(desk: Desk, provider: Provider, mother: ForkServer) -> None:
    """What was under way at a kill, or was answered without arriving, counts as spent: the bill stays within the limit."""
    desk.rows(600)
    provider.behave(delay_s=0.01, passing={f"question {i}?": -1 for i in range(0, 600, 50)})
    limit, draw = 800 * ONE_USD, random.Random(3)
    for _ in range(5):
        argv = desk.argv("--max-usd", limit, "--concurrency", 8)
        mother.record(argv, kill_after_s=draw.uniform(0.02, 0.1), watch=desk.work)
    assert mother.record(argv) == 1
    assert 0.3 * limit < provider.counts()["usd"] <= limit


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}


@pytest.mark.parametrize("how", [(), ("--batch", "--poll-s", "0.05")])
@pytest.mark.parametrize(
    ("row", "price", "holds_usd"),
    [
        ({"prompt": [{"role": "user", "content": [{"type": "text", "text": "question 0?"}, IMAGE]}]}, {}, 5000 * IN_USD),
        ({"tools": [TOOL]}, {}, 600 * IN_USD),
        ({"schema": {"type": "object"}}, {}, 600 * IN_USD),
        ({}, {"cache_write_per_mtok": 500 * IN_USD * 1e6}, 500 * IN_USD * TOKENS_IN),
    ],
    ids=["image", "tools", "schema", "cache-write"],
)
def test_a_budget_holds_back_all_that_a_request_may_cost(
    desk: Desk, provider: Provider, row: dict[str, Any], price: dict[str, float], holds_usd: float, how: tuple[str, ...]
) -> None:
    """Images, tools, a schema and writes to the provider's cache count: under a limit below that nothing is asked."""
    common = {"input_per_mtok": IN_USD * 1e6, "output_per_mtok": OUT_USD * 1e6}
    desk.policy(small={"price": {**common, **price}})
    (desk.folder / "rows.jsonl").write_text(json.dumps({"id": "r0", "prompt": "question 0?", **row}) + "\n")
    holds_usd *= 0.5 if how else 1.0
    assert desk.record(*how, "--max-usd", 0.9 * holds_usd) == 1
    counts = provider.counts()
    assert not counts["asked"]
    assert not counts["batches"]
    # What plain text holds back is well below, so it is these that counted.
    desk.policy(small={"price": common})
    desk.rows(1)
    desk.out = desk.folder / "plain.jsonl"
    assert desk.record(*how, "--max-usd", 0.9 * holds_usd) == 0


def test_a_price_must_be_known_for_a_budget(desk: Desk, provider: Provider, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a price nothing could show that the limit is kept; without a limit the cost is unknown, not 0."""
    desk.policy(small={"price": None})
    assert desk.record("--max-usd", 1) == 2
    assert "--max-usd: the price of 'small' is not known" in capsys.readouterr().err
    assert desk.record() == 0
    assert {a["cost_usd"] for a in desk.answers("small")} == {None}
    assert "10 parts of unknown price" in capsys.readouterr().out


def test_an_interrupt_waits_for_what_is_under_way(desk: Desk, provider: Provider, mother: ForkServer) -> None:
    """Ctrl-C ends the run with a valid recording of what is there, and no request is asked again afterwards."""
    desk.rows(100)
    provider.behave(delay_s=0.05)
    argv = desk.argv("--concurrency", 8)
    assert mother.record(argv, kill_after_s=0.3, watch=desk.work, number=signal.SIGINT) == 130
    there = len(desk.answers("small"))
    assert 0 < there < 100
    assert "the same command goes on" in mother.said()
    assert mother.record(argv) == 0
    assert set(provider.counts()["asked"].values()) == {1}
    assert len(desk.answers("small")) == len(desk.answers("large")) == 100


def test_what_was_dropped_is_told(desk: Desk, provider: Provider) -> None:
    """SIGTERM twice drops the requests under way; under a budget the last lines say what they may have cost."""
    desk.rows(4)
    provider.behave(delay_s=30)
    command = [sys.executable, "-m", "evals.record", *desk.argv("--max-usd", 1)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while not desk.work.exists() or desk.work.read_bytes().count(b'"asks"') < 8:
            sleep(0.1)
        for _ in range(2):
            process.send_signal(signal.SIGTERM)
            sleep(0.5)
        said, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    cut_off = 8 * (OUT_USD * 20 + IN_USD * 30)
    found = re.search(r"requests that were cut off may have cost up to \$([\d.]+) more", said)
    assert found is not None
    assert float(found[1]) == pytest.approx(cut_off, rel=0.1)
    assert "8 answers are missing; the same command goes on" in said


def test_an_interrupt_while_the_recording_is_written(
    desk: Desk, provider: Provider, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C before and after the asking is one line, too, and costs nothing."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(command, "materialise", interrupted)
        assert desk.record() == 130
    assert "interrupted; what was answered is kept, the same command goes on" in capsys.readouterr().err
    assert not desk.out.exists()
    assert desk.record() == 0
    assert len(desk.answers("large")) == 10
    assert set(provider.counts()["asked"].values()) == {1}


def test_a_file_that_may_not_grow(desk: Desk, provider: Provider, mother: ForkServer) -> None:
    """A full disk is an error that says what to do; what was kept stays, and the same command goes on."""
    desk.rows(300)
    assert mother.record(desk.argv("--tiers", "small"), file_limit=40_000) == 1
    assert "make room, and the same command goes on" in mother.said()
    asked = sum(provider.counts()["asked"].values())
    kept = desk.work.read_bytes().count(b"\n[")
    assert 50 < kept < 300
    assert asked - kept <= 16
    assert desk.record("--tiers", "small") == 0
    assert len(desk.answers("small")) == 300
    assert sum(provider.counts()["asked"].values()) == 300 + asked - kept


def test_a_full_disk_loses_nothing(desk: Desk, provider: Provider, capsys: pytest.CaptureFixture[str]) -> None:
    """On a disk that fills, every answer is kept, what was there stays, and after room is made it goes on."""
    disk = desk.folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip("only root may mount a small disk")
    try:
        desk.rows(400)
        desk.out, desk.work = disk / "rec.jsonl", disk / "rec.jsonl.work"
        (disk / "filler").write_bytes(b"x" * ((6 << 20) - (4 << 20) - 50_000))
        assert desk.record("--tiers", "small") == 1
        asked = provider.counts()["asked"]
        assert 50 < len(asked) < 400
        assert len(desk.answers("small")) == sum(asked.values()) == len(asked)
        (disk / "filler").unlink()
        assert desk.record("--tiers", "small") == 0
        # Too little room to begin at all.
        (disk / "filler").write_bytes(b"x" * ((6 << 20) - (4 << 20)))
        asked = provider.counts()["asked"]
        assert desk.record("--tiers", "large") == 2
        assert "the disk has less than 4 MB left" in capsys.readouterr().err
        assert provider.counts()["asked"] == asked
        (disk / "filler").unlink()
        # Room for the recording, but not for the reserve beside it: that is given up.
        desk.out.unlink()
        (disk / "filler").write_bytes(b"x" * ((6 << 20) - (4 << 20) - desk.work.stat().st_size - 20_000))
        assert desk.record("--tiers", "small") == 0
        (disk / "filler").unlink()
        assert set(provider.counts()["asked"].values()) == {1}
        assert len(desk.answers("small")) == 400
        assert sorted(p.name for p in disk.iterdir()) == ["rec.jsonl", "rec.jsonl.work"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_damaged_work_file_is_named(desk: Desk, provider: Provider, capsys: pytest.CaptureFixture[str]) -> None:
    """A line that was damaged is an error with its number and a command that helps; half a line at the end is taken away."""
    assert desk.record() == 0
    lines = desk.work.read_bytes().splitlines(keepends=True)
    desk.work.write_bytes(b"".join(lines[:-1]) + lines[-1][:5])
    assert desk.record() == 0
    desk.work.write_bytes(b"".join([*lines[:5], b"[1, 2\n", *lines[5:]]))
    assert desk.record() == 2
    assert "rec.jsonl.work:6: the line is damaged" in capsys.readouterr().err
    desk.work.write_bytes(b"".join([*lines[:15], bytes(90) + b"\n", *lines[16:]]))
    assert desk.record() == 2
    remedy = re.search(
        r"rec.jsonl.work:16: the line is damaged; `(.*)` keeps what stands before it", capsys.readouterr().err
    )
    assert remedy is not None
    subprocess.run(remedy[1], shell=True, check=True)
    kept = desk.work.read_bytes().count(b"\n[")
    assert 0 < kept < 15
    provider.behave()
    assert desk.record() == 0
    assert sum(provider.counts()["asked"].values()) == 20 - kept
    assert len(desk.answers("small")) == len(desk.answers("large")) == 10


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
    assert set(provider.counts()["asked"].values()) == {1}


def test_fields_of_others_survive(desk: Desk, provider: Provider) -> None:
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
