"""The figures of a replay: they add up, and each is what a plain computation from the rows gives."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.engine.confidence import combine
from evals.replay.candidate_tiers import fit_tier
from evals.replay.results import report_data
from evals.replay.score_table import TierScores
from evals.replay.simulate import SimulatedCascade
from evals.replay.statistics.metrics import brier
from evals.replay.sweep_result import Candidate
from evals.replay.tuning.tune import Goal, Tuner
from judges import Verdict
from tests.evals.replay.synthetic import column, examples, outcome, random_outcome, result, table

MODELS = ["cheap", "middle", "dear"]
FIT, HELD = np.arange(150), np.arange(150, 400)


def cascade(columns: dict[str, list[TierScores]], names: list[str]) -> SimulatedCascade:
    """Steps fitted on the fit rows, the last tier bare."""
    tiers = [fit_tier(columns[m][0], FIT, 0) for m in names[:-1]]
    return SimulatedCascade.from_tiers([*tiers, fit_tier(columns[names[-1]][0].first_judges(0), FIT, 0)])


def make_columns(n: int, seed: int) -> dict[str, list[TierScores]]:
    """Two tiers whose score tells, with missing scores and vetoes, and a last one."""
    rng = np.random.default_rng(seed)
    columns = {}
    for i, right in enumerate((0.6, 0.75)):
        good = (rng.random(n) < right).astype(float)
        score = np.clip(0.5 + 0.3 * (good - 0.5) + rng.normal(0, 0.15, n), 0, 1)
        c = column(f"m{i}", good, 1.0 + i, {"a": np.where(rng.random(n) < 0.1, np.nan, score), "b": rng.random(n)})
        vetoed = c.vetoed.copy()
        vetoed[:, 1:] = (rng.random(n) < 0.1)[:, None]
        columns[f"m{i}"] = [replace(c, vetoed=vetoed)]
    columns["m2"] = [column("m2", (rng.random(n) < 0.9).astype(float), 10.0)]
    return columns


@pytest.mark.parametrize("seed", [1, 2])
def test_calibration_is_of_the_answers_that_passed(seed: int) -> None:
    """Bins, histogram and n are the held-out rows without a veto; before and after are the two confidences' own metrics."""
    columns = make_columns(400, seed)
    chosen = Candidate(cascade=cascade(columns, ["m0", "m1", "m2"]), thresholds=(0.5, 0.5), loss=0.0, variance=0.0, usd=0.0)
    cards = report_data.calibration(chosen, HELD, [FIT] * 3, 0)
    assert [c["tier"] for c in cards] == ["m0", "m1", "m2"]
    for card, tier in zip(cards, chosen.cascade.tiers, strict=True):
        passed_rows = HELD[~tier.column.vetoed[HELD, -1]]
        right = tier.column.quality[passed_rows, -1]
        meaning = [[Verdict("j", None if np.isnan(s) else float(s)) for s in row] for row in tier.column.scores[passed_rows]]
        assert card["n"] == len(passed_rows)
        assert card["n_fit"] == len(FIT)
        assert card["judges"] == list(tier.column.names)
        assert card["before"]["brier"][0] == pytest.approx(brier(np.array([combine(v) for v in meaning]), right))
        assert card["after"]["brier"][0] == pytest.approx(brier(tier.confidence[passed_rows, -1], right))
        for bins in card["reliability"].values():
            assert sum(b["n"] for b in bins) == len(passed_rows)
            assert sum(b["n"] * b["correct"] for b in bins) == pytest.approx(right.sum())
            assert all(a["confidence"] <= b["confidence"] for a, b in pairwise(bins))
        histogram = card["histogram"]
        assert len(histogram["edges"]) == len(histogram["right"]) + 1 == len(histogram["wrong"]) + 1
        assert sum(histogram["right"]) == pytest.approx(right.sum())
        assert sum(histogram["wrong"]) == pytest.approx(len(passed_rows) - right.sum())
    assert cards[0]["after"]["brier"][0] < cards[0]["before"]["brier"][0]


def test_calibration_of_fractional_quality_adds_up() -> None:
    """A row that is half right is half a row of each kind."""
    columns = table(400, 3, missing=0.0)
    chosen = Candidate(cascade=cascade(columns, ["m0", "m2"]), thresholds=(0.5,), loss=0.0, variance=0.0, usd=0.0)
    card = report_data.calibration(chosen, HELD, [FIT] * 3, 0)[0]
    total = np.array(card["histogram"]["right"]) + np.array(card["histogram"]["wrong"])
    assert total == pytest.approx(np.round(total))
    assert total.sum() == pytest.approx(len(HELD))
    assert sum(card["histogram"]["right"]) == pytest.approx(columns["m0"][0].quality[HELD, 0].sum())


def test_a_tier_whose_every_answer_is_vetoed_has_no_calibration() -> None:
    """There is nothing to be honest about, and no division by zero."""
    columns = make_columns(400, 4)
    bad = columns["m0"][0]
    columns["m0"] = [replace(bad, vetoed=np.ones_like(bad.vetoed))]
    chosen = Candidate(cascade=cascade(columns, ["m0", "m2"]), thresholds=(0.5,), loss=0.0, variance=0.0, usd=0.0)
    assert [c["tier"] for c in report_data.calibration(chosen, HELD, [FIT] * 3, 0)] == ["m2"]


def tuned(columns: dict[str, list[TierScores]], limit: float = 0.05) -> Tuner:
    """A tuner of the loss against the last model."""
    premium = list(columns)[-1]
    return Tuner(columns, FIT, Goal(columns[premium][0].quality[:, 0], limit, premium), 0)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_frontier_rises_and_its_points_can_be_reached(seed: int) -> None:
    """More cost is more quality, and each point's cascade and thresholds, run directly, give its quality and cost."""
    columns = make_columns(400, seed)
    usd = float(columns["m2"][0].cost_usd[HELD, 0].mean())
    swept = tuned(columns).sweep_all()
    points = report_data.frontier(swept, [], HELD, usd)
    assert len(points) > 10
    for one, two in pairwise(points):
        assert one["cost_ratio"] < two["cost_ratio"]
        assert one["quality"] < two["quality"]
    for point in points:
        outcomes = [
            each.cascade.outcome(point["thresholds"], HELD) for each in swept if list(each.cascade.models) == point["tiers"]
        ]
        assert any(
            o.quality.mean() == pytest.approx(point["quality"], abs=1e-9)
            and o.cost_usd.mean() / usd == pytest.approx(point["cost_ratio"], abs=1e-9)
            for o in outcomes
        )
    for m, c in columns.items():  # no tier alone lies above it
        cost = c[0].cost_usd[HELD, 0].mean() / usd
        assert c[0].quality[HELD, 0].mean() <= max(p["quality"] for p in points if p["cost_ratio"] <= cost + 1e-9) + 1e-9, m


@pytest.mark.parametrize("seed", range(4))
def test_no_point_that_could_be_chosen_lies_above_the_frontier(seed: int) -> None:
    """On the tuning rows: every candidate of every test sequence, with cheap and expensive judges and agreement."""
    rng = np.random.default_rng(seed)
    columns = make_columns(400, seed)
    dear = columns["m0"][0]
    scores = {"j0": dear.scores[:, 0], "j1": np.clip(dear.quality[:, 0] + 0.3 * rng.normal(size=400), 0, 1)}
    columns["m0"] = [column("m0", dear.quality[:, 0], float(dear.cost_usd[0, 0]), scores, {"j1": 0.3})]
    tuner = tuned(columns)
    candidates = [c for limit in (0.02, 0.05, 0.2) for c in tuner.test_sequence(200, limit=limit)[0]]
    points = report_data.frontier([*tuner.sweep_all(), *tuner.refined], [], FIT, 1.0)
    assert len({c.cascade.models for c in candidates}) >= 1
    for candidate in candidates:
        o = candidate.outcome(FIT)
        cost, quality = float(o.cost_usd.mean()), float(o.quality.mean())
        assert quality <= max(p["quality"] for p in points if p["cost_ratio"] <= cost + 1e-9) + 1e-9


def test_the_frontier_of_free_tiers_has_no_ratio() -> None:
    """Against a premium tier that costs nothing the ratio is unknown: None."""
    columns = {m: [replace(c[0], cost_usd=np.zeros_like(c[0].cost_usd))] for m, c in make_columns(400, 1).items()}
    points = report_data.frontier(tuned(columns).sweep_all(), [], HELD, 0.0)
    assert [p["cost_ratio"] for p in points] == [None]
    assert points[0]["quality"] >= columns["m2"][0].quality[HELD, 0].mean()


def test_a_long_frontier_is_thinned_but_keeps_the_chosen_point(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most MOST_POINTS points, both ends among them, and the chosen one in any case."""
    columns = make_columns(400, 6)
    tuner = tuned(columns)
    swept = tuner.sweep_all()
    whole = report_data.frontier(swept, [], HELD, 1.0)
    monkeypatch.setattr(report_data, "MOST_POINTS", 5)
    few = report_data.frontier(swept, [], HELD, 1.0)
    assert len(few) == 5
    assert (few[0], few[-1]) == (whole[0], whole[-1])
    for candidate in tuner.test_sequence(200)[0]:
        o = candidate.outcome(HELD)
        points = report_data.frontier(swept, [candidate], HELD, 1.0)
        below = [p["quality"] for p in points if p["cost_ratio"] <= float(o.cost_usd.mean()) + 1e-9]
        on_the_whole = [p["quality"] for p in whole if p["cost_ratio"] <= float(o.cost_usd.mean()) + 1e-9]
        if float(o.quality.mean()) >= max(on_the_whole) - 1e-9:
            assert max(below) >= float(o.quality.mean()) - 1e-9


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=30))
def test_flow_adds_up(pairs: list[tuple[int, int]]) -> None:
    """All prompts enter; each tier's inflow is answered or passed on; the answers sum to the number of prompts."""
    ran = outcome(tier=[min(p) for p in pairs], last_called=[max(p) for p in pairs])
    links = report_data.flow(MODELS, ran)
    answered = [link for link in links if link["target"].startswith("answered by")]
    assert sum(link["n"] for link in answered) == len(pairs)
    assert sum(link["n"] for link in links if link["source"] == "prompts") == len(pairs)
    assert all(link["n"] > 0 for link in links)
    for model in MODELS:
        into = sum(link["n"] for link in links if link["target"] == model)
        assert into == sum(link["n"] for link in links if link["source"] == model)
    for i, model in enumerate(MODELS):
        assert sum(x["n"] for x in answered if x["target"] == f"answered by {model}") == sum(min(p) == i for p in pairs)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.booleans(), max_size=2), max_size=30))
def test_flow_shows_which_tiers_were_not_asked(rows: list[list[bool]]) -> None:
    """A skipped tier answers nothing and passes on all that comes to it; a path that skips is counted at its own place."""
    paths = [[*enumerate(row), (len(row), True)] for row in rows]
    last = [len(row) for row in rows]
    links = report_data.flow(MODELS, outcome(tier=last, last_called=last), paths)
    for i, model in enumerate(MODELS):
        n_skipped = sum((i, False) in path for path in paths)
        place = f"not asked: {model}"
        assert sum(link["n"] for link in links if link["target"] == place) == n_skipped
        assert sum(link["n"] for link in links if link["source"] == place) == n_skipped
        assert sum(link["n"] for link in links if link["target"] == model) == sum((i, True) in path for path in paths)
    assert all(link["target"].startswith("answered") <= (not link["source"].startswith("not asked")) for link in links)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_mistakes_were_accepted_and_wrong(seed: int) -> None:
    """The most wrong first, then the most sure; each with the very text that was returned, and none that is worse is left
    out."""
    rows = examples(200, seed)
    held = np.random.default_rng(seed).permutation(200)[:150]
    mine = [rows[i] for i in held]
    ran, by = random_outcome(mine, seed)
    ran.quality[::5] = 0.25
    results = [result(m, f"said in row {i}") for i, m in enumerate(by)]
    entries = report_data.mistakes(rows, held, results, ran, "dear")
    wrong = [i for i in range(150) if ran.accepted[i] and ran.quality[i] < 0.5]
    assert len(wrong) > report_data.MISTAKES <= len(entries)
    ordered = sorted(wrong, key=lambda i: (ran.quality[i], -ran.confidence[i]))
    own: dict[str, int] = {}
    mistakes = []
    for rank, i in enumerate(ordered):
        own[mine[i].task] = own.get(mine[i].task, 0) + 1
        if rank < report_data.MISTAKES or own[mine[i].task] <= report_data.MISTAKES_OF_A_TASK:
            mistakes.append(i)
    for entry, i in zip(entries, mistakes, strict=True):
        assert entry == {
            "id": mine[i].id,
            "task": mine[i].task,
            "tier": by[i],
            "confidence": ran.confidence[i],
            "prompt": mine[i].prompt,
            "answer": f"said in row {i}",
            "reference": mine[i].reference,
            "premium_answer": mine[i].answers["dear"]["text"],
            "premium_quality": mine[i].answers["dear"]["quality"],
        }


def test_no_mistakes() -> None:
    """Wrong answers that were not accepted do not count as mistakes, nor do accepted half-right ones."""
    rows = examples(4)
    ran = outcome(tier=[0] * 4, last_called=[0] * 4, quality=[0.0, 0.0, 0.5, 1.0], accepted=[False, False, True, True])
    assert report_data.mistakes(rows, np.arange(4), [result("cheap", "x")] * 4, ran, "dear") == []
    assert report_data.mistakes([replace(e, reference=None) for e in rows], np.arange(1), [result("cheap", "x")],
                             outcome(tier=[0], last_called=[0], quality=[0.0]), "dear")[0]["reference"] is None  # fmt: skip
