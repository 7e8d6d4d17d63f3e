"""What the comparison charges, counts and calls a win."""

import asyncio
import gzip
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evals.replay.rows.splits import Splits
from tests.benchmarks.compare.__main__ import Case, compare, markdown
from tests.benchmarks.compare.ours import Premium
from tests.benchmarks.compare.rows import Evidence, Outcome, Promise, Table, load, one_model_each, premium_alone, two_models

STARTER = Path(__file__).parents[3] / "cascade" / "data" / "starter.jsonl.gz"
QUALITY = np.array([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
USD = np.array([[1.0, 10.0]] * 4)
FIRST = Evidence(model=0, judges=("rules",), confidence=np.ones(4), usd=np.full(4, 2.0), quality=QUALITY[:, 0])


def table(**changes: Any) -> Table:
    """Four rows of two models, whose judges cost as much as the first model."""
    fields: dict[str, Any] = {
        "examples": [], "models": ["cheap", "premium"], "columns": {}, "score": None, "texts": ["a", "b", "c", "d"],
        "quality": QUALITY, "usd": USD, "evidence": [FIRST],
    }  # fmt: skip
    return Table(**(fields | changes))


def test_a_first_model_and_its_judges_are_paid_for_even_where_its_answer_is_not_accepted() -> None:
    """And the premium model only where it is asked."""
    outcome = two_models(table(), FIRST, np.array([True, False, True, False]), np.arange(4), "")
    assert outcome.usd.tolist() == [2.0, 12.0, 2.0, 12.0]
    assert outcome.quality.tolist() == [1.0, 1.0, 1.0, 0.0]


def test_a_router_pays_for_the_model_that_it_asks_alone() -> None:
    """Row by row."""
    outcome = one_model_each(table(), np.array([0, 1]), np.array([1, 2]), "")
    assert (outcome.usd.tolist(), outcome.quality.tolist()) == ([1.0, 10.0], [0.0, 0.0])
    assert premium_alone(table(), np.array([0, 3])).usd.tolist() == [10.0, 10.0]


def test_of_a_recording_the_premium_model_comes_last_and_evidence_costs_at_least_its_answer(tmp_path: Path) -> None:
    """On rows of the shipped recording, whose samples and verifier cost money."""
    some = tmp_path / "some.jsonl"
    with gzip.open(STARTER) as lines:
        some.write_bytes(b"".join(islice(lines, 60)))
    loaded = asyncio.run(load(some, (), tmp_path))
    assert loaded.models[-1] == "qwen2.5-coder-1.5b-instruct"
    assert loaded.usd.mean(axis=0).argmax() == loaded.premium
    assert {each.model for each in loaded.evidence} == {0, 1, 2}
    for each in loaded.evidence:
        assert np.all(each.usd >= loaded.usd[:, each.model])
    assert any(each.usd.mean() > 1.5 * loaded.usd[:, each.model].mean() for each in loaded.evidence)


class Careless:
    """Returns the cheap answer always."""

    name, note = "careless", ""

    def answer(self, table: Table, splits: Splits, promise: Promise, seed: int) -> Outcome:
        """The first model alone."""
        return one_model_each(table, np.zeros(len(splits.test), dtype=np.int64), splits.test, "cheap")


class Cascade(Premium):
    """The premium model under the name that the others are compared with."""

    name = "cascade"


def test_what_is_cheaper_but_breaks_the_promise_wins_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It loses half of the premium model's right answers on every half; the promise allows a tenth."""
    n = 400
    quality = np.column_stack([np.tile([1.0, 0.0], n // 2), np.ones(n)])
    rows = [type("Row", (), {"task": None})() for _ in range(n)]
    monkeypatch.setattr("tests.benchmarks.compare.__main__.prompt_key", id)
    usd = np.tile([1.0, 10.0], (n, 1))
    rows_table = table(examples=rows, texts=[str(i) for i in range(n)], quality=quality, usd=usd)
    lines = compare(rows_table, [Cascade(), Careless()], Promise(max_loss=0.1), 4)
    careless = lines[1]
    assert careless["cost"] == pytest.approx(0.1)
    assert careless["loss"] == pytest.approx(0.5, abs=0.05)
    assert (careless["violations"], careless["beyond_error"]) == (4, 4)
    text = markdown(Case("made up", Path("x"), (), 0.1), n, lines, 4)
    assert "| careless | 0.100 |" in text
    assert "Cheaper than `cascade` (1.000) with the promise kept: nothing." in text
    both = [lines[0], careless | {"violations": 0}]
    assert "with the promise kept: careless (0.100)." in markdown(Case("made up", Path("x"), (), 0.1), n, both, 4)
