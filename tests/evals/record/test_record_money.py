"""The record command and its cost limit."""

import json
import random
import re
import signal
import subprocess
import sys
from time import sleep
from typing import Any

import pytest

from tests.evals.record.desk import ONE_USD, Desk
from tests.evals.record.fork_server import ForkServer
from tests.evals.record.provider import IN_USD, OUT_USD, TOKENS_IN, Provider
from tests.workers import warm_python


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
    before = provider.counts()["received"]
    assert desk.record("--tiers", "small", "--max-usd", spent + paid, "--grader", "model:use=large:fraction=true") == 1
    assert f"${paid:.6f} more for grades" in capsys.readouterr().out
    assert provider.counts()["received"] == before


def test_a_judge_model_without_a_price_is_refused_under_max_usd(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """Before the answers are paid for that it was to grade."""
    desk.policy(small={}, judge={"model": "of-no-known-price", "price": None})
    desk.rows(1, reference="x")
    assert desk.record("--tiers", "small", "--max-usd", 1.0, "--grader", "model:use=judge") == 2
    assert "--max-usd needs the price of judge; give it in the policy file" in capsys.readouterr().err
    assert not desk.work.exists()


def test_a_kill_while_a_model_judges_pays_nothing_twice(desk: Desk, provider: Provider, fork_server: ForkServer) -> None:
    """What it output is on the disk at once: after three kills only what was under way at one was asked again."""
    desk.rows(40, reference="x")
    assert desk.record("--tiers", "small") == 0
    before = desk.out.read_bytes()
    provider.behave(delay_s=0.1)
    argv = [desk.out, "--grader", "model:use=large", "--concurrency", 4, "--policy-file", desk.folder / "policy.yaml"]
    cache = desk.folder / ".cascade" / "grades.jsonl"
    for size in (5, 15, 25):
        assert fork_server.grade(argv, watch=cache, lines=size) == -9
        assert desk.out.read_bytes() == before
    assert fork_server.grade(argv) == 0
    rows = [json.loads(line) for line in cache.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == len({row["key"] for row in rows}) == 40
    assert [a["quality"] for a in desk.answers("small")] == [1.0] * 40
    requests = [n for key, n in provider.counts()["received"].items() if "verify" in key]
    assert len(requests) == 40
    assert sum(requests) <= 40 + 3 * 4


def test_the_budget_is_never_passed(desk: Desk, provider: Provider, capsys: pytest.CaptureFixture[str]) -> None:
    """The run stops before the limit by the provider's own bill; a higher limit goes on."""
    desk.rows(200)
    provider.behave(delay_s=0.005)
    limit = 150.5 * ONE_USD
    assert desk.record("--max-usd", limit, "--concurrency", 20) == 1
    output = capsys.readouterr().out
    assert f"stopped before the cost exceeded --max-usd {limit:.6f}" in output
    assert "answers are missing; run the same command again to continue with a higher --max-usd" in output
    billed = provider.counts()["usd"]
    assert 0.5 * limit < billed <= limit
    assert f"${billed:.6f} spent" in output
    assert desk.record("--max-usd", 1) == 0
    assert set(provider.counts()["received"].values()) == {1}
    assert provider.counts()["usd"] == pytest.approx(400 * ONE_USD)


def test_the_budget_is_kept_over_kills_and_faults(desk: Desk, provider: Provider, fork_server: ForkServer) -> None:
    """What was under way at a kill, or was answered without arriving, counts as spent: the bill stays within the limit."""
    desk.rows(600)
    provider.behave(delay_s=0.01, passing={f"question {i}?": -1 for i in range(0, 600, 50)})
    limit, draw = 800 * ONE_USD, random.Random(3)
    for _ in range(5):
        argv = desk.argv("--max-usd", limit, "--concurrency", 8)
        fork_server.record(argv, kill_after_s=draw.uniform(0.02, 0.1), watch=desk.work)
    assert fork_server.record(argv) == 1
    assert 0.2 * limit < provider.counts()["usd"] <= limit


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
    assert not counts["received"]
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


def test_dropped_requests_are_reported(desk: Desk, provider: Provider) -> None:
    """SIGTERM twice drops the requests under way; under a budget the last lines say what they may have cost."""
    desk.rows(4)
    provider.behave(delay_s=30)
    command = [sys.executable, "-m", "evals.record", *desk.argv("--max-usd", 1)]
    with warm_python.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while not desk.work.exists() or desk.work.read_bytes().count(b'"asks"') < 8:
            sleep(0.1)
        for _ in range(2):
            process.send_signal(signal.SIGTERM)
            sleep(0.5)
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    cut_off = 8 * (OUT_USD * 20 + IN_USD * 83)  # 83: "question 0?" and what may be put before it
    match = re.search(r"requests that were cut off may have cost up to \$([\d.]+) more", output)
    assert match is not None
    assert float(match[1]) == pytest.approx(cut_off, rel=0.1)
    assert "8 answers are missing; run the same command again to continue" in output
