"""Traffic like the recording is left alone; each kind of change is found by its own check; the state survives a restart."""

import json
import random
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.promise.drift import FORM_FEATURES, form_features
from cascade.promise.shares import ShareTest
from cascade.promise.traffic import DriftState, TrafficProfile, TrafficTracker, profile_of
from cascade.promise.traffic_events import TrafficRun

TIERS = ("cheap", "premium")


form_of = cache(form_features)  # of eighteen texts, for tens of thousands of runs


def run(rng: random.Random) -> TrafficRun:
    """A run of a healthy policy: three in ten escalate, which takes longer and costs more."""
    escalated = rng.random() < 0.3
    return TrafficRun(
        form=form_of("What is " + "a long word " * rng.randrange(2, 20) + "?"),
        confidence=rng.betavariate(2, 4) if escalated else rng.betavariate(6, 2),
        tier=int(escalated),
        escalated=escalated,
        refused=rng.random() < 0.01,
        latency_s=rng.expovariate(1.0) + escalated,
        cost_usd=rng.choice([0.0001, 0.00011]) + 0.002 * escalated,
    )


@cache
def profile(n: int = 500, seed: int = 0) -> TrafficProfile:
    """The profile of such a policy."""
    rng = random.Random(seed)
    return TrafficProfile.from_lines([run(rng).to_line() for _ in range(n)])


def states(tracker: TrafficTracker) -> dict[str, DriftState]:
    """The state of each check."""
    return {check.name: check.state for check in tracker.results()}


def test_traffic_like_the_recording_is_left_alone() -> None:
    """Twenty streams of 600 runs, their values not rounded as the profile's are: at most one alarm at alpha 0.05."""
    alarms = 0
    for seed in range(20):
        tracker, rng = TrafficTracker(profile(seed=seed), TIERS, seed=seed), random.Random(1_000 + seed)
        for _ in range(600):
            tracker.add(run(rng))
        alarms += DriftState.DRIFTED in states(tracker).values()
    assert alarms <= 1


def test_healthy_traffic_is_shown_to_be_like_the_recording() -> None:
    """Every check without labels, in about as many runs as was said at the start; before, there is not enough evidence."""
    tracker, rng = TrafficTracker(profile(), TIERS), random.Random(11)
    first = {check.name: check for check in tracker.results()}
    assert {check.state for check in first.values()} == {DriftState.NOT_ENOUGH}
    counts: dict[str, int] = {}
    for n in range(1, 1_501):
        tracker.add(run(rng))
        for check in tracker.results() if n % 10 == 0 else ():
            if check.state is DriftState.ALIKE:
                counts.setdefault(check.name, n)
    assert counts.keys() == first.keys() - {"calibration"}
    for name, n in counts.items():
        needed = first[name].needed
        assert needed is not None
        assert f"about {needed:,} more would show it" in first[name].words
        assert needed / 4 <= n <= needed * 4


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_changed_share_is_not_called_like_the_recording(share: float) -> None:
    """Three in ten escalated; where more do by 15 points and over, no stream of thirty is called like the recording."""
    for seed in range(30):
        test, rng = ShareTest(150, 500, 0.05), random.Random(seed)
        for _ in range(400):
            test.update(rng.random() < share)
            assert test.needed != 0
    assert test.needed is None  # with a share like this no number of runs would do


@pytest.mark.parametrize(
    ("check", "change"),
    [
        ("prompts", {"form": form_features("1 + 2 * 3 = 7 ?\n" * 5)}),
        ("confidences", {"confidence": 0.97}),
        ("escalations", {"escalated": True}),
        ("tiers", {"tier": 1}),
        ("refusals", {"refused": True}),
        ("latency", {"latency_s": 9.0}),
        ("cost", {"cost_usd": 0.05}),
    ],
)
def test_each_kind_of_change_is_found_by_its_own_check(check: str, change: dict[str, object]) -> None:
    """Half of the runs change in one way: only that check shows a drift, and says after how many runs."""
    tracker, rng = TrafficTracker(profile(), TIERS), random.Random(5)
    for i in range(300):
        one = run(rng)
        tracker.add(replace(one, **change) if i % 2 else one)  # type: ignore[arg-type]
    assert [name for name, state in states(tracker).items() if state is DriftState.DRIFTED] == [check]
    words = {result.name: result.words for result in tracker.results()}[check]
    assert f"shown after {tracker.first[check]:,} runs" in words
    assert tracker.first[check] < 300


def test_losses_beyond_what_confidences_admit_are_a_drift_of_the_calibration() -> None:
    """Answers accepted at 0.9 that lose in three of ten cases; where they lose in one of ten nothing is said."""
    for rate, state in ((0.3, DriftState.DRIFTED), (0.1, DriftState.ALIKE)):
        tracker, rng = TrafficTracker(profile(), TIERS), random.Random(7)
        for _ in range(400):
            tracker.add_label(float(rng.random() < rate), 0.9, 0.5)
        assert states(tracker)["calibration"] is state


def test_what_is_unknown_is_left_out() -> None:
    """Runs without form, confidence, latency and cost count for the other checks alone, and are never zeros."""
    tracker, rng = TrafficTracker(profile(), TIERS), random.Random(6)
    for _ in range(200):
        tracker.add(replace(run(rng), form=None, confidence=None, latency_s=None, cost_usd=None))
    by_check = states(tracker)
    assert {by_check[check] for check in ("tiers", "escalations", "refusals")} == {DriftState.ALIKE}
    assert {by_check[check] for check in ("prompts", "confidences", "latency", "cost")} == {DriftState.NOT_ENOUGH}
    bare = TrafficProfile.from_lines([replace(run(rng), latency_s=None, form=None).to_line() for _ in range(100)])
    assert "latency" not in states(TrafficTracker(bare, TIERS))
    assert "prompts" not in states(TrafficTracker(bare, TIERS))


def test_a_tracker_goes_on_from_its_stored_state() -> None:
    """Stored after half of the runs and restored in another process, it comes to the same results."""
    rng = random.Random(8)
    runs = [replace(run(rng), confidence=rng.random()) for _ in range(200)]
    whole, half = TrafficTracker(profile(), TIERS), TrafficTracker(profile(), TIERS)
    for one in runs[:100]:
        half.add(one)
    rest = TrafficTracker(profile(), TIERS).restore(json.loads(json.dumps(half.to_json())))
    for i, one in enumerate(runs):
        whole.add(one)
        if i >= 100:
            rest.add(one)
    assert list(rest.results()) == list(whole.results())
    assert rest.to_json() == whole.to_json()


unknown_or = lambda values: st.none() | values  # noqa: E731 - a name for two strategies


@given(
    st.builds(
        TrafficRun,
        form=unknown_or(st.lists(st.floats(-9, 9), min_size=FORM_FEATURES, max_size=FORM_FEATURES)),
        confidence=unknown_or(st.floats(0, 1)),
        tier=unknown_or(st.integers(0, 5)),
        escalated=st.booleans(),
        refused=st.booleans(),
        latency_s=unknown_or(st.floats(0, 1e6)),
        cost_usd=unknown_or(st.floats(0, 1e6)),
    )
)
def test_a_line_of_a_profile_is_read_as_it_was_written(one: TrafficRun) -> None:
    """Rounding twice changes nothing, and what is unknown stays so."""
    again = TrafficRun.from_line(one.to_line())
    assert again.to_line() == one.to_line()
    assert (again.tier, again.escalated, again.form is None) == (one.tier, one.escalated, one.form is None)


def test_a_profile_that_is_no_profile_is_refused() -> None:
    """Too few lines, or a line of another length; a calibration without one has none."""
    with pytest.raises(ValueError, match="at least 50 are needed"):
        profile(10)
    with pytest.raises(ValueError, match="has 13 numbers, got 2"):
        TrafficProfile.from_lines(["1 2"] * 60)
    assert profile_of("{}") is None
