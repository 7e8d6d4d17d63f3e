"""Steps and sweeps: what is learned from the fit rows alone."""

import numpy as np
import pytest

from evals.replay.candidate_tiers import add_agreement, first_judges_only, fit_tier, tier_variants
from evals.replay.simulate import SimulatedCascade
from evals.replay.tuning.tune import Goal, Tuner
from tests.evals.replay.synthetic import column, pair

ROWS = np.arange(400)


def goal(columns: dict[str, list], limit: float = 0.05) -> Goal:
    """At most ``limit`` below the last model."""
    return Goal(columns["dear"][0].quality[:, 0], limit, "dear")


def test_the_sweep_is_exact() -> None:
    """Predicted cost is the mean cost that the ladder has on the rows, for every vector."""
    columns = pair(400, 1)
    tuner = Tuner(columns, ROWS, goal(columns), 0)
    swept = tuner.sweep(SimulatedCascade.from_tiers([tuner.tiers["cheap"][0], tuner.tiers["dear"][0]]))
    for flat in range(0, len(swept.usd), 7):
        candidate = swept.candidate(flat, 0.05)
        assert candidate.outcome(ROWS).cost_usd.mean() == pytest.approx(swept.usd[flat])


def test_the_walk_goes_from_safe_to_cheap() -> None:
    """Every further candidate costs less and is predicted to keep the promise less surely."""
    columns = pair(400, 2)
    sequence, _ = Tuner(columns, ROWS, goal(columns), 0).test_sequence(1000)
    assert len(sequence) > 5
    usd = [c.usd for c in sequence]
    margin = [(0.05 - c.loss) / np.sqrt(c.variance) for c in sequence]
    assert usd == sorted(usd, reverse=True)
    assert margin == sorted(margin, reverse=True)
    assert len({c.cascade.models for c in sequence}) == 1


def test_rows_outside_the_fit_rows_change_nothing() -> None:
    """What the walk is made of does not depend on the labels of the rows that certify or test."""
    columns = pair(1000, 3)
    spoiled = {}
    for model, [c] in columns.items():
        scores = {name: c.scores[:, i] for i, name in enumerate(c.names)}
        spoiled[model] = [column(model, np.r_[c.quality[:400, 0], np.zeros(600)], float(c.cost_usd[0, 0]), scores)]
    walks = [Tuner(c, ROWS, goal(c), 0).test_sequence(600)[0] for c in (columns, spoiled)]
    assert [c.thresholds for c in walks[0]] == [c.thresholds for c in walks[1]]
    assert [c.loss for c in walks[0]] == [c.loss for c in walks[1]]


def test_a_tier_that_never_pays_is_left_out() -> None:
    """No chosen ladder has a middle tier that is worse and costs more."""
    columns = pair(400, 4)
    bad = column("bad", np.zeros(400), 20.0, {"logprob": np.random.default_rng(0).random(400)})
    sequence, _ = Tuner(
        {"cheap": columns["cheap"], "bad": [bad], "dear": columns["dear"]}, ROWS, goal(columns), 0
    ).test_sequence(500)
    assert sequence[0].cascade.models == ("cheap", "dear")


def test_a_dear_judge_is_asked_only_where_it_matters() -> None:
    """Steps are made with and without the expensive judge, and with early decisions before it, which cost less."""
    rng = np.random.default_rng(5)
    right = (rng.random(400) < 0.6).astype(float)
    weak, strong = (np.clip(0.5 + s * (right - 0.5) + 0.2 * rng.normal(size=400), 0.01, 0.99) for s in (0.4, 0.9))
    c = column("cheap", right, 1.0, {"logprob": weak, "self_consistency": strong}, {"self_consistency": 2.0})
    assert c.n_free == 1
    variants = tier_variants(fit_tier(c, ROWS, 0), ROWS)
    rules = [tier.rules for tier in variants]
    assert [r["use"] for r in rules[0]] == ["logprob", "self_consistency"]
    assert [r["use"] for r in rules[1]] == ["logprob"]
    early = [
        SimulatedCascade.from_tiers([s, s]).tier_outcomes[0] for s in variants if any(a is not None for a in s.accept_at)
    ]
    assert early
    for tier_outcomes in early:
        assert 1.0 < tier_outcomes.cost_usd.mean() < 3.0
        assert set(np.unique(tier_outcomes.cost_usd)) == {1.0, 3.0}


def test_a_vetoed_answer_does_not_teach() -> None:
    """The mapping is fitted on the answers that pass: those are the ones it will be asked about."""
    rng = np.random.default_rng(6)
    right = (rng.random(400) < 0.5).astype(float)
    c = column("m", right, 1.0, {"rules": np.full(400, np.nan)})
    c.vetoed[right == 0.0, 1] = True
    tier = fit_tier(c, ROWS, 0)
    assert tier.calibrators[0].probability({}) == pytest.approx(right.mean(), abs=0.01)
    assert tier.calibrators[1].probability({}) > 0.99


def test_out_of_fold_confidence_on_the_fit_rows_only() -> None:
    """The rows that fitted the mapping get the confidence of a fit without them; all others get the mapping's own."""
    columns = pair(600, 7)
    tier = fit_tier(columns["cheap"][0], ROWS, 0)
    score = columns["cheap"][0].scores[:, 0]
    own = np.array([tier.calibrators[1].probability({"logprob": float(s)}) for s in score])
    assert np.allclose(own[400:], tier.confidence[400:, 1], atol=1e-9)
    assert not np.allclose(own[:400], tier.confidence[:400, 1], atol=1e-9)


def test_agreement_is_kept_only_where_it_tells() -> None:
    """Two tiers that agree when right: agreement is evidence. Where answers never agree it is none."""
    rng = np.random.default_rng(8)
    truth = np.arange(400)
    a, b = (rng.random(400) < p for p in (0.6, 0.7))
    one, two = column("a", a.astype(float), 1.0), column("b", b.astype(float), 2.0)
    plain = [fit_tier(one, ROWS, 0), fit_tier(two, ROWS, 0)]
    assert add_agreement(plain, ROWS, 0)[1] == []
    one.meaning[:, 0], two.meaning[:, 0] = np.where(a, truth, -truth - 1), np.where(b, truth, truth + 10_000)
    tiers, notes = add_agreement(plain, ROWS, 0)
    assert len(notes) == 1
    assert tiers[1].calibrators[0].probability({"agrees:0": 1.0}) > 0.9
    assert tiers[1].calibrators[0].probability({"agrees:0": 0.0}) < 0.6


def test_first_keeps_the_first_judges() -> None:
    """The mappings of the first judges do not depend on later ones."""
    c = pair(400, 9)["cheap"][0]
    tier = fit_tier(c, ROWS, 0)
    assert first_judges_only(tier, 0).calibrators == tier.calibrators[:1]
    assert first_judges_only(tier, 0).rules == []
