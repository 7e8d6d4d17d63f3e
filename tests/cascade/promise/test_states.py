"""The four states of a promise, how many labels are missing, and what a tracker stores."""

import json

import numpy as np
import pytest

from cascade.promise.states import Promise, PromiseState, PromiseTracker


def follow(tracker: PromiseTracker, losses: object) -> list[PromiseState]:
    """The state after each loss."""
    return [tracker.add(float(loss)) for loss in losses]  # type: ignore[attr-defined]


def test_no_losses_lead_to_kept() -> None:
    """There is not enough evidence until somewhat more than ln(10) / 0.05 = 46 labels without a loss."""
    tracker = PromiseTracker(Promise(max_loss=0.05))
    first_guess = tracker.labels_needed
    states = follow(tracker, [0.0] * 120)
    assert states[0] is PromiseState.NOT_ENOUGH
    assert states[-1] is PromiseState.HOLDS
    reached = states.index(PromiseState.HOLDS) + 1
    assert set(states) == {PromiseState.NOT_ENOUGH, PromiseState.HOLDS}
    assert first_guess is not None
    assert first_guess / 2 < reached < first_guess * 2
    assert tracker.labels_needed == 0


def test_labels_needed_falls_as_labels_come_in() -> None:
    """Half of the way there, about half as many are missing."""
    tracker = PromiseTracker(Promise(max_loss=0.05))
    before = tracker.labels_needed
    follow(tracker, [0.0] * 30)
    after = tracker.labels_needed
    assert before is not None
    assert after is not None
    assert 0 < after < before


def test_losses_lead_through_doubt_to_broken_and_stay() -> None:
    """ "in doubt" comes before "broken", which is final."""
    rng = np.random.default_rng(6)
    tracker = PromiseTracker(Promise(max_loss=0.02))
    states = follow(tracker, rng.random(600) < 0.1)
    assert PromiseState.IN_DOUBT in states[: states.index(PromiseState.BROKEN)]
    assert follow(tracker, [0.0] * 500)[-1] is PromiseState.BROKEN
    assert tracker.labels_needed is None


def test_no_number_of_labels_shows_what_is_not_so() -> None:
    """With losses beyond the promise, the number of missing labels is unknown, not large."""
    tracker = PromiseTracker(Promise(max_loss=0.02))
    follow(tracker, [1.0, 0.0] * 10)
    assert tracker.labels_needed is None
    assert tracker.mean_loss == 0.5


def test_before_the_first_label_nothing_is_known() -> None:
    """The mean loss is None, not 0."""
    tracker = PromiseTracker(Promise(max_loss=0.02))
    assert tracker.mean_loss is None
    assert tracker.state is PromiseState.NOT_ENOUGH
    assert tracker.n == 0


def test_a_tracker_goes_on_from_its_json() -> None:
    """Several processes share it by its plain data."""
    rng = np.random.default_rng(7)
    losses = (rng.random(300) < 0.05) * 1.0
    whole = PromiseTracker(Promise(max_loss=0.02))
    part = PromiseTracker(Promise(max_loss=0.02))
    for loss in losses:
        whole.add(loss, 0.5)
        part.add(loss, 0.5)
        part = PromiseTracker.from_json(json.loads(json.dumps(part.to_json())))
    assert part.to_json() == whole.to_json()
    assert part.state is whole.state


@pytest.mark.parametrize("settings", [{"max_loss": 0.0}, {"max_loss": 1.0}, {"max_loss": 0.1, "delta": 0.0}])
def test_promises_out_of_range_are_refused(settings: dict[str, float]) -> None:
    """A loss of 0 cannot be shown by any number of labels, and delta is a probability."""
    with pytest.raises(ValueError, match="must lie between"):
        Promise(**settings)
