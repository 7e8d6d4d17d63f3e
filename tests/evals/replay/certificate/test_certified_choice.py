"""From a promise to a ladder with its certificate, on score tables with a known truth."""

from dataclasses import replace

import numpy as np
import pytest

from cascade.policy.calibrators import Constant
from evals.replay.candidate_tiers import fit_end, fit_tier
from evals.replay.certificate.by_cost import upper_bound
from evals.replay.certificate.certified_choice import choose_certified, refit_last
from evals.replay.certificate.guarantee import Guarantee
from evals.replay.rows.splits import Splits
from evals.replay.simulate import SimulatedCascade
from evals.replay.sweep_result import Candidate
from tests.evals.replay.synthetic import column, pair

SPLITS = Splits(np.arange(300), np.arange(300, 1000), np.arange(1000, 20_000))


@pytest.mark.parametrize("method", ["split", "preset"])
def test_a_certified_cascade_costs_less_and_keeps_the_promise(method: str) -> None:
    """On the population, not only on the rows that certified it."""
    choice = choose_certified(pair(20_000, 1), SPLITS, Guarantee("max_loss", 0.05, 0.1), method=method)  # type: ignore[arg-type]
    assert choice.method == method
    assert choice.certificate["certified"]
    assert choice.certificate["p_value"] <= 0.1
    assert choice.certificate["n"] == (1000 if method == "preset" else 700)
    columns = pair(20_000, 1)
    outcome = choice.chosen.outcome(SPLITS.test)
    assert (columns["dear"][0].quality[SPLITS.test, 0] - outcome.quality).mean() <= 0.05
    assert outcome.cost_usd.mean() < 10.0
    assert "With 90 % confidence" in choice.certificate["words"]


def test_a_promise_that_cannot_be_kept_is_refused_in_words() -> None:
    """With few rows nothing is certified: premium alone, and the number of rows that it would take."""
    few = Splits(np.arange(20), np.arange(20, 60), np.arange(1000, 2000))
    choice = choose_certified(pair(2000, 2), few, Guarantee("max_loss", 0.01, 0.1), method="split")
    assert not choice.certificate["certified"]
    assert choice.chosen.cascade.models == ("dear",)
    assert choice.certificate["words"].startswith("Not proved")
    assert choice.certificate["needed_n"] is None or choice.certificate["needed_n"] > 40


def test_where_no_cascade_saves_money_that_is_said() -> None:
    """A cheap tier that costs nearly as much as the premium one is not worth asking."""
    columns = pair(20_000, 3)
    cheap = columns["cheap"][0]
    columns["cheap"] = [replace(cheap, cost_usd=np.full_like(cheap.cost_usd, 9.9))]
    choice = choose_certified(columns, SPLITS, Guarantee("max_loss", 0.02, 0.1))
    assert choice.chosen.cascade.models == ("dear",)
    assert choice.chosen.outcome(SPLITS.test).cost_usd.mean() == pytest.approx(10.0)


def test_cheap_alone_may_be_the_answer() -> None:
    """Where the cheap tier is as good, everything is accepted there."""
    columns = pair(20_000, 4, right=0.95, premium=0.9)
    choice = choose_certified(columns, SPLITS, Guarantee("max_loss", 0.02, 0.1))
    assert choice.certificate["certified"]
    assert choice.chosen.outcome(SPLITS.test).cost_usd.mean() < 1.2


@pytest.mark.parametrize(("least", "certified"), [(0.8, True), (0.999, False)])
def test_a_least_quality(least: float, certified: bool) -> None:
    """A promise on the quality itself is tested on the quality itself."""
    choice = choose_certified(pair(20_000, 5), SPLITS, Guarantee("min_quality", least, 0.1))
    assert bool(choice.certificate["certified"]) is certified
    if certified:
        assert choice.chosen.outcome(SPLITS.test).quality.mean() >= least
        assert choice.chosen.outcome(SPLITS.test).cost_usd.mean() < 9.0


def test_fractional_qualities_are_certified_by_betting() -> None:
    """Qualities between 0 and 1 have no exact test; the betting test is valid for them."""
    columns = pair(20_000, 6)
    softer = [replace(c, quality=0.1 + 0.8 * c.quality) for c in (columns["cheap"][0], columns["dear"][0])]
    choice = choose_certified({"cheap": softer[:1], "dear": softer[1:]}, SPLITS, Guarantee("max_loss", 0.08, 0.1))
    assert choice.certificate["certified"]
    assert "betting" in choice.certificate["method"]


def test_accepted_answers_are_right_often_enough() -> None:
    """The selective promise holds of the accepted answers of the population, and not all are accepted."""
    columns = pair(20_000, 7, premium=0.8)
    rng = np.random.default_rng(7)
    right = columns["dear"][0].quality[:, 0]
    score = np.clip(0.5 + 0.4 * (right - 0.5) + 0.2 * rng.normal(size=20_000), 0.01, 0.99)
    columns["dear"] = [column("dear", right, 10.0, {"logprob": score})]
    choice = choose_certified(columns, SPLITS, Guarantee("min_accepted_quality", 0.93, 0.1))
    assert choice.certificate["certified"]
    outcome = choice.chosen.outcome(SPLITS.test)
    assert outcome.quality[outcome.accepted].mean() >= 0.93
    assert 0.2 < outcome.accepted.mean() < 1.0
    assert outcome.quality[~outcome.accepted].mean() < 0.93


def test_a_selective_promise_is_refused_where_rows_are_few() -> None:
    """It takes 44 accepted rows without a mistake for 95 % at 90 %."""
    few = Splits(np.arange(20), np.arange(20, 50), np.arange(1000, 2000))
    choice = choose_certified(pair(2000, 8), few, Guarantee("min_accepted_quality", 0.95, 0.1))
    assert not choice.certificate["certified"]
    assert choice.certificate["needed_n"] == 45


def test_a_budget_is_kept_and_what_it_loses_is_bounded() -> None:
    """The best quality for the money; the certificate bounds the loss."""
    columns = pair(20_000, 9)
    choice = choose_certified(columns, SPLITS, Guarantee("budget", 5000.0, 0.1))
    outcome = choice.chosen.outcome(SPLITS.test)
    assert outcome.cost_usd.mean() == pytest.approx(5.0, abs=0.7)
    assert (columns["dear"][0].quality[SPLITS.test, 0] - outcome.quality).mean() <= choice.certificate["max_loss"]


def test_a_budget_below_every_ladder_says_so() -> None:
    """The cheapest ladder is used, and a note says that it costs more."""
    choice = choose_certified(pair(20_000, 10), SPLITS, Guarantee("budget", 1.0, 0.1))
    assert "no cascade costs 1 USD" in choice.notes[0]
    assert not choice.certificate["certified"]


@pytest.mark.parametrize(("price", "low", "high"), [(0.01, 0.0, 2.0), (1000.0, 5.0, 11.0)])
def test_the_price_of_an_error_sets_the_ladder(price: float, low: float, high: float) -> None:
    """With a low price of errors nothing escalates; with a high one much does."""
    columns = pair(20_000, 11)
    choice = choose_certified(columns, SPLITS, Guarantee("error_price", price, 0.1))
    assert low < choice.chosen.outcome(SPLITS.test).cost_usd.mean() < high


def test_upper_bound_is_tight_and_above() -> None:
    """The least limit that would have been certified."""
    losses = np.r_[np.ones(10), -np.ones(5), np.zeros(985)]
    bound, method = upper_bound(losses, 0.1)
    assert method == "paired"
    assert 0.005 < bound < 0.02


def test_test_rows_are_never_read() -> None:
    """Spoiling every test row changes neither ladder nor certificate."""
    columns = pair(2000, 12)
    splits = Splits(np.arange(300), np.arange(300, 1000), np.arange(1000, 2000))
    spoiled = {}
    for model, [c] in columns.items():
        quality, scores = c.quality.copy(), c.scores.copy()
        quality[1000:], scores[1000:] = 0.0, 0.5
        spoiled[model] = [replace(c, quality=quality, scores=scores)]
    for method in ("split", "preset"):
        one, two = (choose_certified(c, splits, Guarantee("max_loss", 0.05, 0.1), method=method) for c in (columns, spoiled))  # type: ignore[arg-type]
        assert one.chosen.thresholds == two.chosen.thresholds
        assert one.certificate == two.certificate


def test_the_last_tiers_confidence_learns_from_all_calibration_rows_also_beside_vetoed_answers() -> None:
    """Which of two vetoed answers is returned stays as it was certified; the confidence of the others is fitted anew."""
    n, rng = 1000, np.random.default_rng(0)
    cheap, right = (rng.random(n) < 0.7).astype(float), (rng.random(n) < 0.8).astype(float)
    columns = [
        column(model, quality, cost, {"schema": np.full(n, np.nan), "logprob": 0.96 + 0.03 * quality * rng.random(n)})
        for model, quality, cost in (("cheap", cheap, 1.0), ("dear", right, 10.0))
    ]
    for each in columns:
        each.vetoed[:50, 1:] = True
    splits = Splits(np.arange(40, 100), np.arange(100, 500), np.arange(500, n))
    first, last = (fit_tier(each, splits.fit, 0) for each in columns)
    # On the few fit rows the dear tier's vetoed answers look worse than the cheap one's; on all of them they look better.
    low = np.column_stack([np.full((n, 2), 0.1), last.confidence[:, -1]])
    last = replace(last, calibrators=(Constant(0.1), Constant(0.1), last.calibrators[-1]), confidence=low)
    cascade = SimulatedCascade.from_tiers([first, last])
    tuned = Candidate(cascade=cascade, thresholds=(0.9,), loss=0.0, variance=0.0, usd=0.0)
    refit, rows = refit_last(tuned, splits, 0)
    assert rows is not None
    assert len(rows) == 460
    before, after = tuned.outcome(np.arange(n)), refit.outcome(np.arange(n))
    assert np.array_equal(before.tier, after.tier)
    assert set(after.tier[:50]) == {0}
    passed = splits.test
    assert np.mean((after.confidence[passed] - right[passed]) ** 2) < np.mean(
        (before.confidence[passed] - right[passed]) ** 2
    )


def test_a_calibration_of_the_premium_tier_that_may_be_noise_is_not_used() -> None:
    """Where its raw confidence is honest, 90 fit rows seldom make it worse on rows that they never saw."""
    harm = {fit_end: 0, fit_tier: 0}
    for seed in range(60):
        rng = np.random.default_rng((seed, 2))
        score = rng.beta(6, 0.7, 3000)
        right = (rng.random(3000) < score).astype(float)
        for fit in harm:
            after = fit(column("dear", right, 10.0, {"logprob": score}), np.arange(90), seed).confidence[90:, -1]
            harm[fit] += float(np.mean((after - right[90:]) ** 2 - (score[90:] - right[90:]) ** 2)) > 1e-4
    assert harm[fit_end] <= 8
    assert harm[fit_end] < harm[fit_tier]
