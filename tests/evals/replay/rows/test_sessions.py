"""Conversations in a recording: their turns stay together, and a policy with ``sticky`` is measured turn by turn."""

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascade import Policy
from evals.replay.certificate.guarantee import Guarantee
from evals.replay.engine_check import run_engine
from evals.replay.pipeline import ReplayConfig, replay
from evals.replay.pipeline import rows as replay_rows
from evals.replay.rows.splits import Splits
from tests.evals.replay.synthetic import examples


def test_no_conversation_is_parted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All turns of a session are in one part of the split, as the replay makes it."""
    rows = examples(240)
    for i, row in enumerate(rows):
        row.raw["session"] = f"s{i // 4}"  # type: ignore[index]
    splits: list[Splits] = []
    real = replay_rows.halves

    def halves(*args: Any, **options: Any) -> Splits:
        splits.append(real(*args, **options))
        return splits[-1]

    monkeypatch.setattr(replay_rows, "halves", halves)
    path = tmp_path / "r.jsonl"
    path.write_text("".join(json.dumps(row.raw) + "\n" for row in rows))
    config = ReplayConfig(guarantee=Guarantee("max_loss", 0.2, 0.1), judges=("rules", "logprob"))
    asyncio.run(replay(path, rows, ["cheap", "dear"], config))
    part_of = {int(row): name for name in ("fit", "certify", "test") for row in getattr(splits[0], name)}
    sessions = [{part_of[i] for i in range(first, first + 4)} for first in range(0, 240, 4)]
    assert all(len(parts) == 1 for parts in sessions)
    assert {next(iter(parts)) for parts in sessions} == {"fit", "certify", "test"}


def test_a_sticky_policy_is_measured_turn_by_turn() -> None:
    """A conversation that escalated begins its next turn higher; rows of no conversation begin at the first tier."""
    rows = examples(6)
    tiers = [{"model": "cheap", "judges": ["rules"], "accept_at": 1.0}, {"model": "dear", "accept_at": 0.0}]
    policy = Policy.model_validate({"tiers": tiers, "sticky": {}})
    for row in rows[:4]:
        row.raw["session"] = "one"  # type: ignore[index]
    results = asyncio.run(run_engine(policy, rows, np.arange(6)))
    assert [len(result.attempts) for result in results] == [2, 1, 1, 1, 2, 2]
