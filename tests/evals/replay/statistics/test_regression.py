"""Regressions against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.replay.statistics.regression import pava, ridge_logistic


@pytest.mark.parametrize("ridge", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("seed", range(3))
def test_newton_equals_scikit_learn(ridge: float, seed: int) -> None:
    """It has the same optimum as the reference, for a batch of row subsets and for fractional targets as weights."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(seed)
    x = rng.normal(size=(200, 3))
    y = (rng.random(200) < 1 / (1 + np.exp(-2 * x[:, 0] + x[:, 1]))).astype(np.float64)
    weights = (np.arange(200) % 5 != np.arange(5)[:, None]).astype(np.float64)
    design = np.column_stack([np.ones(200), x])
    penalties = np.tile([0.0, ridge, ridge, ridge], (5, 1))
    coefficients = ridge_logistic(design, y, weights, penalties)
    assert coefficients is not None
    for b, weight in zip(coefficients, weights, strict=True):
        model = LogisticRegression(C=1 / ridge, tol=1e-10, max_iter=1000).fit(x[weight > 0], y[weight > 0])
        assert b == pytest.approx([*model.intercept_, *model.coef_[0]], abs=1e-5)
    quality = rng.random(200)
    coefficients = ridge_logistic(design, quality, np.ones((1, 200)), penalties[:1])
    model = LogisticRegression(C=1 / ridge, tol=1e-10, max_iter=1000)
    model.fit(np.vstack([x, x]), np.repeat([1, 0], 200), sample_weight=np.concatenate([quality, 1 - quality]))
    assert coefficients is not None
    assert coefficients[0] == pytest.approx([*model.intercept_, *model.coef_[0]], abs=1e-5)


@pytest.mark.parametrize("seed", [281, *range(10)])
def test_newton_is_damped(seed: int) -> None:
    """Columns with far outliers and a weak ridge still reach the optimum; with seed 281 full steps would diverge."""
    rng = np.random.default_rng(seed)
    x = np.column_stack([np.ones(60), rng.standard_t(1, (60, 2))])
    rng.random(60)
    y = (x[:, 1] * rng.choice([-1, 1]) + rng.normal(0, 0.5, 60) > 0).astype(np.float64)
    penalties = np.array([[0.0, 0.01, 0.01]])
    coefficients = ridge_logistic(x, y, np.ones((1, 60)), penalties)
    assert coefficients is not None
    p = 1 / (1 + np.exp(-np.clip(x @ coefficients[0], -500, 500)))
    assert (p - y) @ x + penalties[0] * coefficients[0] == pytest.approx([0, 0, 0], abs=1e-4)


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0.1, 5)), min_size=1, max_size=60))
def test_pava_equals_scikit_learn(values: list[tuple[float, float]]) -> None:
    """Pool adjacent violators, weighted, is the reference's."""
    from sklearn.isotonic import IsotonicRegression

    y, weights = np.array(values).T
    reference = IsotonicRegression().fit_transform(np.arange(len(y)), y, sample_weight=weights)
    assert pava(y, weights) == pytest.approx(reference, abs=1e-9)
