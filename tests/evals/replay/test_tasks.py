"""What the cascade loses by task: the figures, their corrected intervals, and the advice."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from evals.replay.results.tasks import LEVEL, by_task, loss_interval
from tests.evals.replay.synthetic import examples, outcome, random_outcome

MODELS = ["cheap", "middle", "dear"]


@pytest.mark.parametrize("seed", [1, 2])
def test_by_task_is_a_plain_recomputation(seed: int) -> None:
    """Every figure of every task, from the examples and the outcome, in a loop; rows without a task are one of their own."""
    rows = [replace(e, task="" if i % 7 == 0 else e.task) for i, e in enumerate(examples(60, seed))]
    held = np.random.default_rng(seed).permutation(60)[:41]
    mine = [rows[i] for i in held]
    ran, by = random_outcome(mine, seed)
    intervals: list[tuple[list[float], list[float]]] = []

    def interval(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
        intervals.append((a.tolist(), b.tolist()))
        return float((a - b).min()), float((a - b).max())

    lines = by_task(rows, held, MODELS, ran, premium="dear", limit=0.05, interval=interval)
    assert [t["task"] for t in lines] == ["(no task)", "t0", "t1", "t2"]
    assert sum(t["n"] for t in lines) == 41
    for entry, given_to in zip(lines, intervals, strict=True):
        at = [i for i, e in enumerate(mine) if (e.task or "(no task)") == entry["task"]]
        premium = [mine[i].answers["dear"]["quality"] for i in at]
        quality = [ran.quality[i] for i in at]
        assert entry["n"] == len(at)
        assert entry["quality"] == pytest.approx(sum(quality) / len(at))
        assert entry["premium_quality"] == pytest.approx(sum(premium) / len(at))
        assert entry["difference"] == pytest.approx(entry["quality"] - entry["premium_quality"])
        assert entry["cost_ratio"] == pytest.approx(sum(ran.cost_usd[i] for i in at) / (0.02 * len(at)))
        assert given_to == (quality, premium)
        assert entry["interval"] == [min(np.subtract(quality, premium)), max(np.subtract(quality, premium))]
        assert entry["shares"] == pytest.approx({m: sum(by[i] == m for i in at) / len(at) for m in MODELS})


@pytest.mark.parametrize("change", [{"dear": {"cost_usd": 0.0}}, {}])
def test_a_ratio_that_cannot_be_known_is_none(change: dict[str, Any]) -> None:
    """Because the premium tier is free, or because what was spent is unknown."""
    rows = examples(6, **change)
    ran = outcome(tier=[0] * 6, last_called=[0] * 6, cost=[1.0 if change else float("nan")] * 6)
    lines = by_task(rows, np.arange(6), MODELS, ran, premium="dear", limit=0.05, interval=lambda a, b: (0.0, 0.0))
    assert [t["cost_ratio"] for t in lines] == [None] * 3


def test_an_interval_holds_the_mean_and_narrows() -> None:
    """Around the measured loss, with a width that falls with the rows, also where no pair differs."""
    for losses in (np.zeros(40), np.r_[np.ones(6), -np.ones(2), np.zeros(32)], np.linspace(-0.3, 0.6, 40)):
        low, high = loss_interval(losses)
        wide = loss_interval(losses, LEVEL / 10)
        many = loss_interval(np.tile(losses, 20))
        assert low < losses.mean() < high
        assert wide[0] < low < high < wide[1]
        assert many[1] - many[0] < (high - low) / 2


def test_the_intervals_of_many_tasks_hold_at_once() -> None:
    """In 400 simulated replays of 12 tasks, the share in which any task's interval misses its loss is at most 5 %."""
    rng = np.random.default_rng(3)
    worse, better, tasks = 0.10, 0.04, 12
    misses = 0
    for _ in range(400):
        missed = False
        for _ in range(tasks):
            losses = rng.choice([1.0, -1.0, 0.0], 40, p=[worse, better, 1 - worse - better])
            low, high = loss_interval(losses, LEVEL / tasks)
            missed |= not low <= worse - better <= high
        misses += missed
    assert misses / 400 <= LEVEL + 3 * (LEVEL * (1 - LEVEL) / 400) ** 0.5


@pytest.mark.parametrize(
    ("quality", "cost", "words"),
    [
        (0.0, 0.001, "send straight to premium: loses more"),
        (1.0, 0.03, "send straight to premium: no saving"),
        (1.0, 0.001, "keep: the loss is as promised"),
    ],
)
def test_advice(quality: float, cost: float, words: str) -> None:
    """A task that surely loses more than promised, one that saves nothing, and one that is fine."""
    rows = [replace(e, task="support") for e in examples(200)]
    rows = [replace(e, answers={**e.answers, "dear": {**e.answers["dear"], "quality": 1.0}}) for e in rows]
    ran = outcome(
        tier=[0] * 200, last_called=[0] * 200, quality=[quality] * 200, cost=[cost + 1e-6 * (i % 3) for i in range(200)]
    )
    [line] = by_task(rows, np.arange(200), MODELS, ran, premium="dear", limit=0.05, interval=lambda a, b: (0.0, 0.0))
    assert line["advice"] == words


def test_few_rows_get_no_advice() -> None:
    """Nine rows say nothing."""
    rows = [replace(e, task="support") for e in examples(9)]
    ran = outcome(tier=[0] * 9, last_called=[0] * 9, quality=[0.0] * 9, cost=[0.1] * 9)
    [line] = by_task(rows, np.arange(9), MODELS, ran, premium="dear", limit=0.05, interval=lambda a, b: (0.0, 0.0))
    assert line["advice"] == "too few rows to judge"
