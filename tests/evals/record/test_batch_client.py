"""Recording by the batch APIs of both providers, by their real SDKs against a local server."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from evals.common import progress
from tests.evals.record.desk import ONE_USD, Desk
from tests.evals.record.fork_server import ForkServer
from tests.evals.record.provider import IN_USD, TOKENS_IN, Provider

BATCH = ["--batch", "--poll-s", "0.05"]
BOTH: list[dict[str, Any]] = [{}, {"provider": "anthropic"}]
both = pytest.mark.parametrize("spec", BOTH, ids=["openai", "anthropic"])


@pytest.fixture
def desk(tmp_path: Path, provider: Provider) -> Desk:
    """A fresh folder."""
    return Desk(tmp_path, provider.url)


@both
def test_a_batch(desk: Desk, provider: Provider, spec: dict[str, Any]) -> None:
    """Answers and samples are one batch, verdicts a second; everything costs half; no request is sent outside a batch."""
    desk.policy(m=spec)
    provider.behave(polls=2)
    assert desk.record(*BATCH, "--samples", 2, "--temperature", 0.9, "--judges", "verifier") == 0
    counts = provider.counts()
    answers = desk.answers("m")
    assert not counts["received"]
    assert [a["text"] for a in answers] == [f"m says question {i}?" for i in range(10)]
    assert all(len(a["samples"]) == 2 and a["latency_s"] is None for a in answers)
    # Anthropic's verifier asks for a rating where it is given no log-probabilities: a third batch.
    assert counts["batches"] == (3 if spec else 2)
    assert all(a["cost_usd"] == pytest.approx(ONE_USD / 2) for a in answers)
    sampled = ONE_USD if spec else (2 * ONE_USD - TOKENS_IN * IN_USD) / 2
    assert all(a["sample_cost_usd"] == pytest.approx(sampled / 2) for a in answers)
    usd = sum(a["cost_usd"] + 2 * a["sample_cost_usd"] + a["verdict_cost_usd"]["verifier"] for a in answers)
    assert counts["usd"] == pytest.approx(usd)
    assert all(0 < a["verdicts"]["verifier"] < 1 for a in answers)


@both
def test_what_expired_or_failed_goes_out_again(desk: Desk, provider: Provider, spec: dict[str, Any]) -> None:
    """Expired and errored requests are in the next batch, and only they."""
    desk.policy(m=spec)
    provider.behave(lost={"question 3?": "expired", "question 5?": "errored", "question 8?": "expired"})
    assert desk.record(*BATCH) == 0
    submitted = {json.loads(k)[1]: n for k, n in provider.counts()["submitted"].items()}
    assert submitted == {f"question {i}?": 2 if i in (3, 5, 8) else 1 for i in range(10)}
    assert len(desk.answers("m")) == 10


@both
def test_another_process_collects(desk: Desk, provider: Provider, fork_server: ForkServer, spec: dict[str, Any]) -> None:
    """A process that was killed while its batch ran leaves it to the next one, which hands in nothing again."""
    desk.policy(m=spec)
    provider.behave(polls=10_000)
    argv = desk.argv(*BATCH, "--samples", 1, "--judges", "")
    assert fork_server.record(argv, kill_after_s=0.4, watch=desk.work) == -9
    while provider.counts()["batches"] == 0:  # killed before its batch was handed in, on a busy machine
        assert fork_server.record(argv, kill_after_s=1) == -9
    for _ in range(2):
        assert fork_server.record(argv, kill_after_s=1) == -9
    assert provider.counts()["batches"] == 1
    assert not desk.out.exists()
    provider.change(polls=0)
    assert fork_server.record(argv) == 0, fork_server.output()
    assert provider.counts()["batches"] == 1
    assert set(provider.counts()["submitted"].values()) == {1}
    assert [len(a["samples"]) for a in desk.answers("m")] == [1] * 10
    assert sum(a["cost_usd"] + a["sample_cost_usd"] for a in desk.answers("m")) == pytest.approx(10 * ONE_USD)


@both
def test_a_batch_whose_id_never_arrived_is_found(desk: Desk, provider: Provider, spec: dict[str, Any]) -> None:
    """Where the process died between handing in and hearing the id, the batch is looked for, not paid again."""
    desk.policy(m=spec)
    assert desk.record(*BATCH) == 0
    lines = desk.work.read_text().splitlines(keepends=True)
    noted = next(i for i, line in enumerate(lines) if '"id"' in line and line.startswith('{"batch"'))
    desk.work.write_text("".join(lines[:noted]))
    desk.out.unlink()
    assert desk.record(*BATCH) == 0
    assert provider.counts()["batches"] == 1
    assert len(desk.answers("m")) == 10


@both
def test_a_batch_that_was_never_handed_in_goes_out(desk: Desk, provider: Provider, spec: dict[str, Any]) -> None:
    """Where the process died before handing in, the requests go out with the next batch."""
    desk.policy(m=spec)
    assert desk.record(*BATCH) == 0
    lines = desk.work.read_text().splitlines(keepends=True)
    noted = next(i for i, line in enumerate(lines) if '"id"' in line and line.startswith('{"batch"'))
    desk.work.write_text("".join(lines[:noted]))
    desk.out.unlink()
    provider.behave()
    assert desk.record(*BATCH) == 0
    assert provider.counts()["batches"] == 1
    assert len(desk.answers("m")) == 10


@both
def test_the_budget_holds_for_batches(desk: Desk, provider: Provider, spec: dict[str, Any]) -> None:
    """Requests that might pass the limit wait for the batch before them; what is billed stays within it."""
    desk.rows(60)
    desk.policy(m=spec)
    limit = 40 * ONE_USD / 2
    assert desk.record(*BATCH, "--max-usd", limit) == 1
    billed = provider.counts()["usd"]
    assert 0.4 * limit < billed <= limit
    assert sum(a["cost_usd"] for a in desk.answers("m")) == pytest.approx(billed)
    assert desk.record(*BATCH, "--max-usd", 1) == 0
    assert set(provider.counts()["submitted"].values()) == {1}


def test_a_wrong_key_stops_batches(desk: Desk, provider: Provider, capsys: pytest.CaptureFixture[str]) -> None:
    """A provider without such an API, or that refuses the key, stops the model and says so; nothing counts as failed."""
    desk.policy(m={"base_url": f"{provider.url}/nowhere"})
    assert desk.record(*BATCH) == 1
    output = capsys.readouterr().out
    assert "stopped: m: HTTP 404: no route POST /nowhere/files; check 'model' and 'base_url' in the policy file" in output
    assert "failed" not in output


def test_batch_and_live_do_not_mix(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """A recording of which a part cost half as much is refused."""
    desk.policy(m={})
    assert desk.record("--limit", 3) == 0
    assert desk.record(*BATCH) == 2
    assert "was started with --batch of m: false, now it is true" in capsys.readouterr().err


def test_a_model_without_batches(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """A scripted model takes no batches."""
    desk.policy(m={"provider": "scripted", "answers": ["x"], "base_url": None, "max_tokens": None})
    assert desk.record(*BATCH) == 2
    assert "--batch: 'm' is of the provider 'scripted', which has no batch API" in capsys.readouterr().err


def test_the_line_tells_of_batches(
    desk: Desk, provider: Provider, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While batches are pending the progress line has their number and the state of the oldest."""
    monkeypatch.setattr(progress, "_EVERY_LOG_LINE_S", 0.2)
    desk.policy(m={})
    provider.behave(polls=20)
    assert desk.record(*BATCH) == 0
    assert "0 of 10, 0.0 answers/s, unknown time left, $0.0000 spent; m: open batches: 1, the oldest in_progress" in (
        capsys.readouterr().err
    )


def test_ctrl_c_leaves_the_batch_to_the_next_run(desk: Desk, provider: Provider, fork_server: ForkServer) -> None:
    """An interrupt ends the run at once, without waiting a day for what is under way."""
    desk.policy(m={})
    provider.behave(polls=10_000)
    argv = desk.argv(*BATCH)
    assert fork_server.record(argv, kill_after_s=0.5, watch=desk.work, number=signal.SIGINT) == 130
    assert "open batches: 1; run the same command again to collect them" in fork_server.output()
    provider.change(polls=0)
    assert fork_server.record(argv) == 0
    assert provider.counts()["batches"] == 1
