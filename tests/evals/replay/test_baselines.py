"""What a cascade must beat: each baseline does what its name says, and is learned from the calibration rows alone."""

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.engine.confidence import combine
from evals.replay import baselines
from evals.replay.baselines import (
    MOST_PAIRS,
    best_pair,
    bootstrap_difference,
    hand_set,
    oracle,
    prompt_router,
    random_mixing,
    single,
)
from evals.replay.certificate.certified_choice import choose_certified
from evals.replay.certificate.guarantee import CertifiedChoice, Guarantee
from evals.replay.rows.splits import Splits
from evals.replay.score_table import TierScores
from evals.replay.simulate import CandidateTier, SimulatedCascade
from evals.replay.statistics.certify import fixed_sequence
from judges import Verdict
from tests.evals.replay.synthetic import column, pair, table

Columns = dict[str, list[TierScores]]
SOME = Splits(np.arange(100), np.arange(100, 400), np.arange(400, 600))
FEW = Splits(np.arange(80), np.arange(80, 200), np.arange(200, 300))
seeds = st.integers(0, 10_000)


def constant(**figures: tuple[float, float]) -> Columns:
    """Models of (quality, cost) that are the same in every row."""
    return {m: [column(m, np.full(100, q), usd)] for m, (q, usd) in figures.items()}


def test_single_is_the_tier_unjudged() -> None:
    """Its own quality, cost and latency of the rows asked for, without what judging costs."""
    columns = table(50, 1)
    judged = replace(columns["m1"][0], cost_usd=columns["m1"][0].cost_usd + np.array([0.0, 5.0, 9.0]))
    rows = np.array([4, 2, 40])
    result = single({**columns, "m1": [judged]}, "m1", rows)
    assert result.quality.tolist() == columns["m1"][0].quality[rows, 0].tolist()
    assert result.cost_usd.tolist() == columns["m1"][0].cost_usd[rows, 0].tolist()
    assert result.latency_s.tolist() == columns["m1"][0].latency_s[rows, 0].tolist()
    assert result.answered_by == ["m1"] * 3


@settings(deadline=None, max_examples=60)
@given(seeds, st.floats(0, 1))
def test_random_mixing_costs_what_was_asked_for(seed: int, share: float) -> None:
    """For a cost between two tiers, the mix chosen on the calibration rows costs that much, and no other mix is better."""
    columns = table(60, seed)
    rows = np.arange(60)
    cost = {m: c[0].cost_usd[:, 0].mean() for m, c in columns.items()}
    good = {m: c[0].quality[:, 0].mean() for m, c in columns.items()}
    usd = (1 - share) * min(cost.values()) + share * max(cost.values())
    result = random_mixing(columns, list(columns), rows, rows, usd)
    assert result.cost_usd.mean() == pytest.approx(usd)
    lines = [
        good[low] + (usd - cost[low]) / (cost[high] - cost[low]) * (good[high] - good[low])
        for low in columns
        for high in columns
        if cost[low] < cost[high] and cost[low] <= usd <= cost[high]
    ]
    assert result.quality.mean() == pytest.approx(max(lines))


def test_random_mixing_is_the_line_between_two_tiers() -> None:
    """At a third of the way in cost, quality and latency are at a third, and a third of the rows reach the last tier."""
    columns = constant(cheap=(0.6, 1.0), dear=(0.9, 10.0))
    columns = {m: [replace(c[0], latency_s=c[0].cost_usd.copy())] for m, c in columns.items()}
    result = random_mixing(columns, ["cheap", "dear"], np.arange(40), np.arange(40, 70), 4.0)
    assert result.quality == pytest.approx(np.full(30, 0.7))
    assert result.cost_usd == pytest.approx(np.full(30, 4.0))
    assert result.latency_s == pytest.approx(np.full(30, 4.0))
    assert result.answered_by.count("dear") == 10
    assert "33 % dear, else cheap" in result.note


@pytest.mark.parametrize(
    ("usd", "name", "quality"), [(0.5, "cheap", 0.6), (1.0, "cheap", 0.6), (10.0, "dear", 0.9), (99.0, "dear", 0.9)]
)
def test_random_mixing_outside_the_tiers(usd: float, name: str, quality: float) -> None:
    """Below the cheapest tier it is that tier, above the dearest the best that the money buys; nothing is drawn by lot."""
    result = random_mixing(constant(cheap=(0.6, 1.0), dear=(0.9, 10.0)), ["cheap", "dear"], np.arange(9), np.arange(9), usd)
    assert result.quality == pytest.approx(np.full(9, quality))
    assert result.answered_by == [name] * 9
    assert result.note == f"all {name}"


def test_random_mixing_leaves_out_a_tier_that_is_dear_and_bad() -> None:
    """The middle tier is below the line between the others, so it is left out."""
    columns = constant(cheap=(0.6, 1.0), bad=(0.5, 5.0), dear=(0.9, 10.0))
    result = random_mixing(columns, list(columns), np.arange(9), np.arange(90), 5.5)
    assert set(result.answered_by) == {"cheap", "dear"}
    assert result.quality.mean() == pytest.approx(0.75)


def test_random_mixing_is_learned_from_the_calibration_rows() -> None:
    """Other costs and qualities of the test rows change its figures, not its pair or its share."""
    first_judges_only = np.arange(60) < 30

    def model(name: str, quality: tuple[float, float], usd: tuple[float, float]) -> list[TierScores]:
        scores = column(name, np.where(first_judges_only, *quality), 0.0)
        return [replace(scores, cost_usd=np.where(first_judges_only, *usd)[:, None])]

    columns = {
        "cheap": model("cheap", (0.6, 0.0), (1.0, 2.0)),
        "middle": model("middle", (0.1, 1.0), (5.0, 1.0)),
        "dear": model("dear", (0.9, 0.3), (10.0, 32.0)),
    }
    result = random_mixing(columns, list(columns), np.arange(30), np.arange(30, 60), 4.0)
    assert result.answered_by.count("dear") == 10
    assert result.answered_by.count("cheap") == 20
    assert result.quality == pytest.approx(np.full(30, 0.1))
    assert result.cost_usd == pytest.approx(np.full(30, 12.0))


def _cascade(columns: Columns, names: list[str], at: list[float], rows: np.ndarray) -> object:
    """A ladder by its scores' uncalibrated confidence."""
    tiers = [
        CandidateTier(
            column=c,
            calibrators=(),
            confidence=baselines.uncalibrated(c),
            accept_at=(None,) * len(c.rules),
            reject_below=(None,) * len(c.rules),
        )
        for c in (columns[m][0] for m in names)
    ]
    return SimulatedCascade.from_tiers(tiers).outcome(at[: len(names) - 1], rows)


@settings(deadline=None, max_examples=60)
@given(seeds, st.lists(st.floats(0, 1), min_size=2, max_size=2), st.sets(st.sampled_from(["m0", "m1", "m2"]), min_size=1))
def test_nothing_beats_the_oracle(seed: int, at: list[float], names: set[str]) -> None:
    """Row by row, no tier and no cascade is better, and what is as good costs no less."""
    columns, rows = table(40, seed), np.arange(5, 40)
    best = oracle(columns, list(columns), rows)
    for m, c in columns.items():
        quality, cost = c[0].quality[rows, 0], c[0].cost_usd[rows, 0]
        assert (best.quality >= quality).all()
        assert (best.cost_usd <= cost)[quality == best.quality].all()
        mine = np.array(best.answered_by) == m
        assert best.cost_usd[mine].tolist() == cost[mine].tolist()
        assert best.latency_s[mine].tolist() == c[0].latency_s[rows, 0][mine].tolist()
    cascade = _cascade(columns, sorted(names), at, rows)
    assert (best.quality >= cascade.quality).all()
    assert (best.cost_usd <= cascade.cost_usd + 1e-12)[cascade.quality == best.quality].all()


def three(n: int, seed: int) -> Columns:
    """Two cheap tiers, of which only "cheap" knows when it is right, and a premium one."""
    columns = pair(n, seed, sharp=6.0)
    rng = np.random.default_rng(seed + 1)
    weak = column("weak", (rng.random(n) < 0.5).astype(float), 2.0, {"logprob": rng.random(n)})
    return {"weak": [weak], "cheap": columns["cheap"], "dear": columns["dear"]}


def test_the_best_pair_is_the_cheapest_that_is_certified() -> None:
    """Of a tier that knows itself and one that does not, the first is taken; on the test rows it costs less than premium."""
    columns = three(600, 1)
    result = best_pair(columns, SOME, Guarantee("max_loss", 0.1, 0.1), 0)
    assert result.note == "cheap -> dear"
    assert set(result.answered_by) == {"cheap", "dear"}
    choice = choose_certified(
        {m: columns[m] for m in ("cheap", "dear")}, SOME, Guarantee("max_loss", 0.1, 0.05), must_end="dear"
    )
    outcome = choice.chosen.outcome(SOME.test)
    assert result.quality.tolist() == outcome.quality.tolist()
    assert result.cost_usd.tolist() == outcome.cost_usd.tolist()
    assert result.cost_usd.mean() < 9.0


def test_pairs_share_delta(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pair is tested at its part of delta, under the same limit, and must end in the premium tier; the best by quality
    on the fit rows are tried where there are many."""
    calls: list[tuple[list[str], Guarantee]] = []

    def spy(columns: Columns, splits: Splits, guarantee: Guarantee, *, seed: int, must_end: str) -> CertifiedChoice:
        calls.append((list(columns), guarantee))
        assert must_end == "dear"
        return choose_certified(columns, splits, guarantee, seed=seed, must_end=must_end)

    monkeypatch.setattr(baselines, "choose_certified", spy)
    dear = column("dear", np.ones(600), 10.0)
    better_later = {  # the worst two of the fit rows are the best of the others, which must not count
        f"c{i}": [column(f"c{i}", np.where(np.arange(600) < 100, i / 8, 1.0 - i / 8), 1.0, {"j": np.linspace(0, 1, 600)})]
        for i in range(MOST_PAIRS + 2)
    }
    best_pair({**better_later, "dear": [dear]}, SOME, Guarantee("max_loss", 0.1, 0.08), 0)
    assert sorted(names[0] for names, _ in calls) == [f"c{i}" for i in range(2, MOST_PAIRS + 2)]
    assert all(names[1:] == ["dear"] for names, _ in calls)
    assert {guarantee for _, guarantee in calls} == {Guarantee("max_loss", 0.1, 0.08 / MOST_PAIRS)}


def test_without_a_certified_pair_the_premium_tier_answers() -> None:
    """Few rows certify nothing: premium alone, and the note says why."""
    few = Splits(np.arange(10), np.arange(10, 30), np.arange(30, 90))
    columns = three(90, 2)
    result = best_pair(columns, few, Guarantee("max_loss", 0.01, 0.1), 0)
    assert result.quality.tolist() == columns["dear"][0].quality[few.test, 0].tolist()
    assert set(result.answered_by) == {"dear"}
    assert result.note.startswith("dear, since no pair was certified")


def topics(n: int, seed: int, premium: float = 1.0) -> tuple[list[str], Columns]:
    """Prompts of two topics, of which the cheap tier can answer one."""
    rng = np.random.default_rng(seed)
    easy = rng.random(n) < 0.5
    words = {True: ["sum", "plus", "minus", "times"], False: ["poem", "verse", "rhyme", "ode"]}
    texts = [" ".join(rng.choice(words[bool(e)], 5)) for e in easy]
    dear = (rng.random(n) < premium).astype(float)
    return texts, {"cheap": [column("cheap", easy.astype(float), 1.0)], "dear": [column("dear", dear, 10.0)]}


def test_the_prompt_router_learns_what_the_prompt_tells() -> None:
    """Where the topic decides, the cheap tier gets its topic, nothing is lost and the cost is between the tiers'."""
    texts, columns = topics(300, 1)
    result = prompt_router(texts, columns, FEW, 0.05, 0.1, 0)
    easy, cheap = columns["cheap"][0].quality[FEW.test, 0] == 1, np.array(result.answered_by) == "cheap"
    assert (cheap == easy).mean() > 0.95
    assert result.quality.tolist() == np.where(cheap, easy, 1.0).tolist()
    assert result.cost_usd.tolist() == np.where(cheap, 1.0, 10.0).tolist()
    assert result.note.startswith(f"{100 * cheap.mean():.0f} % to cheap")


def test_the_prompt_router_keeps_the_promise() -> None:
    """Its threshold is the lowest that passes the tests on the certification rows; a stricter promise sends less."""
    rng = np.random.default_rng(5)
    texts, columns = topics(300, 5)
    noisy = np.where(rng.random(300) < 0.3, 1 - columns["cheap"][0].quality[:, 0], columns["cheap"][0].quality[:, 0])
    columns["cheap"] = [column("cheap", noisy, 1.0)]
    sent = []
    for limit in (0.01, 0.2, 1.0):
        result = prompt_router(texts, columns, FEW, limit, 0.1, 0)
        cheap = np.array([by == "cheap" for by in result.answered_by])
        sent.append(cheap.mean())
        if 0 < cheap.mean() < 1:  # what it does to certification rows of the same prompts is certified
            routed = {texts[i] for i in FEW.test[cheap]}
            loss = [(1 - noisy[i]) if texts[i] in routed else 0.0 for i in FEW.certify]
            assert fixed_sequence([np.array(loss)], limit, 0.1).certified
    assert sent[0] < 0.1
    assert 0.2 < sent[1] < 0.8
    assert sent[2] == 1.0


def test_the_prompt_router_without_anything_to_learn_asks_the_premium_tier() -> None:
    """Uninformative prompts, or too few rows, route everything to it, with a note."""
    columns = pair(300, 3, right=0.5)
    result = prompt_router(["same prompt"] * 300, columns, FEW, 0.02, 0.1, 0)
    assert set(result.answered_by) == {"dear"}
    assert result.quality.tolist() == columns["dear"][0].quality[FEW.test, 0].tolist()
    assert "nothing that could be certified" in result.note


def test_the_prompt_router_never_learns_from_test_rows() -> None:
    """Other qualities of the test rows change the quality, not the routing; other fit rows do change it."""
    texts, columns = topics(300, 2)
    test = np.isin(np.arange(300), FEW.test)[:, None]
    flipped = {m: [replace(c[0], quality=np.where(test, 1 - c[0].quality, c[0].quality))] for m, c in columns.items()}
    one, two = (prompt_router(texts, c, FEW, 0.05, 0.1, 0) for c in (columns, flipped))
    assert set(one.answered_by) == {"cheap", "dear"}
    assert one.answered_by == two.answered_by
    assert one.note == two.note
    assert two.quality.tolist() == (1 - one.quality).tolist()
    fit = np.isin(np.arange(300), FEW.fit)[:, None]
    taught = {m: [replace(c[0], quality=np.where(fit, 1 - c[0].quality, c[0].quality))] for m, c in columns.items()}
    assert prompt_router(texts, taught, FEW, 0.05, 0.1, 0).answered_by != one.answered_by


@settings(deadline=None, max_examples=60)
@given(seeds, st.integers(0, 4), st.sampled_from([0.0, 0.3, 1.0]))
def test_uncalibrated_is_what_the_engine_combines(seed: int, judges: int, missing: float) -> None:
    """For every prefix of judges, with missing scores, and with scores at and beyond the bounds of certainty."""
    [scores] = table(20, seed, models=1, judges=judges, missing=missing)["m0"]
    tier = baselines.uncalibrated(scores)
    assert tier.shape == (20, judges + 1)
    for row in range(20):
        meaning = [Verdict(f"j{j}", None if np.isnan(s) else float(s)) for j, s in enumerate(scores.scores[row])]
        assert tier[row].tolist() == pytest.approx([combine(meaning[:stage]) for stage in range(judges + 1)], abs=1e-12)


def test_a_lone_score_is_not_bounded() -> None:
    """As in the engine, one judge's 0 or 1 is 0 or 1, while two are drawn in."""
    zero, one = np.array([0.0, 1.0]), np.array([np.nan, 1.0])
    tier = baselines.uncalibrated(column("m", np.ones(2), 1.0, {"a": zero, "b": one}))
    assert tier[:, 1].tolist() == [0.0, 1.0]
    assert tier[0, 2] == 0.0
    assert tier[1, 2] == pytest.approx(0.999)


def test_hand_set_accepts_from_its_threshold_on() -> None:
    """0.7 is accepted, less is not, a missing score counts as 0.5, and every tier but the last has the same threshold."""
    score = np.array([0.7, 0.69, np.nan, 0.1])
    columns = {
        "a": [column("a", np.full(4, 0.1), 1.0, {"j": score})],
        "b": [column("b", np.full(4, 0.2), 2.0, {"j": np.array([0.9, 0.9, 0.7, 0.6])}, {"j": 0.5})],
        "c": [column("c", np.full(4, 0.3), 4.0, {"j": np.ones(4)}, {"j": 9.0})],
    }
    result = hand_set(columns, Splits(np.arange(1), np.arange(1), np.arange(4)))
    assert result.answered_by == ["a", "b", "b", "c"]
    assert result.quality.tolist() == [0.1, 0.2, 0.2, 0.3]
    assert result.cost_usd.tolist() == [1.0, 3.5, 3.5, 7.5]
    assert result.name == "thresholds of 0.7"
    assert hand_set(columns, Splits(np.arange(1), np.arange(1), np.arange(4)), 0.4).answered_by == ["a", "a", "a", "b"]


@pytest.mark.parametrize("n", [200, 3000])
def test_the_bootstrap_interval_is_the_normal_one(n: int) -> None:
    """On many rows the percentiles are mean +- 1.96 standard errors of the paired differences."""
    rng = np.random.default_rng(n)
    a, b = (rng.random(n) < 0.8).astype(float), (rng.random(n) < 0.7).astype(float)
    low, high = bootstrap_difference(a, b, 0)
    error = (a - b).std() / sqrt(n)
    assert low == pytest.approx((a - b).mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx((a - b).mean() + 1.96 * error, abs=0.15 * error)


def test_the_bootstrap_is_paired() -> None:
    """Noise that both share cancels out in the difference."""
    noise = np.random.default_rng(0).random(500)
    assert bootstrap_difference(noise + 0.25, noise, 0) == pytest.approx((0.25, 0.25))


def test_the_bootstrap_is_reproducible(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same seed gives the same interval, another seed another one; drawing in chunks keeps the distribution."""
    rng = np.random.default_rng(1)
    a, b = rng.random(400), rng.random(400)
    first_judges_only = bootstrap_difference(a, b, 7)
    assert bootstrap_difference(a, b, 7) == first_judges_only
    assert bootstrap_difference(a, b, 8) != first_judges_only
    monkeypatch.setattr(baselines, "BOOTSTRAP_CHUNK", 400 * 7)
    error = (a - b).std() / 20
    assert bootstrap_difference(a, b, 7) == pytest.approx(first_judges_only, abs=0.2 * error)


@settings(deadline=None, max_examples=20)
@given(seeds)
def test_the_interval_covers(seed: int) -> None:
    """One row or equal rows have an interval of width 0, and every interval contains the mean."""
    rng = np.random.default_rng(seed)
    a = rng.random(30)
    low, high = bootstrap_difference(a, np.zeros(30), seed, rounds=200)
    assert a.min() <= low <= a.mean() <= high <= a.max()
    assert bootstrap_difference(a[:1], np.zeros(1), seed) == (a[0], a[0])


def test_the_interval_covers_as_often_as_it_says() -> None:
    """Of 200 samples of 100 rows about 95 % of the intervals hold the true difference (simulation; binomial bound 4 sd)."""
    rng = np.random.default_rng(11)
    held = 0
    for i in range(200):
        low, high = bootstrap_difference(
            (rng.random(100) < 0.8).astype(float), (rng.random(100) < 0.7).astype(float), i, 500
        )
        held += low <= 0.1 <= high
    assert 0.94 - 4 * sqrt(0.94 * 0.06 / 200) <= held / 200
