"""Fixed-sequence certificates: where they stop, which test they use, and that their promises hold as often as they say."""

from functools import cache
from math import ceil, log

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.replay.statistics import significance
from evals.replay.statistics.certify import METHODS, Certificate, fixed_sequence, least_rows, p_value, rows_needed

Array = npt.NDArray[np.float64]


def losses(worse: int, better: int, n: int) -> Array:
    """``n`` paired differences."""
    return np.concatenate([np.ones(worse), -np.ones(better), np.zeros(n - worse - better)])


def test_the_method_follows_from_the_losses() -> None:
    """Exact tests for 0/1 and -1/0/1, betting for anything else and for limits at or below 0; the numbers are theirs."""
    assert p_value(losses(2, 0, 100), 0.1, paired=False) == (significance.binomial(2, 100, 0.1), "binomial")
    assert p_value(losses(2, 0, 100), 0.1) == (significance.paired(2, 0, 100, 0.1), "paired")  # whatever these rows hold
    assert p_value(losses(4, 3, 100), 0.1) == (significance.paired(4, 3, 100, 0.1), "paired")
    fractional = np.append(losses(2, 0, 99), 0.5)
    assert p_value(fractional, 0.1) == (significance.betting(fractional, 0.1), "betting")
    mixed = np.append(losses(2, 3, 99), -0.5)
    assert p_value(mixed, 0.1) == (significance.betting((1 + mixed) / 2, 0.55), "betting")
    for limit in (0.0, -0.02):
        p, method = p_value(losses(1, 30, 100), limit)
        assert method == "betting"
        assert p == significance.betting((1 + losses(1, 30, 100)) / 2, (1 + limit) / 2)
    assert p_value(losses(3, 1, significance.PAIRED_LIMIT + 1), 0.1)[1] == "betting"
    assert set(METHODS) == {"binomial", "paired", "betting", "hoeffding_bentkus"}


def test_a_method_can_be_asked_for() -> None:
    """By name, with differences in [-1, 1] moved to [0, 1] where the test needs them there."""
    d = losses(4, 3, 100)
    assert p_value(d, 0.1, "hoeffding_bentkus")[0] == significance.hoeffding_bentkus((1 + d.mean()) / 2, 100, 0.55)
    assert p_value(d, 0.1, "betting") == (significance.betting((1 + d) / 2, 0.55), "betting")
    assert p_value(losses(4, 0, 100), 0.1, "paired") == (significance.paired(4, 0, 100, 0.1), "paired")


@given(st.integers(0, 40), st.integers(0, 40), st.sampled_from([0.02, 0.1, 0.3]))
def test_betting_does_not_mind_where_the_differences_begin(worse: int, better: int, limit: float) -> None:
    """Bets on differences in [-1, 1] and on the same moved to [0, 1] are the same bets, so that nothing hangs on it."""
    d = np.random.default_rng(0).permutation(losses(worse, better, 100))
    assert significance.betting((1 + d) / 2, (1 + limit) / 2) == pytest.approx(significance.betting(d, limit), rel=1e-9)


def test_no_rows_prove_nothing() -> None:
    """Whatever the method."""
    for method in ("auto", "betting", "hoeffding_bentkus", "paired", "binomial"):
        assert p_value(np.empty(0), 0.1, method)[0] == 1.0


def test_it_stops_at_the_first_failure() -> None:
    """A candidate behind one that failed is not tested, however good it is."""
    good, better, bad = losses(2, 0, 200), losses(1, 0, 200), losses(30, 0, 200)
    certificate = fixed_sequence([good, better, bad, better], 0.1, 0.1, paired=False)
    assert certificate.certified
    assert certificate.position == 1
    assert [t.passed for t in certificate.tests] == [True, True, False]
    assert [t.loss for t in certificate.tests] == [0.01, 0.005, 0.15]
    assert certificate.p_value == certificate.tests[1].p_value == significance.binomial(1, 200, 0.1)
    assert (certificate.n, certificate.method, certificate.limit, certificate.delta) == (200, "binomial", 0.1, 0.1)
    assert certificate.needed_n is None  # no number of rows would help a loss above the limit


def test_where_the_first_fails_nothing_is_certified() -> None:
    """The position is -1 and the p-value that of the failed test, whatever the later p-values are."""
    certificate = fixed_sequence([losses(30, 0, 200), losses(0, 0, 200)], 0.1, 0.1)
    assert not certificate.certified
    assert certificate.position == -1
    assert certificate.p_value == certificate.tests[0].p_value > 0.1
    assert len(certificate.tests) == 1


def test_where_all_pass_no_more_rows_are_needed() -> None:
    """The last candidate is the position."""
    certificate = fixed_sequence([losses(0, 0, 200)] * 3, 0.1, 0.1)
    assert certificate.position == 2
    assert certificate.needed_n is None


def test_an_empty_list_is_not_certified() -> None:
    """Without candidates there is nothing to promise."""
    assert fixed_sequence([], 0.1, 0.1) == Certificate(
        certified=False, limit=0.1, delta=0.1, method="auto", n=0, position=-1, tests=(), needed_n=None
    )


def test_a_p_value_at_delta_passes() -> None:
    """p <= delta is the rule."""
    p = significance.binomial(3, 100, 0.1)
    assert fixed_sequence([losses(3, 0, 100)], 0.1, p, paired=False).certified
    assert not fixed_sequence([losses(3, 0, 100)], 0.1, np.nextafter(p, 0), paired=False).certified


def test_the_certificate_as_data() -> None:
    """What is written is what was found, the method in words."""
    certificate = fixed_sequence([losses(1, 0, 100), losses(50, 0, 100)], 0.1, 0.1, paired=False)
    assert certificate.to_json() == {
        "certified": True, "max_loss": 0.1, "delta": 0.1, "method": "exact binomial test, fixed sequence", "n": 100,
        "p_value": significance.binomial(1, 100, 0.1), "tests": 2, "needed_n": None,
    }  # fmt: skip


@given(st.floats(0.001, 0.9), st.floats(1e-6, 0.5))
def test_least_is_the_fewest_rows_without_a_loss(limit: float, delta: float) -> None:
    """That many clean rows certify and one fewer does not."""
    n = least_rows(limit, delta, paired=False)
    assert n == max(1, ceil(log(delta) / log(1 - limit) - 1e-9)) or (1 - limit) ** n <= delta
    assert significance.binomial(0, n, limit) <= delta * (1 + 1e-9)
    if n > 1:
        assert significance.binomial(0, n - 1, limit) > delta * (1 - 1e-9)
    assert least_rows(0.0, delta) == least_rows(1.0, delta) == 1


@pytest.mark.parametrize("limit", [0.01, 0.02, 0.05, 0.1, 0.3])
@pytest.mark.parametrize("delta", [0.2, 0.1, 0.02])
def test_the_least_rows_of_a_paired_test_are_those_of_that_test(limit: float, delta: float) -> None:
    """The promise is tested on differences: that many rows without any certify it, one fewer does not."""
    n = least_rows(limit, delta)
    assert fixed_sequence([losses(0, 0, n)], limit, delta).certified
    assert not fixed_sequence([losses(0, 0, n - 1)], limit, delta).certified
    assert n >= least_rows(limit, delta, paired=False)


def test_needed_is_about_right() -> None:
    """Of simulated data sets as large as it says, about the wanted share is certified; half as many rows do far worse."""
    rng = np.random.default_rng(2)
    limit, risk = 0.1, 0.05
    n = rows_needed(losses(5, 0, 100), limit, 0.1)
    assert n is not None
    assert n >= least_rows(limit, 0.1)

    def power(rows: int) -> float:
        return float(np.mean([significance.binomial(int(k), rows, limit) <= 0.1 for k in rng.binomial(rows, risk, 400)]))

    assert 0.7 <= power(n) <= 0.99
    assert power(n // 3) < power(n) - 0.1


def test_needed_where_no_number_would_do() -> None:
    """None where the measured loss is not below the limit, or the limit is not above 0."""
    assert rows_needed(losses(10, 0, 100), 0.1, 0.1) is None
    assert rows_needed(losses(0, 10, 100), 0.0, 0.1) is None
    assert rows_needed(losses(0, 0, 100), 0.01, 0.1) == max(
        least_rows(0.01, 0.1), rows_needed(losses(0, 0, 100), 0.01, 0.1) or 0
    )
    failed = fixed_sequence([losses(5, 0, 60)], 0.1, 0.1)
    assert not failed.certified
    assert failed.needed_n == rows_needed(losses(5, 0, 60), 0.1, 0.1)


def at_most(hits: int, draws: int, delta: float) -> None:
    """The share of hits does not speak against a probability of at most delta, by a binomial test at 1e-3."""
    from scipy.stats import binomtest

    assert binomtest(hits, draws, delta, alternative="greater").pvalue > 1e-3, f"{hits} of {draws} at {delta}"


@pytest.mark.parametrize("n", [100, 300])
def test_decisions_keep_their_level(n: int) -> None:
    """1,000 draws with the true risk just above the limit: binomial, paired and betting certify at most a share delta."""
    rng = np.random.default_rng(n)
    draws, limit = 1000, 0.05
    risk = limit + 1e-6
    one = cache(lambda worse, better: p_value(losses(worse, better, n), limit)[0])
    binomial = [one(int(k), 0) for k in rng.binomial(n, risk, draws)]
    paired = [one(int(a), int(b)) for a, b, _ in rng.multinomial(n, [0.02 + risk, 0.02, 1 - 0.04 - risk], draws)]
    # Fractional differences: a loss of 1 or 0.5, a gain of 0.3.
    kinds, share = np.array([1.0, 0.5, -0.3, 0.0]), np.array([0.06, 0.04, 0.1, 0.8])
    share[0] += risk - float(kinds @ share)
    share[3] = 1 - share[:3].sum()
    results = [p_value(row, limit) for row in rng.choice(kinds, p=share, size=(draws, n))]
    assert sum(method == "betting" for _, method in results) > 0.95 * draws
    for delta in (0.05, 0.1):
        for p_values in (binomial, paired, [p for p, _ in results]):
            at_most(sum(p <= delta for p in p_values), draws, delta)
        for p_values in (binomial, paired):  # a test that never certifies would be valid too
            assert sum(p <= delta for p in p_values) > draws * delta / 10


def test_the_family_keeps_its_level() -> None:
    """Twenty independent candidates that all break the promise: any is certified in at most a share delta of 2,000 draws.

    Testing each of them at the same level without stopping would certify one in nearly every draw.
    """
    rng = np.random.default_rng(7)
    n, limit, delta, draws = 150, 0.1, 0.1, 2000
    one = cache(lambda k: losses(k, 0, n))
    counts = rng.binomial(n, limit + 1e-6, (draws, 20))
    hits = sum(fixed_sequence([one(int(k)) for k in row], limit, delta).certified for row in counts)
    at_most(hits, draws, delta)
    assert hits > 0.3 * delta * draws
    assert sum(min(significance.binomial(int(k), n, limit) for k in row) <= delta for row in counts[:200]) > 100


def test_the_family_keeps_its_level_in_any_order() -> None:
    """Good and bad candidates in mixed order, on the same rows: one whose risk is above the limit passes rarely enough."""
    rng = np.random.default_rng(8)
    n, limit, delta, draws = 150, 0.1, 0.1, 1000
    risks = np.array([0.02, 0.06, 0.1001, 0.05, 0.13, 0.11])
    broken = 0
    for _ in range(draws):
        u = rng.random(n)
        certificate = fixed_sequence([(u < r).astype(np.float64) for r in risks], limit, delta)
        broken += any(t.passed and r > limit for t, r in zip(certificate.tests, risks, strict=False))
    at_most(broken, draws, delta)
    assert broken > 0
