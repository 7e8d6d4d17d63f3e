"""Drift without labels: other traffic is found soon, traffic like the recording raises no alarm."""

import numpy as np
import pytest

from cascade.promise.drift import DriftTest, prompt_features


def rows(rng: np.random.Generator, n: int, shift: float = 0.0) -> list[list[float]]:
    """Four features, of which one moves."""
    table = rng.normal(size=(n, 4))
    table[:, 1] += shift
    return [[float(x) for x in row] for row in table]


def test_traffic_like_the_recording_raises_no_alarm() -> None:
    """Ten streams of 800 runs from the recording's own source."""
    rng = np.random.default_rng(8)
    for seed in range(10):
        drift = DriftTest(rows(rng, 300), seed=seed)
        for row in rows(rng, 800):
            drift.update(row)
        assert not drift.drifted(0.05)


def test_other_traffic_is_found_after_a_healthy_time() -> None:
    """800 runs like the recording, then others: found within 300."""
    rng = np.random.default_rng(9)
    drift = DriftTest(rows(rng, 300))
    for row in rows(rng, 800):
        drift.update(row)
    assert not drift.drifted(0.05)
    for row in rows(rng, 300, shift=2.0):
        drift.update(row)
    assert drift.drifted(0.05)


def test_a_reference_that_cannot_be_compared_with_is_refused() -> None:
    """Too few examples, ragged rows, runs with other features."""
    with pytest.raises(ValueError, match="at least 20"):
        DriftTest([[0.0]] * 19)
    with pytest.raises(ValueError, match="same number"):
        DriftTest([[0.0]] * 20 + [[0.0, 1.0]])
    with pytest.raises(ValueError, match="2 features"):
        DriftTest([[0.0]] * 20).update([0.0, 1.0])


def test_features_of_a_prompt() -> None:
    """Length, shares of kinds of characters, lines, confidence; an unknown confidence is not 0."""
    features = prompt_features("Ab 12\né!", 0.5)
    assert features[1:6] == [2 / 8, 1 / 8, 2 / 8, 1 / 8, 1 / 8]
    assert features[-1] == 0.5
    assert prompt_features("", None)[-1] == -1.0
