"""A consensus in a replay: which models are asked, that it is found, that it never costs more than it saves."""

import asyncio
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from cascade import Policy
from cascade.policy.calibration_file import CalibrationFile, apply
from evals.recording import Example
from evals.replay import engine_check
from evals.replay.certificate.certified_choice import choose_certified
from evals.replay.certificate.guarantee import CertifiedChoice, Guarantee
from evals.replay.evidence.cofailure import cofailure, in_words
from evals.replay.evidence.consensus import (
    consensus_rule,
    family,
    groups_of,
    has_consensus,
    predicted,
    promising_groups,
    with_consensus,
    without_consensus,
)
from evals.replay.rows.splits import Splits, halves
from evals.replay.score_table import TierScores, score_tier

PRICES = {"gemini-flash": 0.1, "gpt-mini": 0.2, "llama-8b": 0.05, "gpt-4o": 2.0}
Rules = list[dict[str, object]]


def recording(n: int, seed: int, *, same_errors: bool = False) -> list[Example]:
    """Answers without any signal of their own. Cheap models are right on 85 %, each on its own or all on the same rows."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        shared = rng.random()
        answers = {}
        for j, (model, usd) in enumerate(PRICES.items()):
            draw = shared if same_errors and model != "gpt-4o" else rng.random()
            right = draw < (0.95 if model == "gpt-4o" else 0.85)
            text = str(i) if right else str(10_000 + i if same_errors else 10_000 * (j + 1) + i)
            answers[model] = {"text": text, "quality": float(right), "cost_usd": usd, "latency_s": float(j)}
        rows.append(Example(f"r{i}", f"question {i}", answers, "t", reference=str(i), raw={}))
    return rows


def scored(rows: list[Example]) -> dict[str, list[TierScores]]:
    return {model: [asyncio.run(score_tier(rows, model, []))] for model in PRICES}


def extended(
    rows: list[Example], columns: dict[str, list[TierScores]], splits: Splits, limit: float
) -> dict[str, list[TierScores]]:
    async def score(model: str, rules: Rules) -> TierScores:
        return await score_tier(rows, model, rules)

    return asyncio.run(with_consensus(columns, splits.fit, [limit], len(splits.certify), score))


@lru_cache
def one_choice() -> tuple[list[Example], CertifiedChoice, Splits]:
    """A recording on which a consensus pays, and what is chosen on it."""
    rows = recording(600, 3)
    return rows, *chosen(rows, 0)


def chosen(rows: list[Example], seed: int, *, consensus: bool = True, limit: float = 0.05) -> tuple[CertifiedChoice, Splits]:
    columns, splits = scored(rows), halves(["t"] * len(rows), seed)
    if consensus:
        columns = extended(rows, columns, splits, limit)
    return choose_certified(columns, splits, Guarantee("max_loss", limit), seed=seed), splits


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("Meta-Llama-3.1-8B-Instruct", "llama"), ("meta-llama/llama-2-7b", "llama"), ("gpt-4o-mini", "gpt"),
        ("o3-mini", "gpt"), ("claude-3-haiku", "claude"), ("Qwen2.5-7B", "qwen"),
        ("gemini-1.5-flash", "gemini"), ("405b", "405b"),
    ],
)  # fmt: skip
def test_the_family_is_read_from_the_name(model: str, name: str) -> None:
    """Whatever the provider's spelling."""
    assert family(model) == name


def test_groups_are_of_different_families() -> None:
    """Two of one family make the same mistakes: they are never asked together."""
    assert groups_of(["gpt-mini", "gpt-nano", "llama"]) == [("gpt-mini", "llama"), ("gpt-nano", "llama")]
    assert ("a", "b", "c") in groups_of(["a", "b", "c"])


def test_the_prediction_equals_what_the_engine_does() -> None:
    """Plain arithmetic on the single models' columns gives the very costs and qualities of the judged ladder."""
    rows = recording(120, 1)
    columns, every = scored(rows), np.arange(120)
    group = ("llama-8b", "gemini-flash", "gpt-mini")
    loss, usd = predicted([columns[m][0] for m in group], columns["gpt-4o"][0], every)
    column = asyncio.run(score_tier(rows, group[0], [consensus_rule(group, columns, every) | {"accuracies": None}]))
    accepted = column.scores[:, 0] >= 0.6
    premium = columns["gpt-4o"][0]
    np.testing.assert_allclose(usd, column.cost_usd[:, 1] + np.where(accepted, 0.0, premium.cost_usd[:, 0]))
    np.testing.assert_allclose(loss, np.where(accepted, premium.quality[:, 0] - column.quality[:, 1], 0.0))


def test_a_consensus_is_found_where_no_model_has_a_score() -> None:
    """Without it nothing can be accepted; with it most rows are answered by models of a tenth of the price."""
    rows, choice, splits = one_choice()
    assert choice.certificate["certified"]
    cost = choice.chosen.outcome(splits.test).cost_usd.mean()
    assert cost < 0.4 * PRICES["gpt-4o"]
    without, _ = chosen(rows, 0, consensus=False)
    assert cost <= without.chosen.outcome(splits.test).cost_usd.mean()


def test_models_that_err_together_are_not_believed() -> None:
    """Agreement on the same errors proves nothing: the cost is that of premium, and no quality is lost."""
    rows = recording(500, 4, same_errors=True)
    choice, splits = chosen(rows, 0, limit=0.02)
    outcome = choice.chosen.outcome(splits.test)
    premium = np.array([rows[i].answers["gpt-4o"]["quality"] for i in splits.test])
    assert (premium - outcome.quality).mean() <= 0.02
    assert outcome.cost_usd.mean() <= PRICES["gpt-4o"] * 1.001


def test_the_engine_and_the_arithmetic_agree() -> None:
    """The chosen policy, run through the engine on recorded answers, gives the same answers and costs to the cent."""
    rows, choice, splits = one_choice()
    assert any(has_consensus(tier.column) for tier in choice.chosen.cascade.tiers)
    policy = engine_check.to_policy(choice.chosen)
    results = asyncio.run(engine_check.run_engine(policy, rows, splits.test))
    ran = engine_check.to_outcome(results, [t.name for t in policy.tiers])
    engine_check.check_agreement(ran, choice.chosen.outcome(splits.test))


def test_promising_groups_come_from_the_fit_rows_alone() -> None:
    """Qualities of other rows change nothing."""
    rows = recording(300, 5)
    columns, fit = scored(rows), np.arange(100)
    groups = promising_groups(columns, fit, 0.05, 100)
    changed = {
        model: [replace(c, quality=np.where(np.arange(300)[:, None] < 100, c.quality, 0.0))]
        for model, (c,) in columns.items()
    }
    assert groups == promising_groups(changed, fit, 0.05, 100)
    assert all("gpt-4o" not in group for group in groups)


def test_columns_without_consensus_are_the_models_own() -> None:
    """Baselines are compared without it."""
    rows = recording(200, 6)
    columns, splits = scored(rows), halves(["t"] * 200, 0)
    assert without_consensus(extended(rows, columns, splits, 0.1)) == columns


def test_a_calibration_with_a_consensus_fits_a_policy_with_other_names() -> None:
    """The policy names no consensus; its own names of the models are used, and its wish to ask them in parallel."""
    _, choice, _ = one_choice()
    file = CalibrationFile.model_validate(
        {
            "schema_version": 1, "created": "", "library": "0", "recording": {"name": "x", "sha256": "0", "n": 700},
            "seed": 0, "splits": {}, "candidates": [{"model": m, "judges": []} for m in PRICES],
            "chosen": [t.model_dump(mode="json") for t in engine_check.to_policy(choice.chosen).tiers],
            "final": "last", "promise": {}, "certificate": {},
        }
    )  # fmt: skip
    names = {f"my-{model}": model for model in PRICES}
    policy = Policy.model_validate({"tiers": [{"model": name} for name in names]})
    applied = apply(policy, file, lambda tier: names[tier.model])
    rules = [rule for tier in applied.tiers for rule in tier.judges if rule.use == "consensus"]
    assert rules
    assert all(model in names for rule in rules for model in rule.options["models"])


def test_the_ceiling_counts_the_rows_where_all_are_wrong() -> None:
    """With its exact interval, for the cheap models and for all."""
    rows = recording(400, 7)
    columns, every = scored(rows), np.arange(400)
    entry = cofailure(columns, list(PRICES), every)
    wrong = sum(all(not a["quality"] for a in row.answers.values()) for row in rows)
    assert (entry["all_wrong"], entry["ceiling"]) == (wrong, 1 - wrong / 400)
    low, high = entry["interval"]
    assert low <= entry["ceiling"] <= high
    assert "ceiling: one of all 4 models is right on" in in_words([entry])
