"""Estimates of all traffic from a labelled sample: exact formulas, no bias under any design, honest refusals."""

from itertools import product

import numpy as np
import pytest

from evals.audit import estimate
from evals.audit.estimate import estimate_mean, strengths

VALUES = np.array([0.0, 1.0, 0.0, -1.0, 1.0, 0.0, 1.0, 0.0])
DESIGN = np.array([0.2, 0.9, 0.5, 0.3, 0.7, 0.25, 0.8, 0.6])
PREDICTIONS = np.array([0.1, 0.8, 0.3, 0.0, 0.9, 0.2, 0.4, 0.6])


def labelled(mask: tuple[bool, ...]) -> np.ndarray:
    """The values, NaN where the run was not labelled."""
    return np.where(mask, VALUES, np.nan)


@pytest.mark.parametrize("predictions", [None, PREDICTIONS], ids=["plain", "predictions"])
def test_no_bias_under_score_dependent_sampling(predictions: np.ndarray | None) -> None:
    """Over all 256 samples that the design can give, weighted by their probabilities, the mean estimate is the truth."""
    expected = 0.0
    for mask in product((False, True), repeat=8):
        chance = float(np.prod(np.where(mask, DESIGN, 1 - DESIGN)))
        expected += chance * estimate_mean(labelled(mask), DESIGN, predictions).mean
    assert expected == pytest.approx(VALUES.mean(), abs=1e-12)


def test_without_predictions_it_is_inverse_propensity() -> None:
    """The Horvitz-Thompson mean."""
    mask = (True, False) * 4
    result = estimate_mean(labelled(mask), DESIGN)
    assert result.mean == pytest.approx(float((np.array(mask) * VALUES / DESIGN).mean()))
    assert (result.labels, result.runs, result.strength) == (4, 8, 0.0)


def test_the_strength_uses_the_past_alone() -> None:
    """Changing a later label changes no earlier strength."""
    rng = np.random.default_rng(1)
    f = rng.random(200)
    y = f + 0.1 * rng.normal(size=200)
    inverse = np.where(rng.random(200) < 0.5, 2.0, 0.0)
    other = y.copy()
    other[150:] = -5.0
    np.testing.assert_array_equal(strengths(y, f, inverse)[:151], strengths(other, f, inverse)[:151])
    assert strengths(y, f, inverse)[-1] > 0.7
    assert strengths(y, rng.random(200), inverse)[-1] < 0.4


def test_good_predictions_narrow_the_interval() -> None:
    """With predictions that explain most of the values, the interval from the same labels is narrower."""
    rng = np.random.default_rng(2)
    n = 4_000
    p = rng.beta(0.3, 0.3, n)
    y = np.where(rng.random(n) < 0.2, (rng.random(n) < p) * 1.0, np.nan)
    plain = estimate_mean(y, np.full(n, 0.2), low=0.0)
    sharper = estimate_mean(y, np.full(n, 0.2), p, low=0.0)
    assert sharper.standard_error < 0.75 * plain.standard_error
    assert sharper.upper - sharper.lower < 0.9 * (plain.upper - plain.lower)
    assert sharper.lower < 0.5 < sharper.upper


def test_without_labels_the_interval_is_everything() -> None:
    """Without labels the interval is the whole range, not 0."""
    result = estimate_mean(np.full(5, np.nan), np.full(5, 0.1))
    assert (result.lower, result.upper, result.labels) == (-1.0, 1.0, 0)


@pytest.mark.parametrize(
    ("values", "design", "message"),
    [
        ([], [], "no runs"),
        ([2.0], [0.5], "values must lie"),
        ([0.0], [0.0], "sampling probabilities"),
        ([0.0], [1.5], "sampling probabilities"),
    ],
)
def test_wrong_arguments_are_refused(values: list[float], design: list[float], message: str) -> None:
    """Each is an error that names what is wrong."""
    with pytest.raises(ValueError, match=message):
        estimate_mean(np.array(values), np.array(design))


@pytest.mark.parametrize("seed", range(12))
def test_few_candidates_give_the_interval_that_all_of_them_give(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interval by every twentieth candidate, refined at its ends, is that by all 801, bit by bit."""
    rng = np.random.default_rng(seed)
    n = int(rng.choice([3, 40, 400, 4_000]))
    p = rng.beta(0.5, 4.0, n)
    design = np.clip(rng.uniform(0.1, 2.0) * np.sqrt(p), 0.1, 1.0)
    loss = np.where(rng.random(n) < p, 1.0, np.where(rng.random(n) < 0.05, -1.0, 0.0))
    y = np.where(rng.random(n) < design, loss, np.nan)
    few = estimate_mean(y, design, p, floor=0.1)
    monkeypatch.setattr(estimate, "_STEP", 1)
    every = estimate_mean(y, design, p, floor=0.1)
    assert (few.lower, few.upper) == (every.lower, every.upper)
