"""Several promises tested together: every line of the menu holds at once."""

import numpy as np
import pytest

from evals.replay.certificate.certified_choice import choose_certified, choose_from_menu
from evals.replay.certificate.guarantee import Guarantee
from evals.replay.certificate.menu import in_words, rows_in_all, saves
from evals.replay.rows.splits import Splits
from evals.replay.statistics.certify import check_in_order
from evals.replay.sweep_result import Candidate
from tests.evals.replay.synthetic import pair

PROMISES = (0.02, 0.03, 0.05, 0.1)
SPLITS = Splits(np.arange(300), np.arange(300, 1000), np.arange(1000, 20_000))


def test_lines_hold_and_looser_promises_cost_no_more() -> None:
    """On the population; the strictest that is proved is used."""
    columns = pair(20_000, 1)
    choice = choose_from_menu(columns, SPLITS, PROMISES, 0.1)
    reference, every = columns["dear"][0].quality[:, 0], np.arange(20_000)
    proved = [line for line in choice.menu if line.candidate is not None]
    assert [line.max_loss for line in choice.menu] == list(PROMISES)
    assert len(proved) >= 2
    costs = [line.cost_ratio for line in proved]
    assert costs == sorted(costs, reverse=True)
    for line in proved:
        assert line.candidate is not None
        assert (reference - line.candidate.outcome(every).quality).mean() <= line.max_loss
    assert choice.guarantee.value == proved[0].max_loss
    assert choice.certificate["certified"]
    assert choice.certificate["p_value"] == proved[0].p_value
    assert f"p = {proved[0].p_value:.4f}" in choice.certificate["words"]


def test_a_line_can_be_chosen() -> None:
    """A promise that was proved gives its cascade; one that was not gives the premium tier and a refusal."""
    columns = pair(20_000, 1)
    loose = choose_from_menu(columns, SPLITS, PROMISES, 0.1, choose=0.1)
    assert loose.guarantee.value == 0.1
    assert loose.certificate["certified"]
    few = Splits(np.arange(60), np.arange(60, 160), np.arange(1000, 2000))
    strict = choose_from_menu(columns, few, (0.001, 0.2), 0.1, choose=0.001)
    assert not strict.certificate["certified"]
    assert strict.chosen.cascade.models == ("dear",)


def test_where_the_strict_promise_cannot_be_proved_a_looser_one_is() -> None:
    """A menu instead of a refusal; the refused line says how many rows in all, not of a split."""
    columns = pair(20_000, 1)
    few = Splits(np.arange(45), np.arange(45, 150), np.arange(150, 300))
    assert not choose_certified(columns, few, Guarantee("max_loss", 0.005), method="split").certificate["certified"]
    choice = choose_from_menu(columns, few, (0.005, 0.1, 0.2), 0.1)
    assert choice.menu[0].candidate is None
    assert choice.menu[-1].candidate is not None
    needed = choice.menu[0].certificate.needed_n
    assert choice.menu[0].rows_in_all == rows_in_all(needed, few)
    assert needed is None or choice.menu[0].rows_in_all == -(-needed * 300 // 105)
    text = in_words([line.to_json() for line in choice.menu], 0.1, choice.guarantee.value)
    assert "graded rows in all" in text or "would not help" in text
    assert max(map(len, text.split("\n"))) <= 100
    long_names = [
        line.to_json() | {"tiers": [f"a-model-with-a-rather-long-name-{i}" for i in range(4)]} for line in choice.menu
    ]
    assert max(map(len, in_words(long_names, 0.1, 0.1).split("\n"))) <= 100


def test_strict_promises_are_proved_on_few_rows_as_well() -> None:
    """A risky candidate of a loose promise does not end the tests before the safe ones of stricter promises."""
    splits, proved = Splits(np.arange(45), np.arange(45, 150), np.arange(150, 300)), 0
    for seed in range(8):
        columns = pair(300, seed, right=0.7, premium=0.95)
        choice = choose_from_menu(columns, splits, (0.02, 0.03, 0.05, 0.1), 0.1, seed=seed)
        proved += choice.menu[1].candidate is not None
        for line in choice.menu:
            assert line.rows_in_all is None or line.rows_in_all >= 450
    assert proved >= 6


def test_the_certification_rows_choose_no_order() -> None:
    """Spoiling the test rows changes nothing; spoiling labels that certify changes no candidate, only what passes."""
    columns = pair(2000, 5)
    splits = Splits(np.arange(300), np.arange(300, 1000), np.arange(1000, 2000))
    one = choose_from_menu(columns, splits, PROMISES, 0.1)
    spoiled = {m: [c] for m, [c] in pair(2000, 5).items()}
    for [c] in spoiled.values():
        c.quality[1000:] = 0.0
    two = choose_from_menu(spoiled, splits, PROMISES, 0.1)
    assert [line.to_json() for line in one.menu] == [line.to_json() for line in two.menu]


@pytest.mark.parametrize("order", ["loose first", "strict first", "by margin"])
def test_a_menu_is_broken_rarely(order: str) -> None:
    """Simulation: pairs of which half are true and half just false, in a fixed order; in at most a share delta of 600
    recordings does a false one pass, although each recording tests up to 12 pairs on the same rows."""
    from scipy.stats import binomtest

    delta, n, draws = 0.1, 150, 600
    limits, rng = (0.04, 0.08, 0.12), np.random.default_rng(0)
    worse = [0.03, 0.07, 0.09, 0.14]  # a candidate's loss is this less 0.02: 0.01, 0.05, 0.07, 0.12
    pairs = [(i, limit) for i in range(4) for limit in limits]
    if order == "by margin":
        pairs.sort(key=lambda pair: worse[pair[0]] - pair[1])
    else:
        pairs.sort(key=lambda pair: pair[1] if order == "strict first" else -pair[1])
    broken = passes = 0
    for _ in range(draws):
        shared = rng.random(n)  # so that the candidates' losses depend on one another, as those of thresholds do
        losses = [np.where(shared < w, 1.0, np.where(shared > 0.98, -1.0, 0.0)) for w in worse]
        tests = check_in_order([(losses[i], limit) for i, limit in pairs], delta)
        passed = [pair for pair, (test, _) in zip(pairs, tests, strict=False) if test.passed]
        passes += len(passed)
        broken += any(worse[i] - 0.02 >= limit for i, limit in passed)
    assert passes > 0
    assert binomtest(broken, draws, delta, alternative="greater").pvalue > 1e-3


def test_without_stopping_at_the_first_failure_a_menu_would_be_broken_too_often() -> None:
    """The simulation bites: testing every pair and keeping what passes breaks more than delta."""
    from scipy.stats import binomtest

    delta, n, draws, rng = 0.1, 150, 400, np.random.default_rng(1)
    broken = 0
    for _ in range(draws):
        false = [rng.choice([1.0, -1.0, 0.0], n, p=[limit + 0.02, 0.02, 0.96 - limit]) for limit in (0.04, 0.08, 0.12, 0.16)]
        tests = [
            check_in_order([(loss, limit)], delta)[0] for loss, limit in zip(false, (0.04, 0.08, 0.12, 0.16), strict=True)
        ]
        broken += any(test.passed for test, _ in tests)
    assert binomtest(broken, draws, delta, alternative="greater").pvalue < 1e-3


@pytest.mark.parametrize(("ratio", "expected"), [(0.5, True), (0.999, False), (1.5, False)])
def test_a_saving_counts_beyond_its_standard_error(ratio: float, expected: bool) -> None:
    """Costs that differ by chance are no saving."""
    rng = np.random.default_rng(1)
    premium = rng.gamma(2.0, 1.0, 400)

    class Fixed(Candidate):
        def outcome(self, rows: np.ndarray) -> object:
            return type("O", (), {"cost_usd": (premium * ratio + 0.2 * rng.normal(size=400))[rows]})

    candidate = Fixed(cascade=None, thresholds=(), loss=0.0, variance=1.0, usd=0.0)  # type: ignore[arg-type]
    assert saves(candidate, premium, np.arange(400)) is expected
