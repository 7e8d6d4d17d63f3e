"""The confidence sequence covers the mean at every look, narrows, and is the same run by run and in bulk."""

import numpy as np
import pytest

from cascade.promise.confidence_sequence import ConfidenceSequence, increment
from evals.audit.estimate import estimate_mean, strengths


def test_both_versions_are_equal() -> None:
    """Run by run as in production, and in bulk as in an audit, the interval is the same."""
    rng = np.random.default_rng(3)
    n, floor = 400, 0.1
    prediction = rng.random(n) * 0.3
    probability = np.clip(floor + prediction, floor, 1.0)
    labelled = rng.random(n) < probability
    loss = (rng.random(n) < prediction) * 1.0
    bulk = estimate_mean(np.where(labelled, loss, np.nan), probability, prediction, floor=floor)
    strength = strengths(loss, prediction, np.where(labelled, 1 / probability, 0.0))
    sequence, total = ConfidenceSequence(), 0.0
    for i in range(n):
        control = float(np.clip(strength[i] * (prediction[i] - (total / i if i else 0.0)), -0.5, 0.5))
        sequence.update(*increment(float(loss[i]) if labelled[i] else None, probability[i], floor=floor, control=control))
        total += prediction[i]
    assert sequence.n == bulk.labels
    assert sequence.interval == pytest.approx((bulk.lower, bulk.upper), abs=2e-3)


def test_it_covers_the_mean_at_every_look() -> None:
    """60 streams, whose intervals are those of all looks together: at least 95 % hold the mean."""
    rng = np.random.default_rng(4)
    missed = 0
    for _ in range(60):
        values = (rng.random(250) < 0.3) * 1.0
        estimate = estimate_mean(values, np.ones(250), low=0.0)
        missed += not estimate.lower <= 0.3 <= estimate.upper
    assert missed / 60 <= 0.05


def test_it_narrows() -> None:
    """From the whole range to a tenth of it in a thousand values; never wider again."""
    sequence = ConfidenceSequence(low=0.0, high=1.0)
    rng = np.random.default_rng(5)
    widths = []
    for value in (rng.random(600) < 0.2) * 1.0:
        sequence.add(value)
        widths.append(sequence.upper - sequence.lower)
    assert widths == sorted(widths, reverse=True)
    assert widths[0] == 1.0
    assert widths[-1] < 0.16
    assert sequence.lower < 0.2 < sequence.upper
    assert sequence.to_json()["n"] == 600


@pytest.mark.parametrize("options", [{"alpha": 0.0}, {"alpha": 1.0}, {"low": 1.0, "high": 0.0}])
def test_wrong_settings_are_refused(options: dict[str, float]) -> None:
    """Levels outside (0, 1) and empty ranges."""
    with pytest.raises(ValueError, match="must"):
        ConfidenceSequence(**options)
