"""Whether the judge changed, by anchors: a bias that stays is none, one that grows is found, noise is not."""

import random

import pytest

from cascade.promise.anchors import ROUNDS, AnchorTracker


def grade(tracker: AnchorTracker, rng: random.Random, *, rounds: int, shift: float = 0.0, bias: bool = True) -> None:
    """Grades 150 anchors so often; the judge is wrong on some of them for good, at random in 2 %, and shifted."""
    for _ in range(rounds):
        for i in range(150):
            human = float(i % 3 == 0)
            judge = 1.0 - human if bias and i % 12 == 1 else human
            if rng.random() < 0.02:
                judge = 1.0 - judge
            if judge == 0.0 and rng.random() < shift:
                judge = 1.0
            tracker.add(str(i), judge, human)


def test_a_biased_judge_that_stays_the_same_did_not_change() -> None:
    """In nearly all of 40 histories: at most alpha, with a margin."""
    changed = 0
    for seed in range(40):
        tracker, rng = AnchorTracker(), random.Random(seed)
        grade(tracker, rng, rounds=ROUNDS + 6)
        changed += tracker.judge_changed(0.05)
    assert changed <= 5


def test_a_judge_that_finds_more_loss_is_found() -> None:
    """By the grades of three rounds, in nearly all histories; the size of the change is about right."""
    found_in = 0
    for seed in range(20):
        tracker, rng = AnchorTracker(), random.Random(seed)
        grade(tracker, rng, rounds=ROUNDS)
        assert tracker.change is None
        grade(tracker, rng, rounds=3, shift=0.12)
        found_in += tracker.judge_changed(0.05)
        assert tracker.change is not None
        assert 0.02 < tracker.change < 0.15
    assert found_in >= 17


def test_a_judge_that_finds_less_loss_raises_no_doubt_about_alarms() -> None:
    """Only more loss could explain an alarm."""
    tracker, rng = AnchorTracker(), random.Random(1)
    for i in range(150):
        for _ in range(ROUNDS):
            tracker.add(str(i), 1.0, 1.0)
    for i in range(150):
        tracker.add(str(i), float(rng.random() < 0.5), 1.0)
    assert not tracker.judge_changed(0.05)
    assert tracker.change is not None
    assert tracker.change < -0.3


def test_a_loss_out_of_range_is_refused() -> None:
    """It would break the bets."""
    with pytest.raises(ValueError, match=r"a loss lies in \[-1, 1\]"):
        AnchorTracker().add("a", 2.0, 0.0)
