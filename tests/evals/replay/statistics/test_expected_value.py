"""Cascade routing by expected value: what it learns, and that it keeps the promise that it is tested for."""

import numpy as np
import pytest

from evals.replay.expected_value import cascade_routing
from evals.replay.rows.splits import Splits
from evals.replay.score_table import TierScores
from tests.evals.replay.synthetic import column, pair

SPLITS = Splits(np.arange(300), np.arange(300, 900), np.arange(900, 1800))


def test_it_uses_confidences_that_tell() -> None:
    """A cheap model whose score tells right from wrong saves much of the cost, and the promise holds on the test rows."""
    columns = pair(1800, seed=1, sharp=6.0)
    texts = [f"question {i % 7}" for i in range(1800)]
    result = cascade_routing(texts, columns, SPLITS, 0.05, 0.1, 0)
    test = SPLITS.test
    premium = columns["dear"][0]
    assert result.cost_usd.mean() < 0.8 * premium.cost_usd[test, 0].mean()
    assert (premium.quality[test, 0] - result.quality).mean() <= 0.05
    assert set(result.answered_by) == {"cheap", "dear"}


def test_it_uses_prompts_that_tell() -> None:
    """Where only the prompt tells which model is right, hard prompts go straight to the dear one."""
    rng = np.random.default_rng(0)
    hard = rng.random(1800) < 0.5
    texts = [f"{'prove a lemma' if h else 'name a city'} {i % 11}" for i, h in enumerate(hard)]
    columns = {"cheap": [column("cheap", (~hard).astype(float), 1.0)], "dear": [column("dear", np.ones(1800), 10.0)]}
    result = cascade_routing(texts, columns, SPLITS, 0.05, 0.1, 0)
    assert result.quality.mean() > 0.98
    assert result.cost_usd.mean() == pytest.approx(10 * hard[SPLITS.test].mean() + (~hard[SPLITS.test]).mean(), rel=0.05)


def test_nothing_that_tells_sends_all_to_premium() -> None:
    """A cheap model that is no good is not asked."""
    columns: dict[str, list[TierScores]] = pair(1800, seed=2, right=0.02, sharp=0.0)
    result = cascade_routing(["q"] * 1800, columns, SPLITS, 0.01, 0.1, 0)
    assert result.answered_by.count("dear") >= 0.95 * len(result.answered_by)
    assert result.quality.mean() >= columns["dear"][0].quality[SPLITS.test, 0].mean() - 0.01
