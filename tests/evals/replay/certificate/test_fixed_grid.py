"""The walk that was fixed beforehand: its grid, when it applies, and a calibration that changes no decision."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.policy.calibrators import Constant, Isotonic, Logistic
from evals.replay.certificate.fixed_grid import GRID, candidate_sequence, deciding_judge, raw_score_tier, with_confidence
from evals.replay.score_table import TierScores


def column(model: str, scores: dict[str, np.ndarray], quality: np.ndarray, vetoed: np.ndarray | None = None) -> TierScores:
    """A model's column from arrays: all judges are free, and only the last of them may veto."""
    n, stages = len(quality), len(scores)
    flags = np.zeros((n, stages + 1), dtype=bool)
    if vetoed is not None:
        flags[:, -1] = vetoed
    usd = 0.001 if model == "cheap" else 0.01
    return TierScores(
        model=model,
        rules=tuple({"use": name} for name in scores),
        names=tuple(scores),
        scores=np.column_stack(list(scores.values())) if scores else np.empty((n, 0)),
        vetoed=flags,
        quality=np.tile(quality[:, None], stages + 1),
        cost_usd=np.full((n, stages + 1), usd),
        latency_s=np.full((n, stages + 1), 1.0),
        meaning=np.zeros((n, stages + 1), dtype=np.int64),
    )


def pair(n: int, seed: int, *, missing: float = 0.0, vetoes: float = 0.0, digits: int = 12) -> list[TierScores]:
    """A cheap model whose score tells something, beside a judge that never can, and a dear one without judges."""
    rng = np.random.default_rng(seed)
    score = rng.beta(2, 1, n).round(digits)
    right = (rng.random(n) < 0.2 + 0.7 * score).astype(np.float64)
    recorded_score = np.where(rng.random(n) < missing, np.nan, score)
    vetoed = rng.random(n) < vetoes
    return [
        column("cheap", {"told": recorded_score, "rules": np.full(n, np.nan)}, right, vetoed),
        column("dear", {"rules": np.full(n, np.nan)}, (rng.random(n) < 0.9).astype(np.float64)),
    ]


def test_the_grid_descends() -> None:
    """From certainty to accepting all, each level once, fine near 1 and nowhere coarser than 0.04."""
    tiers = -np.diff(GRID)
    assert GRID[0] == 1.0
    assert GRID[-1] == 0.0
    assert tiers.min() > 0
    assert tiers.max() < 0.04
    assert sum(0.999 < t < 1 for t in GRID) > 10
    assert all(isinstance(t, float) for t in GRID)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.2]), st.sampled_from([0.0, 0.2]), st.sampled_from([1, 12]))
def test_the_walk_is_the_grid_on_the_bare_score(seed: int, missing: float, vetoes: float, digits: int) -> None:
    """At each level just those answers are accepted whose score reaches it and that no judge vetoed; missing counts as 0."""
    columns = pair(80, seed, missing=missing, vetoes=vetoes, digits=digits)
    rows = np.arange(0, 80, 2)
    sequence = candidate_sequence(columns, rows)
    assert sequence is not None
    assert [c.thresholds for c in sequence] == [(t,) for t in GRID]
    score = np.nan_to_num(columns[0].scores[:, 0])
    for candidate in sequence:
        outcome = candidate.outcome(np.arange(80))
        want = (score >= candidate.thresholds[0]) & ~columns[0].vetoed[:, -1]
        assert (outcome.tier == 0).tolist() == want.tolist()
        assert candidate.usd == candidate.outcome(rows).cost_usd.mean()
    assert np.all(np.diff([c.usd for c in sequence]) <= 1e-15)


def test_the_walk_depends_on_no_quality() -> None:
    """Other grades give the same thresholds, order and costs: nothing was learned that the certificate would pay for."""
    one = pair(60, 1)
    other = [one[0], column("dear", {"rules": np.full(60, np.nan)}, np.zeros(60))]
    rows = np.arange(60)
    first, second = candidate_sequence(one, rows), candidate_sequence(other, rows)
    assert first is not None
    assert second is not None
    assert [(c.thresholds, c.usd) for c in first] == [(c.thresholds, c.usd) for c in second]


def test_where_it_does_not_apply() -> None:
    """With two judges that score, none, one model or three, there is no fixed walk."""
    cheap, dear = pair(40, 2)
    rows = np.arange(40)
    score = cheap.scores[:, 0]
    assert candidate_sequence([cheap, dear], rows) is not None
    assert candidate_sequence([column("cheap", {"a": score, "b": score}, cheap.quality[:, 0]), dear], rows) is None
    assert candidate_sequence([column("cheap", {"rules": np.full(40, np.nan)}, cheap.quality[:, 0]), dear], rows) is None
    assert candidate_sequence([column("cheap", {}, cheap.quality[:, 0]), dear], rows) is None
    assert candidate_sequence([dear], rows) is None
    assert candidate_sequence([cheap, cheap, dear], rows) is None
    assert deciding_judge(cheap) == "told"
    assert deciding_judge(dear) is None
    assert deciding_judge(column("cheap", {"a": score, "b": score}, score)) is None


def test_raw_is_the_identity_once_the_judge_has_spoken() -> None:
    """Before the judge the confidence is 0.5, after it the score, and 0 without a score."""
    n = 30
    score = np.where(np.arange(n) % 5 == 0, np.nan, np.linspace(0, 1, n))
    tier = raw_score_tier(column("cheap", {"rules": np.full(n, np.nan), "told": score}, np.zeros(n)), "told")
    assert tier.confidence.shape == (n, 3)
    assert np.all(tier.confidence[:, :2] == 0.5)
    assert tier.confidence[:, 2].tolist() == np.nan_to_num(score).tolist()
    assert tier.accept_at == tier.reject_below == (None, None)
    assert [type(c) for c in tier.calibrators] == [Constant, Constant, Isotonic]


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 10_000),
    st.sampled_from([0.0, 0.1]),
    st.sampled_from([0.0, 0.2]),
    st.sampled_from([1, 2, 12]),
    st.sampled_from(GRID[20::6]) | st.just(0.0),
)
def test_a_calibration_changes_no_decision(seed: int, missing: float, vetoes: float, digits: int, at: float) -> None:
    """Calibrated or not, every row, also one that was not fitted on, is answered by the same tier at the same cost."""
    columns = pair(200, seed, missing=missing, vetoes=vetoes, digits=digits)
    fit_rows, every = np.arange(150), np.arange(200)
    sequence = candidate_sequence(columns, fit_rows)
    assert sequence is not None
    before = next(c for c in sequence if c.thresholds == (at,))
    after = with_confidence(before, fit_rows, seed=0)
    old, new = before.outcome(every), after.outcome(every)
    for name in ("tier", "quality", "cost_usd", "accepted", "last_called"):
        assert getattr(old, name).tolist() == getattr(new, name).tolist()
    # What the engine computes in plain Python decides alike.
    mapping = after.cascade.tiers[0].calibrators[-1]
    score = columns[0].scores[:, 0]
    sure = [mapping.probability({"told": None if s != s else float(s)}) >= after.thresholds[0] for s in score]
    assert (np.array(sure) & ~columns[0].vetoed[:, -1]).tolist() == (old.tier == 0).tolist()


@pytest.mark.parametrize("seed", range(3))
def test_a_calibrated_candidate_is_calibrated(seed: int) -> None:
    """The confidence is a rising map of the score, near the share of right answers, and 0 stays 0."""
    columns = pair(2000, seed)
    every = np.arange(2000)
    sequence = candidate_sequence(columns, every)
    assert sequence is not None
    half = next(c for c in sequence if c.thresholds[0] == GRID[55])
    after = with_confidence(half, every, seed=0)
    mapping = after.cascade.tiers[0].calibrators[1]
    assert isinstance(mapping, Logistic)
    assert mapping.coefficients[0] > 0
    assert after.thresholds == (mapping.probability({"told": GRID[55]}),)
    confidence = after.cascade.tiers[0].confidence[:, 1]
    score, right = columns[0].scores[:, 0], columns[0].quality[:, 0]
    order = np.argsort(score)
    assert np.all(np.diff(confidence[order]) >= 0)
    for part in np.array_split(order, 4):
        assert confidence[part].mean() == pytest.approx(right[part].mean(), abs=0.06)
    assert with_confidence(sequence[-1], every, seed=0).thresholds == (0.0,)
    end = after.cascade.tiers[1].confidence[0, 0]
    assert end == pytest.approx(0.9, abs=0.05)


def test_a_useless_or_inverted_score_is_left_alone() -> None:
    """Where no rising map fits, the candidate itself is returned, with its raw threshold."""
    columns = pair(400, 5)
    score = columns[0].scores[:, 0]
    wrong_way = (score < 0.6).astype(np.float64)
    inverted = [column("cheap", {"told": score, "rules": np.full(400, np.nan)}, wrong_way), columns[1]]
    rows = np.arange(400)
    sequence = candidate_sequence(inverted, rows)
    assert sequence is not None
    assert with_confidence(sequence[50], rows, seed=0) is sequence[50]
