"""A mean by labels of people and verdicts of a judge: covers whatever the judge is, and is narrower with a good one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.audit.people import LEAST_LABELS, PeopleEstimate, chances_of_draws, estimate_by_people

Rng = np.random.Generator
N, LABELS = 2_000, 200


def world(rng: Rng, judge: str) -> tuple[np.ndarray, np.ndarray]:
    """(labels of all, verdicts) of a judge; 70 % of the answers are right."""
    right = (rng.random(N) < 0.7) * 1.0
    noise = rng.normal(size=N)
    verdicts = {
        "good": 3.0 * right + noise + 5.0,
        "useless": noise,
        "reversed": -3.0 * right + noise,
        "constant": np.full(N, 0.9),
    }[judge]
    return right, verdicts


def sample(rng: Rng, labels: np.ndarray, n: int = LABELS) -> np.ndarray:
    """The labels of n at random, NaN elsewhere."""
    out = np.full(len(labels), np.nan)
    chosen = rng.choice(len(labels), n, replace=False)
    out[chosen] = labels[chosen]
    return out


def estimate(seed: int, judge: str) -> PeopleEstimate:
    """One simulated sample."""
    rng = np.random.default_rng(seed)
    right, verdicts = world(rng, judge)
    return estimate_by_people(sample(rng, right), verdicts, low=0.0)


@pytest.mark.parametrize("judge", ["good", "useless", "reversed", "constant"])
def test_intervals_cover_whatever_the_judge_is(judge: str) -> None:
    """At least 0.93 of them; with a width that follows what the judge knows."""
    estimates = [estimate(seed, judge) for seed in range(120)]
    covered = np.mean([e.lower <= 0.7 <= e.upper for e in estimates])
    assert covered >= 0.93 - 3.0 * np.sqrt(0.93 * 0.07 / 120)
    narrower = float(np.mean([e.narrower for e in estimates]))
    assert narrower < 0.65 if judge in ("good", "reversed") else 0.95 < narrower <= 1.0


def test_the_judges_bias_is_stated_and_taken_away() -> None:
    """A constant added to every verdict moves the stated bias by as much, and nothing else."""
    rng = np.random.default_rng(4)
    right, verdicts = world(rng, "good")
    labels = sample(rng, right)
    one, other = (estimate_by_people(labels, verdicts + shift, low=0.0) for shift in (0.0, 2.0))
    assert other.bias == pytest.approx(one.bias + 2.0)
    assert (other.mean, other.lower, other.upper) == pytest.approx((one.mean, one.lower, one.upper))


def test_labels_that_were_chosen_with_different_chances_are_weighted() -> None:
    """Where twice as many wrong answers are given to people, the estimate is still of all."""
    errors = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        right, verdicts = world(rng, "good")
        chances = np.where(verdicts < 6.5, 0.2, 0.05)
        labels = np.where(rng.random(N) < chances, right, np.nan)
        errors.append(estimate_by_people(labels, verdicts, chances=chances, low=0.0).mean - 0.7)
    assert abs(np.mean(errors)) < 3.0 * np.std(errors) / np.sqrt(40)


def test_runs_stand_for_as_many_as_their_weights_say() -> None:
    """Two kinds of runs of which one was sampled a tenth as often: the mean is over all runs."""
    rng = np.random.default_rng(5)
    kind = rng.random(N) < 0.5
    right = np.where(kind, 1.0, 0.0)
    e = estimate_by_people(sample(rng, right), right, weights=np.where(kind, 1.0, 10.0), low=0.0)
    assert e.mean == pytest.approx(1.0 / 11.0, abs=0.02)


@given(st.integers(0, 10**6), st.integers(0, 20), st.integers(0, 20))
def test_limits_lie_in_the_range_around_the_mean(seed: int, worse: int, better: int) -> None:
    """Also where no label differs from 0: the interval then has a width too."""
    rng = np.random.default_rng(seed)
    losses = rng.permutation(np.concatenate([np.ones(worse), -np.ones(better), np.zeros(100 - worse - better)]))
    e = estimate_by_people(sample(rng, losses, 50), np.round(losses + rng.normal(size=100)))
    assert -1.0 <= e.lower < e.mean < e.upper <= 1.0
    assert 0.0 < e.narrower <= 1.0 + 1e-9


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([np.nan] * 40, {}, f"at least {LEAST_LABELS} labels"),
        ([2.0] * 40, {}, "labels must lie"),
        ([0.0] * 40, {"chances": np.zeros(40)}, "chances must lie"),
        ([0.0] * 40, {"weights": np.zeros(40)}, "weights above 0"),
    ],
)
def test_wrong_arguments_are_refused(labels: list[float], options: dict[str, np.ndarray], message: str) -> None:
    """Each is an error that names what is wrong."""
    with pytest.raises(ValueError, match=message):
        estimate_by_people(np.array(labels), np.zeros(40), **options)


def test_a_draw_from_all_that_are_left_has_the_share_of_the_labels() -> None:
    """Uniform draws have n / N, also of everything."""
    assert chances_of_draws(np.ones(30), 120) == pytest.approx(np.full(30, 0.25))
    assert chances_of_draws(np.ones(30), 30) == pytest.approx(np.ones(30))


@pytest.mark.parametrize("labels", [40, 95])
def test_draws_without_replacement_are_weighted_without_bias(labels: int) -> None:
    """Of 100 values, of which the large ones are drawn four times as often: the weighted mean is that of all."""
    values = np.where(np.arange(100) < 30, 1.0, 0.0)
    means = []
    for seed in range(150):
        rng, left = np.random.default_rng(seed), np.arange(100)
        order, shares = [], []
        for _ in range(labels):
            p = 1.0 + 3.0 * values[left]
            place = rng.choice(len(left), p=p / p.sum())
            order.append(left[place])
            shares.append(p[place] / p.mean())
            left = np.delete(left, place)
        means.append(np.sum(values[order] / chances_of_draws(np.array(shares), 100)) / 100)
    assert abs(np.mean(means) - 0.3) < 3.5 * np.std(means) / np.sqrt(150) + 1e-12


def test_the_confidence_makes_it_narrower_and_a_useless_one_does_no_harm() -> None:
    """With a confidence that knows as much as the judge; unknown ones, and useless ones, cost next to nothing."""
    ratios: dict[str, list[float]] = {}
    hits = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        right, verdicts = world(rng, "good")
        labels = sample(rng, right)
        knows = 1.0 / (1.0 + np.exp(-(2.0 * right - 1.0 + rng.normal(size=N))))
        by = {
            "knows": knows,
            "unknown": np.full(N, np.nan),
            "useless": rng.random(N),
            "half unknown": np.where(rng.random(N) < 0.5, knows, np.nan),
        }
        without = estimate_by_people(labels, verdicts, low=0.0)
        for name, confidences in by.items():
            e = estimate_by_people(labels, verdicts, confidences=confidences, low=0.0)
            hits += e.lower <= 0.7 <= e.upper
            ratios.setdefault(name, []).append((e.upper - e.lower) / (without.upper - without.lower))
    assert np.mean(ratios["knows"]) < 0.93
    assert np.mean(ratios["half unknown"]) < 0.98
    assert max(np.mean(ratios["unknown"]), np.mean(ratios["useless"])) <= 1.0 + 1e-9
    assert hits / 80 >= 0.93 - 3.0 * np.sqrt(0.93 * 0.07 / 20)
