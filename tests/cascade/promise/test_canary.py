"""The comparison of two calibrations: whom it stops, whom it lets pass, and what it stores."""

import json
import random

import pytest

from cascade.promise.canary import CanaryComparison, CanaryVerdict


def follow(comparison: CanaryComparison, candidate: float, present: float, n: int, seed: int = 0) -> list[CanaryVerdict]:
    """The verdict after each label; a run loses with the probability of its calibration."""
    rng = random.Random(seed)
    verdicts = []
    for _ in range(n):
        chosen = rng.random() < comparison.share
        loss = float(rng.random() < (candidate if chosen else present))
        verdicts.append(comparison.add(loss, candidate=chosen))
    return verdicts


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_a_worse_candidate_is_stopped(share: float) -> None:
    """At every share; the verdict stays."""
    comparison = CanaryComparison(share=share, max_worse=0.02)
    verdicts = follow(comparison, 0.5, 0.02, 1_200)
    first = verdicts.index(CanaryVerdict.WORSE)
    assert set(verdicts[first:]) == {CanaryVerdict.WORSE}
    assert comparison.labels_needed is None
    assert comparison.difference is not None
    assert comparison.difference > 0.3


def test_an_equal_candidate_is_hardly_ever_stopped() -> None:
    """In at most alpha of the streams, here with a margin of three standard errors; mostly it becomes ready."""
    streams = [follow(CanaryComparison(share=0.5, max_worse=0.05), 0.02, 0.02, 500, seed) for seed in range(60)]
    assert sum(CanaryVerdict.WORSE in stream for stream in streams) <= 60 * (0.05 + 3 * 0.028)
    assert sum(CanaryVerdict.NO_WORSE in stream for stream in streams) > 30


def test_a_candidate_that_is_worse_by_the_limit_is_hardly_ever_ready() -> None:
    """In at most alpha of the streams."""
    streams = [follow(CanaryComparison(share=0.5, max_worse=0.05), 0.07, 0.02, 500, seed) for seed in range(60)]
    assert sum(CanaryVerdict.NO_WORSE in stream for stream in streams) <= 60 * (0.05 + 3 * 0.028)


def test_the_share_of_labels_does_not_bias_the_comparison() -> None:
    """With nine labels of the present calibration to one of the candidate, equal losses leave both e-processes low."""
    comparison = CanaryComparison(share=0.1, max_worse=0.02)
    for _ in range(200):
        for i in range(10):
            comparison.add(0.1, candidate=i == 0)
    assert comparison.difference == pytest.approx(0.0)
    assert comparison._worse.log_max < 1.0


def test_a_stored_comparison_goes_on_as_if_nothing_had_happened() -> None:
    """Through JSON."""
    whole, half = CanaryComparison(share=0.3, max_worse=0.02), CanaryComparison(share=0.3, max_worse=0.02)
    follow(half, 0.1, 0.05, 50)
    restored = CanaryComparison.from_json(json.loads(json.dumps(half.to_json())))
    follow(whole, 0.1, 0.05, 50)
    for comparison in (whole, restored):
        follow(comparison, 0.1, 0.05, 50, seed=1)
    assert restored.to_json() == whole.to_json()
    assert restored.n == 100


def test_labels_needed_falls_as_labels_come_in() -> None:
    """From a first guess without labels to 0 once it is ready."""
    comparison = CanaryComparison(share=0.5, max_worse=0.05)
    guesses = [comparison.labels_needed]
    for _ in range(4):
        follow(comparison, 0.0, 0.0, 100)
        guesses.append(comparison.labels_needed)
    numbers = [guess for guess in guesses if guess is not None]
    assert len(numbers) == 5
    assert numbers == sorted(numbers, reverse=True)
    assert numbers[-1] == 0


@pytest.mark.parametrize("settings", [{"share": 1.0}, {"max_worse": 0.0}, {"alpha": 1.0}])
def test_settings_outside_their_range_are_refused(settings: dict[str, float]) -> None:
    """By name."""
    with pytest.raises(ValueError, match=f"{next(iter(settings))} must lie between 0 and 1"):
        CanaryComparison(**{"share": 0.1, "max_worse": 0.02, **settings})
