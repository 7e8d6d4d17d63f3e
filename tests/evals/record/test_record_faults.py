"""The record command when something fails: requests, the provider, the disk, the process itself."""

import re
import signal
import subprocess

import pytest

from evals.common import progress
from evals.record import adaptive_concurrency, client, command, outage
from tests.evals.record.desk import Desk
from tests.evals.record.fork_server import ForkServer
from tests.evals.record.provider import Provider


def test_failures_stay_failures_until_retried(desk: Desk, provider: Provider, capsys: pytest.CaptureFixture[str]) -> None:
    """A refused prompt does not stop the run, is reported by kind, and is sent again by --retry-failed only."""
    provider.behave(faults={"question 3?": 400, "question 5?": 422, "question 7?": 400})
    assert desk.record("--tiers", "small") == 1
    output = capsys.readouterr().out
    assert (
        "failed: small: answer: HTTP 400: 2 rows, the first 'r3': status 400 (--retry-failed repeats the requests)" in output
    )
    assert "failed: small: answer: HTTP 422: 1 row, 'r5': status 422 (--retry-failed repeats the requests)" in output
    assert len(desk.answers("small")) == 7
    provider.behave()
    assert desk.record("--tiers", "small") == 1
    assert not provider.counts()["received"]
    assert desk.record("--tiers", "small", "--retry-failed") == 0
    assert sum(provider.counts()["received"].values()) == 3
    assert [a["text"] for a in desk.answers("small")] == [f"small says question {i}?" for i in range(10)]


def test_failures_of_a_kind_are_one_line(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """Messages that differ only in ids and names are one kind; the first row's message is printed in full."""
    desk.policy(small={"provider": "recorded", "recording": "starter", "model": "smollm2-135m-instruct", "base_url": None})
    assert desk.record() == 1
    output = capsys.readouterr().out
    assert output.count("failed: ") == 1
    assert "the id ... is not among the 606 recorded answers of ...: 10 rows, the first 'r0': " in output
    assert "ask a recorded prompt word for word, or use a live model (--retry-failed repeats the requests)" in output


def test_temporary_errors_are_retried(desk: Desk, provider: Provider) -> None:
    """A cut connection, no JSON and a server error are tried again, and nothing is left of them."""
    provider.behave(passing={"question 1?": 0, "question 2?": -1, "question 3?": 500, "question 4?": 503})
    assert desk.record("--tiers", "small") == 0
    counts = provider.counts()
    assert sum(counts["received"].values()) == 14
    assert len(desk.answers("small")) == 10


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_stops_its_model_at_once(
    desk: Desk, provider: Provider, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    """The model that refuses the key is asked no more, the other is recorded; the next run asks what is missing."""
    desk.rows(60)
    provider.behave(faults={'["small"': status})
    assert desk.record("--concurrency", 4) == 1
    output = capsys.readouterr().out
    assert f"stopped: small: HTTP {status}: status {status}; check the key, in the environment variable that" in output
    assert "60 answers are missing; fix that, then run the same command again to continue" in output
    assert "failed" not in output
    assert sum(n for k, n in provider.counts()["received"].items() if "small" in k) <= 4
    assert len(desk.answers("large")) == 60
    provider.behave()
    assert desk.record() == 0
    assert sum(provider.counts()["received"].values()) == 60


def test_a_dead_server_does_not_fail_every_row(desk: Desk, provider: Provider, capsys: pytest.CaptureFixture[str]) -> None:
    """Where nothing succeeds any more, the model is given up instead of failing the whole dataset."""
    desk.rows(200)
    provider.behave(faults={"question": 400})
    assert desk.record("--tiers", "small", "--concurrency", 4) == 1
    assert "requests failed in a row, the last with: small: HTTP 400" in capsys.readouterr().out
    assert sum(provider.counts()["received"].values()) < 45


@pytest.mark.parametrize("fault", [0, 502])
def test_an_outage_is_waited_for(
    desk: Desk, provider: Provider, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, fault: int
) -> None:
    """A server that is down for a while in the middle costs no row: all wait, one asks now and then, and it goes on."""
    monkeypatch.setattr(client, "_BACKOFF_S", 0.02)
    monkeypatch.setattr(adaptive_concurrency, "_FIRST_PAUSE_S", 0.02)
    desk.rows(400)
    provider.behave(delay_s=0.02, down_after=200, down_s=1.0, down_least=46, down_as=fault)
    assert desk.record("--tiers", "small", "--concurrency", 16) == 0
    assert len(desk.answers("small")) == 400
    output = capsys.readouterr().err
    assert re.search(r"small: .*; the last 46 requests failed, retrying for 3600 s", output)
    assert "small: back after" in output
    requests = sum(provider.counts()["received"].values())
    assert 400 + 46 <= requests < 400 + 46 + 60


def test_a_server_that_is_gone_fails_no_row(
    desk: Desk, provider: Provider, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that never answers is given up, and its rows are missing, not failed: the same command asks them."""
    monkeypatch.setattr(client, "_BACKOFF_S", 0.02)
    monkeypatch.setattr(outage, "FIRST_PATIENCE_S", 0.2)
    desk.rows(60)
    desk.policy(small={"base_url": "http://127.0.0.1:9/v1"}, large={})
    assert desk.record() == 1
    output = capsys.readouterr().out
    assert "stopped: small: no connection (ConnectionRefusedError)" in output
    assert "failed" not in output
    assert "60 answers are missing" in output
    assert len(desk.answers("large")) == 60


def test_incomplete_answers_are_reported(desk: Desk, provider: Provider, capsys: pytest.CaptureFixture[str]) -> None:
    """Answers that were cut off, filtered or are empty are kept and paid, and output at the end of the run."""
    provider.behave(
        ends={"question 1?": "length", "question 2?": "content_filter", "question 3?": "length"}, mute=["question 4?"]
    )
    assert desk.record("--tiers", "small") == 0
    output = capsys.readouterr().out
    assert "note: small: 2 answers of this run were cut off at the token limit: 'max_tokens' in the policy file" in output
    assert "note: small: 1 answer of this run was stopped by the provider's filter" in output
    assert "note: small: 1 answer of this run is empty" in output
    provider.behave(logprobs=0)
    desk.policy(large={"logprobs": True})
    assert desk.record() == 0
    assert "note: large: 10 answers of this run have no token log-probabilities" in capsys.readouterr().out
    assert desk.record() == 0
    assert "note" not in capsys.readouterr().out


def test_rate_limits_slow_all_workers(desk: Desk, provider: Provider) -> None:
    """Under a limit the answers come at nearly its rate, few requests are refused, and none is sent during Retry-After."""
    desk.rows(160)
    for _ in range(3):  # a busy machine may deliver late what was sent before; what is sent too early is so every time
        desk.out.unlink(missing_ok=True)
        provider.behave(per_s=60, retry_after_s=1)
        assert desk.record("--tiers", "small", "--concurrency", 32) == 0
        assert len(desk.answers("small")) == 160
        counts = provider.counts()
        came, refused = counts["came_at"], counts["refused_at"]
        # Once those under way have arrived, nothing comes until the second is over.
        early = [t for at in refused for t in came if at + 0.4 < t < at + 0.99]
        if counts["refused"] < 0.6 * 160 and not early:
            return
    pytest.fail(f"{counts['refused']} refused, {len(early)} sent too early")


def test_a_long_wait_is_reported(
    desk: Desk, provider: Provider, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the provider asks for patience, the progress line says for how long nothing will come."""
    monkeypatch.setattr(progress, "_EVERY_LOG_LINE_S", 0.2)
    provider.behave(per_s=5, retry_after_s=4)
    assert desk.record("--tiers", "small") == 0
    assert re.search(r"spent; no requests to small for [34] s", capsys.readouterr().err)


def test_an_interrupt_waits_for_what_is_under_way(desk: Desk, provider: Provider, fork_server: ForkServer) -> None:
    """Ctrl-C ends the run with a valid recording of what is there, and no request is asked again afterwards."""
    desk.rows(100)
    provider.behave(delay_s=0.05)
    argv = desk.argv("--concurrency", 8)
    assert fork_server.record(argv, kill_after_s=0.3, watch=desk.work, number=signal.SIGINT) == 130
    there = len(desk.answers("small"))
    assert 0 < there < 100
    assert "run the same command again to continue" in fork_server.output()
    assert fork_server.record(argv) == 0
    assert set(provider.counts()["received"].values()) == {1}
    assert len(desk.answers("small")) == len(desk.answers("large")) == 100


def test_an_interrupt_while_the_recording_is_written(
    desk: Desk, provider: Provider, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C before and after the asking is one line, too, and costs nothing."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(command, "write_recording", interrupted)
        assert desk.record() == 130
    assert "interrupted; the answers so far are kept; run the same command again to continue" in capsys.readouterr().err
    assert not desk.out.exists()
    assert desk.record() == 0
    assert len(desk.answers("large")) == 10
    assert set(provider.counts()["received"].values()) == {1}


def test_a_file_that_may_not_grow(desk: Desk, provider: Provider, fork_server: ForkServer) -> None:
    """A full disk is an error that says what to do; what was kept stays, and run the same command again to continue."""
    desk.rows(300)
    assert fork_server.record(desk.argv("--tiers", "small"), file_limit=40_000) == 1
    assert "free some disk space and run the same command again" in fork_server.output()
    requests = sum(provider.counts()["received"].values())
    lines = desk.work.read_bytes().count(b"\n[")
    assert 50 < lines < 300
    assert requests - lines <= 16
    assert desk.record("--tiers", "small") == 0
    assert len(desk.answers("small")) == 300
    assert sum(provider.counts()["received"].values()) == 300 + requests - lines


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
        requests = provider.counts()["received"]
        assert 50 < len(requests) < 400
        assert len(desk.answers("small")) == sum(requests.values()) == len(requests)
        (disk / "filler").unlink()
        assert desk.record("--tiers", "small") == 0
        # Too little room to begin at all.
        (disk / "filler").write_bytes(b"x" * ((6 << 20) - (4 << 20)))
        requests = provider.counts()["received"]
        assert desk.record("--tiers", "large") == 2
        assert "the disk has less than 4 MB left" in capsys.readouterr().err
        assert provider.counts()["received"] == requests
        (disk / "filler").unlink()
        # Room for the recording, but not for the reserve beside it: that is given up.
        desk.out.unlink()
        (disk / "filler").write_bytes(b"x" * ((6 << 20) - (4 << 20) - desk.work.stat().st_size - 20_000))
        assert desk.record("--tiers", "small") == 0
        (disk / "filler").unlink()
        assert set(provider.counts()["received"].values()) == {1}
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
    remedy = re.search(r"rec.jsonl.work:16: the line is damaged; `(.*)` keeps the lines before it", capsys.readouterr().err)
    assert remedy is not None
    subprocess.run(remedy[1], shell=True, check=True)
    records = desk.work.read_bytes().count(b"\n[")
    assert 0 < records < 15
    provider.behave()
    assert desk.record() == 0
    assert sum(provider.counts()["received"].values()) == 20 - records
    assert len(desk.answers("small")) == len(desk.answers("large")) == 10
