"""The runs whose labels are least certain are drawn more often, none is left out, and a few labels decide which they are."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.promise.review_sampling import FLOOR, LEAST_LABELS, ReviewCandidate, draw_sizes, fit_logistic
from evals.replay.statistics.regression import ridge_logistic

unknown_or = lambda values: st.none() | values  # noqa: E731 - a name for two strategies
candidates = st.builds(
    ReviewCandidate,
    verdict=unknown_or(st.floats(-1, 1)),
    confidence=unknown_or(st.floats(0, 1)),
    weight=st.floats(1, 100),
)


@given(st.lists(candidates, min_size=1, max_size=30), st.lists(st.tuples(candidates, st.floats(-1, 1)), max_size=40))
def test_every_run_may_be_drawn(waiting: list[ReviewCandidate], labelled: list[tuple[ReviewCandidate, float]]) -> None:
    """Whatever is known: the mean size is 1, and no run of a weight has less than the floor of a mean one of that weight."""
    sizes = draw_sizes(waiting, labelled)
    assert np.mean(sizes) == pytest.approx(1.0)
    mean = sum(one.weight for one in waiting) / len(waiting)
    for one, size in zip(waiting, sizes, strict=True):
        assert size >= FLOOR * one.weight / mean / (1.0 + FLOOR) - 1e-9


def test_without_labels_the_confidence_decides() -> None:
    """The least sure first; with nothing known all are alike."""
    sizes = draw_sizes([ReviewCandidate(0.0, p) for p in (0.5, 0.8, 0.99)], [])
    assert sizes == sorted(sizes, reverse=True)
    assert draw_sizes([ReviewCandidate(None, None)] * 3, []) == pytest.approx([1.0, 1.0, 1.0])
    assert draw_sizes([], []) == []


def test_labels_say_where_the_grader_is_uncertain() -> None:
    """A grader whose 1 is always right and whose 0 is right half the time: its zeros are drawn more often."""
    rng = random.Random(0)
    labelled = []
    for _ in range(10 * LEAST_LABELS):
        verdict = float(rng.random() < 0.5)
        labelled.append((ReviewCandidate(verdict, 0.5), 1.0 if verdict else float(rng.random() < 0.5)))
    certain, uncertain = draw_sizes([ReviewCandidate(1.0, 0.5), ReviewCandidate(0.0, 0.5)], labelled)
    assert uncertain > 2.0 * certain


def test_a_run_that_stands_for_many_is_drawn_as_much_more_often() -> None:
    """In proportion to its weight, as an estimate of the mean over all runs needs."""
    one, other = draw_sizes([ReviewCandidate(0.0, 0.6, 10.0), ReviewCandidate(0.0, 0.6, 40.0)], [])
    assert other == pytest.approx(4.0 * one)


@given(st.integers(0, 10**6), st.floats(0.05, 2.0))
def test_the_regression_is_that_of_the_calibration(seed: int, ridge: float) -> None:
    """Plain Python finds the same coefficients as the array code that fits calibrations."""
    rng = np.random.default_rng(seed)
    x = np.column_stack([np.ones(60), rng.normal(size=(60, 3))])
    y = (rng.random(60) < 0.6) * rng.random(60)
    ridges = (0.0, ridge, ridge, ridge)
    expected = ridge_logistic(x, y, np.ones((1, 60)), np.array([ridges]))
    assert expected is not None
    assert fit_logistic([tuple(row) for row in x.tolist()], y.tolist(), ridges) == pytest.approx(expected[0], abs=1e-3)
