"""A tier with ``fuse`` is recorded as a model of its own, which a replay treats as any other."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from cascade import Cascade
from cascade.policy import load
from evals.recording import read
from evals.replay.command import main as replay
from evals.replay.score_table import score_tier
from tests.evals.record.desk import ONE_USD, Desk
from tests.evals.record.provider import Provider

KEY = "large fuse(2x small, large)"


def fused_policy(desk: Desk) -> None:
    """The desk's policy with a third tier that fuses the answers of both models, two of each."""
    path = desk.folder / "policy.yaml"
    policy: dict[str, Any] = json.loads(path.read_text())
    tier = {"name": "fused", "model": "large", "fuse": ["small", "large"], "samples": 2}
    policy["policies"]["default"]["tiers"].append(tier)
    path.write_text(json.dumps(policy))


def test_fused_answers_are_those_of_a_model(desk: Desk, provider: Provider) -> None:
    """With the cost of all candidates in the cost of the answer, and none of them paid twice where it is recorded."""
    fused_policy(desk)
    desk.rows(3)
    assert desk.record("--tiers", "small,large") == 0
    assert desk.record() == 0
    answers = desk.answers(KEY)
    assert len(answers) == 3
    for answer in answers:
        assert answer["text"].startswith("large says")
        assert answer["cost_usd"] == pytest.approx(5 * ONE_USD)
        assert answer["fuse"] == {"models": ["small", "large"], "samples": 2}
    assert provider.counts()["usd"] == pytest.approx(3 * (2 + 3) * ONE_USD)


def test_the_policy_finds_its_recorded_model(desk: Desk) -> None:
    """A replay scores the model by the name that a calibration of the policy looks for."""
    fused_policy(desk)
    desk.rows(2)
    assert desk.record() == 0
    examples = list(read(desk.out))
    assert set(examples[0].answers) == {"small", "large", KEY}
    tier = load.load(str(desk.folder / "policy.yaml")).policies["default"].tiers[2]
    assert (tier.fuse, tier.samples) == (["small", "large"], 2)
    graded = [json.loads(line) for line in Path(desk.out).read_text().splitlines()]
    for row in graded:
        row["answers"][KEY]["quality"] = 1.0
    Path(desk.out).write_text("".join(json.dumps(row) + "\n" for row in graded))
    column = asyncio.run(score_tier(list(read(desk.out)), KEY, []))
    assert column.cost_usd[:, 0] == pytest.approx([row["answers"][KEY]["cost_usd"] for row in graded])


def test_a_batch_cannot_fuse(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """A candidate has to be there before the request that reads it is written."""
    fused_policy(desk)
    assert desk.record("--batch") != 0
    assert "fuse" in capsys.readouterr().err


def test_from_the_recording_to_production(desk: Desk, provider: Provider) -> None:
    """A fused tier is recorded, tuned, certified, written and run: at the cost that the replay counted."""
    fused_policy(desk)
    path = desk.folder / "policy.yaml"
    policy: dict[str, Any] = json.loads(path.read_text())
    policy["policies"]["default"]["tiers"] = [{"model": "small"}, policy["policies"]["default"]["tiers"][2]]
    path.write_text(json.dumps(policy, indent=1))
    desk.rows(120)
    assert desk.record() == 0
    lines = [json.loads(line) for line in Path(desk.out).read_text().splitlines()]
    for i, row in enumerate(lines):
        row["answers"]["small"]["quality"] = float(i % 5 == 0)
        row["answers"][KEY]["quality"] = 1.0
    Path(desk.out).write_text("".join(json.dumps(row) + "\n" for row in lines))
    tuned, figures = desk.folder / "tuned.yaml", desk.folder / "figures.json"
    argv = [
        str(desk.out),
        "--policy-file",
        str(path),
        "--max-loss",
        "0.1",
        "--write-policy",
        str(tuned),
        "--json",
        str(figures),
    ]
    assert replay(argv) == 0
    chosen = json.loads(figures.read_text())["chosen"]
    assert chosen["tiers"] == [KEY]
    assert replay([str(desk.out), "--policy-file", str(tuned)]) == 0  # measured as it is
    file = load.load(tuned)
    (tier,) = file.policies["default"].tiers
    assert (tier.name, tier.model, tier.fuse, tier.samples) == ("fused", "large", ["small", "large"], 2)
    provider.behave()
    with Cascade(file) as cascade:
        result = cascade.run("question 3?")
    assert provider.counts()["usd"] == pytest.approx(5 * ONE_USD)
    assert result.cost_usd == pytest.approx(5 * ONE_USD) == pytest.approx(chosen["usd_per_1000"] / 1000)
    assert [call.purpose for call in result.attempts[0].call_log].count("candidate") >= 2
