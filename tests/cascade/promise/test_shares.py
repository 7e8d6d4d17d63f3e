"""A share that stays is left alone whatever the sample sizes; one that changes is found in both directions."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.promise.shares import ShareTest, interval


@given(st.integers(1, 2_000), st.floats(0.0, 1.0), st.floats(0.0001, 0.5))
def test_the_interval_contains_the_share_and_narrows_with_alpha(n: int, share: float, alpha: float) -> None:
    """It lies in [0, 1], around the share, and is wider for a smaller alpha."""
    events = round(share * n)
    low, high = interval(events, n, alpha)
    wider = interval(events, n, alpha / 10)
    assert 0.0 <= wider[0] <= low <= events / n <= high <= wider[1] <= 1.0


def test_no_event_in_the_recording_has_the_rule_of_three() -> None:
    """0 of n events: the upper limit is about log(2 / alpha) / n."""
    assert interval(0, 1_000, 0.1)[1] == pytest.approx(0.003, abs=0.0005)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.4, 0.9, 1.0])
def test_false_alarms_are_rarer_than_alpha(share: float) -> None:
    """Over draws of the recording and of the traffic together, looked at after each run."""
    rng, alarms = random.Random(1), 0
    for _ in range(60):
        test = ShareTest(sum(rng.random() < share for _ in range(100)), 100, 0.1)
        for _ in range(400):
            test.update(rng.random() < share)
        alarms += test.log_evidence >= 2.302
    assert alarms <= 6


@pytest.mark.parametrize(("before", "after"), [(0.05, 0.3), (0.5, 0.8), (0.8, 0.4)])
def test_a_change_is_found_in_either_direction(before: float, after: float) -> None:
    """Within 500 runs, and the present share is the one that is shown."""
    rng = random.Random(2)
    test = ShareTest(round(500 * before), 500, 0.01)
    for _ in range(500):
        test.update(rng.random() < after)
    assert test.log_evidence >= 4.6
    assert test.share == pytest.approx(after, abs=0.08)


def test_a_test_goes_on_from_its_stored_state() -> None:
    """Stopped half-way and restored, it comes to the same evidence."""
    rng = random.Random(3)
    events = [rng.random() < 0.5 for _ in range(200)]
    whole, half = ShareTest(20, 100, 0.1), ShareTest(20, 100, 0.1)
    for event in events[:100]:
        half.update(event)
    rest = ShareTest(20, 100, 0.1)
    rest.restore(json.loads(json.dumps(half.to_json())))
    for i, event in enumerate(events):
        whole.update(event)
        if i >= 100:
            rest.update(event)
    assert (rest.log_evidence, rest.share) == (whole.log_evidence, whole.share)


def test_counts_that_cannot_be_are_refused() -> None:
    """More events than examples, or none."""
    for events, n in ((2, 1), (-1, 5), (0, 0)):
        with pytest.raises(ValueError, match="events must lie"):
            ShareTest(events, n, 0.1)
