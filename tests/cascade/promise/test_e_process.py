"""The e-process: exactly fair at its limit, equal to its numpy version, quick after a change, restored from plain data."""

import json
from itertools import product
from math import exp, log, prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.promise.e_process import BETS, EDetector, EProcess
from evals.audit.e_values import first_alarm, log_e_values

LOSSES = st.lists(st.floats(-1.0, 1.0), min_size=1, max_size=60)


def losses(rng: np.random.Generator, n: int, worse: float, better: float, streams: int = 1) -> np.ndarray:
    """(streams, n): 1 where only premium is right, -1 where only the cascade is, else 0."""
    draw = rng.random((streams, n))
    return (draw < worse) * 1.0 - ((draw >= worse) & (draw < worse + better)) * 1.0


@pytest.mark.parametrize("weights", [(1.0,) * 10, (0.3,) * 10, (1.0, 0.1) * 5], ids=["all 1", "all 0.3", "mixed"])
def test_the_e_value_is_fair_at_the_limit(weights: tuple[float, ...]) -> None:
    """Over all sequences of ten losses whose mean is exactly the limit, the mean e-value is exactly 1."""
    limit, mean = 0.3, 0.0
    for values in product((0.0, 1.0), repeat=10):
        process = EProcess(limit)
        for value, weight in zip(values, weights, strict=True):
            process.update(value, weight)
        mean += exp(process.log_value) * prod(limit if value else 1 - limit for value in values)
    assert mean == pytest.approx(1.0, abs=1e-9)


def test_a_detectors_mean_is_the_number_of_values() -> None:
    """The mean of a Shiryaev-Roberts detector after n values at the limit is n: what its average run length rests on."""
    limit, mean = 0.3, 0.0
    for values in product((0.0, 1.0), repeat=8):
        detector = EDetector(limit)
        for value in values:
            detector.update(value)
        mean += exp(detector.log_value) * prod(limit if value else 1 - limit for value in values)
    assert mean == pytest.approx(8.0, abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(LOSSES, st.floats(-0.9, 0.9), st.lists(st.floats(0.01, 1.0), min_size=60, max_size=60))
def test_both_versions_are_equal(values: list[float], limit: float, weights: list[float]) -> None:
    """What runs in production and what simulations and audits run give the same e-values."""
    process = EProcess(limit)
    logs = [process.update(value, weight) for value, weight in zip(values, weights, strict=False)]
    bulk = log_e_values(np.array([values]), limit, weights=np.array([weights[: len(values)]]))
    np.testing.assert_allclose(bulk[0], logs, rtol=1e-9, atol=1e-9)


@settings(deadline=None, max_examples=30)
@given(LOSSES, LOSSES)
def test_a_process_goes_on_from_its_json(first: list[float], rest: list[float]) -> None:
    """Stored, read again and continued, it has the same value as without the interruption."""
    kept_on, detector = EProcess(0.05), EDetector(0.05)
    for value in first:
        kept_on.update(value)
        detector.update(value)
    again = EProcess.from_json(json.loads(json.dumps(kept_on.to_json())))
    other = EDetector.from_json(json.loads(json.dumps(detector.to_json())))
    for value in rest:
        assert again.update(value) == pytest.approx(kept_on.update(value))
        assert other.update(value) == pytest.approx(detector.update(value))
    assert (again.n, again.log_max) == (kept_on.n, pytest.approx(kept_on.log_max))


def test_false_alarms_are_rare_at_the_limit() -> None:
    """400 streams of 2,000 losses at the promise: at most delta of them ever alarm."""
    values = losses(np.random.default_rng(1), 2_000, 0.04, 0.02, streams=400)
    alarms = first_alarm(log_e_values(values, 0.02), 0.1) > 0
    assert alarms.mean() <= 0.1


def test_a_slip_is_found_after_a_long_healthy_time() -> None:
    """After 5,000 healthy labels a loss of 0.06 against a promise of 0.02 is found within 400 in most streams."""
    rng = np.random.default_rng(2)
    values = np.hstack([losses(rng, 5_000, 0.01, 0.0, 60), losses(rng, 900, 0.06, 0.0, 60)])
    alarms = first_alarm(log_e_values(values, 0.02), 0.1)
    delays = np.where(alarms > 0, alarms - 5_000, 900)
    assert 0 < np.median(delays) <= 400


def test_bets_cannot_go_bankrupt() -> None:
    """After the best and the worst values that are possible, at least what was never staked is left."""
    process = EProcess(0.5)
    for value in [1.0] * 5 + [-1.0] * 1_000:
        process.update(value)
    assert process.log_value >= -1e-9 + (log(BETS[-1].weight / sum(bet.weight for bet in BETS)))
    assert all(0 <= bet.share < 1 for bet in BETS)


@pytest.mark.parametrize(("value", "weight"), [(1.1, 1.0), (-1.1, 1.0), (float("nan"), 1.0), (0.5, 0.0), (0.5, 1.5)])
def test_values_out_of_range_are_refused(value: float, weight: float) -> None:
    """A value that could break the guarantee is an error, not evidence."""
    with pytest.raises(ValueError, match="must lie in"):
        EProcess(0.1).update(value, weight)


def test_a_state_of_other_bets_is_refused() -> None:
    """What another version stored is not read as if it were this one's."""
    state = EProcess(0.1).to_json() | {"wealth": [0.0], "gates": [0.0]}
    with pytest.raises(ValueError, match="bets"):
        EProcess.from_json(state)
    with pytest.raises(ValueError, match="bets"):
        EDetector.from_json(EDetector(0.1).to_json() | {"sums": [0.0]})


def test_rejects_compares_the_largest_e_value() -> None:
    """Once reached, an alarm stays."""
    process = EProcess(0.02)
    for value in [1.0] * 12 + [0.0] * 2_000:
        process.update(value)
    assert process.rejects(0.1)
    assert process.log_value < process.log_max
    assert not process.rejects(exp(-process.log_max - log(2)))
