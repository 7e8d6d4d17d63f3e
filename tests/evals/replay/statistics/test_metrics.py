"""The metrics against scikit-learn, against plain definitions, and on degenerate input."""

from itertools import permutations
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.common.intervals import wilson
from evals.replay.statistics.metrics import (
    METRICS,
    OF_ROUNDS,
    Array,
    ResampledRows,
    aurc,
    auroc,
    bootstrap,
    brier,
    ece,
    ece_by_chance,
    edges,
    log_loss,
    losses,
    reliability,
    summary,
)

# Few distinct values make many ties.
tied = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
rows = st.lists(st.tuples(st.one_of(tied, st.floats(0, 1)), st.sampled_from([0.0, 1.0])), min_size=1, max_size=60)


def split(values: list[tuple[float, float]]) -> tuple[Array, Array]:
    """The columns p and correct."""
    p, correct = np.array(values, np.float64).T
    return p, correct


def calibrated(n: int, seed: int = 0) -> tuple[Array, Array]:
    """Uniform probabilities that are true by construction."""
    rng = np.random.default_rng(seed)
    p = rng.random(n)
    return p, (rng.random(n) < p).astype(np.float64)


@given(rows)
def test_equal_to_scikit_learn(values: list[tuple[float, float]]) -> None:
    """Brier score, log-loss and AUROC are the reference's, with ties and at p = 0 and 1."""
    from sklearn import metrics as reference

    p, y = split(values)
    assert brier(p, y) == pytest.approx(reference.brier_score_loss(y, p, pos_label=1, labels=[0, 1]))
    assert log_loss(p, y) == pytest.approx(reference.log_loss(y, p, labels=[0, 1]), abs=1e-9)
    if 0 < y.sum() < len(y):
        assert auroc(p, y) == pytest.approx(reference.roc_auc_score(y, p))
    else:
        assert auroc(p, y) is None


def test_auroc_of_fractions() -> None:
    """A row of quality 0.25 counts as a quarter of a correct row and three quarters of a wrong one."""
    from sklearn import metrics as reference

    p, y = np.array([0.2, 0.7, 0.9, 0.7]), np.array([0.25, 0.5, 1.0, 0.0])
    spread_p = np.repeat(p, 4)
    spread_y = np.concatenate([[1] * round(4 * v) + [0] * round(4 - 4 * v) for v in y])
    assert auroc(p, y) == pytest.approx(reference.roc_auc_score(spread_y, spread_p))


@given(st.lists(st.tuples(tied, st.floats(0, 1)), min_size=1, max_size=5))
def test_aurc_is_the_mean_over_orders_of_ties(values: list[tuple[float, float]]) -> None:
    """The mean over coverages of the risk of the most confident, averaged over every order that the p allow."""
    p, y = split(values)
    areas = []
    for order in permutations(range(len(p))):
        ranked = list(order)
        if all(np.diff(p[ranked]) <= 0):
            areas.append(np.mean(np.cumsum(1 - y[ranked]) / np.arange(1, len(p) + 1)))
    assert aurc(p, y) == pytest.approx(np.mean(areas))


def test_aurc_by_hand() -> None:
    """Wrong last: risks 0, 0, 1/3; wrong first: 1, 1/2, 1/3."""
    p = np.array([0.9, 0.8, 0.7])
    assert aurc(p, np.array([1.0, 1.0, 0.0])) == pytest.approx(1 / 9)
    assert aurc(p, np.array([0.0, 1.0, 1.0])) == pytest.approx(11 / 18)


@given(st.lists(st.one_of(tied, st.floats(0, 1)), min_size=1, max_size=400), st.integers(1, 30))
def test_bins(values: list[float], bins: int) -> None:
    """Bins cover all rows once, are few, hold 10 rows or more, never part equal p, and are equal without ties."""
    ordered = np.sort(values)
    n, bounds = len(ordered), edges(ordered, bins)
    sizes = np.diff(bounds)
    assert bounds[0] == 0
    assert bounds[-1] == n
    assert 1 <= len(sizes) <= max(1, min(bins, n // 10))
    assert sizes.min() >= min(10, n)
    for inner in bounds[1:-1]:
        assert ordered[inner - 1] < ordered[inner]
    if len(set(values)) == n:
        assert sizes.max() - sizes.min() <= 1
        assert len(sizes) == max(1, min(bins, n // 10))


def test_ece_by_hand() -> None:
    """Two bins of ten: off by 0.1 and by 0.2, half the rows each."""
    p = np.repeat([0.2, 0.9], 10)
    y = np.array([1.0] * 3 + [0.0] * 7 + [1.0] * 7 + [0.0] * 3)
    assert ece(p, y) == pytest.approx(0.15)
    assert ece(p[:5], y[:5]) == pytest.approx(0.4)


def test_ece_by_chance() -> None:
    """True probabilities show the ECE that is expected of them, wrong ones show more."""
    errors = [ece(*calibrated(1000, seed)) for seed in range(40)]
    expected = ece_by_chance(calibrated(1000)[0], seed=0)
    assert expected is not None
    assert np.mean(errors) == pytest.approx(expected, rel=0.08)
    p, y = calibrated(1000)
    off = ece(p**3, y)
    assert off is not None
    assert off > 3 * expected
    assert ece_by_chance(np.zeros(0), seed=0) is None


def test_reliability() -> None:
    """The entries are the bins of the ECE, in order, with Wilson's interval around the share correct."""
    p, y = calibrated(1000)
    entries = reliability(p, y, bins=8)
    assert len(entries) == 8
    assert sum(e["n"] for e in entries) == 1000
    assert [e["confidence"] for e in entries] == sorted(e["confidence"] for e in entries)
    assert all(set(e) == {"confidence", "correct", "n", "low", "high"} for e in entries)
    assert all(0 <= e["low"] < e["correct"] < e["high"] <= 1 for e in entries)
    total = sum(e["n"] * abs(e["confidence"] - e["correct"]) for e in reliability(p, y))
    assert total / 1000 == pytest.approx(ece(p, y))
    assert reliability(np.zeros(0), np.zeros(0)) == []


@given(st.integers(1, 300), st.data())
def test_wilson(n: int, data: st.DataObject) -> None:
    """Wilson's interval is scipy's."""
    from scipy.stats import binomtest

    k = data.draw(st.integers(0, n))
    interval = binomtest(k, n).proportion_ci(method="wilson")
    assert wilson(k / n, n) == pytest.approx((interval.low, interval.high), abs=1e-12)


def test_bootstrap_covers() -> None:
    """The interval of a mean has about the width of theory and holds the truth about 19 times of 20."""
    truth, held = 1 / 6, 0  # E[p (1 - p)] of uniform p
    for seed in range(100):
        interval = bootstrap(brier, *calibrated(300, seed), seed=seed, rounds=200)
        assert interval is not None
        value, low, high = interval
        assert low <= value <= high
        held += low <= truth <= high
    assert 88 <= held <= 99


@pytest.mark.parametrize("name", METRICS)
@given(rows, st.integers(0, 2**32))
def test_each_round_is_the_metric_of_its_rows(name: str, values: list[tuple[float, float]], seed: int) -> None:
    """All rounds at once give what one round after the other gives, also with ties, few rows and fractional qualities."""
    p, y = split(values)
    order = np.argsort(p, kind="stable")
    p, y = p[order], y[order]
    draws = np.sort(np.random.default_rng(seed).integers(len(p), size=(20, len(p))), axis=1)
    one_by_one = [v for indices in draws if (v := METRICS[name](p[indices], y[indices])) is not None]
    assert OF_ROUNDS[METRICS[name]](ResampledRows(p, y, draws)) == pytest.approx(one_by_one, rel=1e-12, abs=1e-12)


def test_bootstrap_is_reproducible() -> None:
    """The seed decides, not the order of the rows' sort or any state outside."""
    p, y = calibrated(200)
    assert bootstrap(auroc, p, y, seed=3) == bootstrap(auroc, p, y, seed=3)
    assert bootstrap(auroc, p, y, seed=3) != bootstrap(auroc, p, y, seed=4)


def test_ece_interval_is_not_pushed_up_by_resampling() -> None:
    """Resampling noise counts as error in each round; the interval is shifted back and reaches around the value."""
    p, y = calibrated(500)
    interval = bootstrap(ece, p, y, seed=0)
    assert interval is not None
    value, low, high = interval
    assert low < value < high
    assert high - value < 2.5 * (value - low) + 0.01


@pytest.mark.parametrize("name", METRICS)
def test_bootstrap_is_fast(name: str) -> None:
    """500 rounds at n = 2,000 take a tenth of a second, not what a loop over rows in Python would."""
    p, y = calibrated(2000)
    start = perf_counter()
    bootstrap(METRICS[name], p, y, seed=0)
    assert perf_counter() - start < 10


def test_summary() -> None:
    """Five metrics, each value with its interval."""
    p, y = calibrated(300)
    result = summary(p, y, seed=1)
    assert set(result) == {"brier", "ece", "auroc", "aurc", "log_loss"}
    for name, triple in result.items():
        assert triple is not None
        value, low, high = triple
        assert value == METRICS[name](p, y)
        assert 0 <= low <= value <= high


@given(rows)
def test_summary_of_few_rows(values: list[tuple[float, float]]) -> None:
    """Any table has a summary; only AUROC may be undefined, where all rows are of one class."""
    p, y = split(values)
    result = summary(p, y, seed=0)
    assert {name for name, v in result.items() if v is None} == ({"auroc"} if len(set(y)) == 1 else set())


def test_summary_of_nothing_and_of_nonsense() -> None:
    """No rows: all undefined. Values that are not probabilities are an error that names the column."""
    assert set(summary(np.zeros(0), np.zeros(0), seed=0).values()) == {None}
    good, bad = np.array([0.5, 0.5]), np.array([0.5, np.nan])
    with pytest.raises(ValueError, match="p: expected 2"):
        summary(bad, good, seed=0)
    with pytest.raises(ValueError, match="correct: expected 2"):
        summary(good, bad, seed=0)
    with pytest.raises(ValueError, match="correct: expected 2"):
        summary(good, np.ones(3), seed=0)


def test_log_loss_stays_finite() -> None:
    """A certain row that is wrong costs much, not infinitely much."""
    assert 30 < losses(np.array([0.0]), np.array([1.0]))[0] < 40
