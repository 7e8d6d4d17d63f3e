"""A recording whose requests the workers of Ray send: the same rows, limits over all workers, nothing paid twice."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evals.engines import Engine
from evals.grade.command import main as grade
from evals.record.command import main as record
from tests.evals.engines.killer import Killer, senders
from tests.evals.engines.rows import write_rows
from tests.evals.record.desk import ONE_USD, Desk
from tests.evals.record.provider import Provider

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore::ResourceWarning")]
CLOCKS = ("latency_s",)


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    """A provider in a process of its own, which counts requests and costs."""
    with Provider() as running:
        yield running


@pytest.fixture
def desk(tmp_path: Path, provider: Provider) -> Desk:
    """A folder with a dataset and a policy."""
    provider.behave(delay_s=0.02)
    return Desk(tmp_path, provider.url)


def without_clocks(path: Path) -> list[Any]:
    """The rows of a recording without what a clock says, which differs from run to run."""

    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: bare(v) for k, v in value.items() if not k.endswith(CLOCKS)}
        return [bare(v) for v in value] if isinstance(value, list) else value

    return [bare(json.loads(line)) for line in path.read_text().splitlines()]


def test_a_recording_is_the_same(engine: Engine, desk: Desk, provider: Provider) -> None:
    """Answers, samples and verdicts of two models, as one process records them; each is requested once."""
    desk.policy(judges=["logprob", "verifier"], small={"logprobs": True}, large={})
    desk.rows(40)
    assert record(desk.argv("--samples", 2)) == 0
    one = without_clocks(desk.out)
    requests = provider.counts()["received"]
    desk.out.rename(desk.folder / "one.jsonl")
    desk.work.rename(desk.folder / "one.work")
    provider.behave()
    assert record(desk.argv("--samples", 2), engine=engine) == 0
    assert without_clocks(desk.out) == one
    assert provider.counts()["received"] == requests


def test_a_recording_of_recorded_answers_is_the_same_bytes(engine: Engine, tmp_path: Path) -> None:
    """Recorded answers state their own latency: nothing differs."""
    source = write_rows(tmp_path / "source.jsonl", 300)
    dataset = tmp_path / "rows.jsonl"
    dataset.write_text("".join(json.dumps({"id": f"r{i}", "prompt": json.loads(line)["prompt"]}) + "\n"
        for i, line in enumerate(source.read_text().splitlines())))  # fmt: skip
    models = {name: {"provider": "recorded", "recording": str(source)} for name in ("small", "large")}
    tiers = [{"model": name, "judges": ["rules"]} for name in models]
    policy = tmp_path / "policy.yaml"
    policy.write_text(json.dumps({"version": 1, "models": models, "policies": {"default": {"tiers": tiers}}}))
    outs = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    for out, chosen in zip(outs, (None, engine), strict=True):
        assert record([str(dataset), "--policy", str(policy), "--out", str(out)], engine=chosen) == 0
    assert outs[0].read_bytes() == outs[1].read_bytes()


def test_three_killed_workers_pay_nothing_twice(engine: Engine, desk: Desk, provider: Provider) -> None:
    """Every request is sent once, those under way at a kill as well, since their sender outlives the worker."""
    rows, kills, concurrency = 600, 3, 8
    provider.behave(delay_s=0.05)
    desk.policy(small={}, large={})
    desk.rows(rows)

    def is_time(kills: int) -> bool:
        """Whether a quarter more of the answers is recorded: the workers are at work."""
        return desk.work.exists() and desk.work.read_bytes().count(b"\n[") > (kills + 1) * rows // 2

    with Killer("ModelWorker", kills, is_time) as killer:
        assert record(desk.argv("--concurrency", concurrency, "--max-usd", 1), engine=engine) == 0
    assert len(killer.victims) == kills
    counts = provider.counts()
    assert len(counts["received"]) == len(counts["answered"]) == 2 * rows
    assert set(counts["received"].values()) == set(counts["answered"].values()) == {1}
    assert counts["usd"] == pytest.approx(2 * rows * ONE_USD)
    lines = [json.loads(line) for line in desk.work.read_text().splitlines()]
    parts = [tuple(line[:3]) for line in lines if isinstance(line, list)]
    assert len(parts) == len(set(parts)) == 2 * rows
    assert {line["usd"] for line in lines if isinstance(line, dict) and "asked" in line} == {0.0}  # nothing is in doubt
    answers = desk.answers("small")
    assert [answer["text"] for answer in answers] == [f"small says question {i}?" for i in range(rows)]


def test_a_killed_sender_is_replaced(engine: Engine, desk: Desk, provider: Provider) -> None:
    """What it had under way is requested again, and counts under the budget as if it were paid; nothing else is."""
    rows, concurrency = 200, 8
    provider.behave(delay_s=0.05)
    desk.policy(small={})
    desk.rows(rows)

    def is_time(_: int) -> bool:
        return desk.work.exists() and desk.work.read_bytes().count(b"\n[") > rows // 4

    with Killer("evals.engines.sender", 1, is_time, find=senders) as killer:
        assert record(desk.argv("--concurrency", concurrency, "--max-usd", 1), engine=engine) == 0
    assert len(killer.victims) == 1
    counts = provider.counts()
    assert len(counts["answered"]) == rows
    repeated = sum(counts["received"].values()) - rows
    assert repeated <= concurrency
    lines = [json.loads(line) for line in desk.work.read_text().splitlines()]
    spent = rows * ONE_USD + sum(line["usd"] for line in lines if isinstance(line, dict) and "asked" in line)
    assert counts["usd"] <= spent + 1e-9


def test_rates_and_budget_hold_over_all_workers(
    engine: Engine, desk: Desk, provider: Provider, capsys: pytest.CaptureFixture[str]
) -> None:
    """One limit of concurrency and one sum of money, whoever sends the requests."""
    desk.policy(small={})
    desk.rows(200)
    assert record(desk.argv("--concurrency", 5, "--max-usd", 150 * ONE_USD), engine=engine) == 1
    counts = provider.counts()
    assert counts["most_active"] <= 5
    assert 50 * ONE_USD <= counts["usd"] <= 150 * ONE_USD
    assert "stopped before the cost exceeded --max-usd" in capsys.readouterr().out
    assert record(desk.argv("--concurrency", 5, "--max-usd", 1), engine=engine) == 0
    assert set(provider.counts()["answered"].values()) == {1}


def test_a_rate_limit_pauses_all_workers(engine: Engine, desk: Desk, provider: Provider) -> None:
    """The provider refuses what is above its rate; everything is recorded, with few refusals."""
    provider.behave(per_s=40, retry_after_s=0.5)
    desk.policy(small={})
    desk.rows(60)
    assert record(desk.argv(), engine=engine) == 0
    counts = provider.counts()
    assert set(counts["answered"].values()) == {1}
    assert counts["refused"] <= 60


def test_a_judge_model_is_asked_by_workers(engine: Engine, desk: Desk, provider: Provider) -> None:
    """Grades are stored by this process: a second run asks nothing."""
    desk.policy(judge={})
    path = write_rows(desk.folder / "graded.jsonl", 30)
    argv = [str(path), "--regrade", "--grader", "model:use=judge", "--policy-file", str(desk.folder / "policy.yaml")]
    assert grade(argv, engine=engine) == 0
    requests = sum(provider.counts()["received"].values())
    assert 0 < requests <= 60  # of two models' equal answers, one
    assert grade(argv, engine=engine) == 0
    assert sum(provider.counts()["received"].values()) == requests


def test_a_wrong_key_is_named(
    engine: Engine, desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is sent, in one line."""
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    desk.policy(small={"api_key_env": "NO_SUCH_KEY"})
    assert record(desk.argv()) == 2
    one = capsys.readouterr().err
    assert record(desk.argv(), engine=engine) in (1, 2)
    captured = capsys.readouterr()
    assert "NO_SUCH_KEY" in one
    assert "NO_SUCH_KEY" in captured.err + captured.out
