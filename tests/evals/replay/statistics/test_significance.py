"""The p-values against scipy, brute force, exact enumeration of their level, and published alternatives."""

from collections.abc import Callable
from functools import cache
from math import ceil, e, exp, log, sqrt

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.replay.statistics import significance

LIMITS = st.sampled_from([0.01, 0.05, 0.1, 0.3])


def outcomes(n: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Every (worse, better) with worse + better <= n."""
    worse, better = np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij")
    inside = worse + better <= n
    return worse[inside], better[inside]


@given(st.integers(1, 400), st.integers(-1, 401), st.floats(1e-6, 1 - 1e-6))
def test_binomial_cdf_is_scipys(n: int, k: int, p: float) -> None:
    """The distribution function to 1e-9, with k below 0 and above n."""
    from scipy.stats import binom

    assert significance.binomial_cdf(k, n, p) == pytest.approx(binom.cdf(k, n, p), abs=1e-9)


@given(st.integers(1, 3000), st.floats(1e-6, 1 - 1e-6))
def test_log_pmf_is_scipys(n: int, p: float) -> None:
    """The log-probabilities of all counts, in one call, also with a number of trials for each."""
    from scipy.stats import binom

    k = np.arange(0, n + 1, max(1, n // 50))
    want = binom.logpmf(k, n, p)
    assert significance.log_pmf(k, n, p) == pytest.approx(want, rel=1e-8, abs=1e-8)
    assert significance.log_pmf(k, np.full(len(k), n), p) == pytest.approx(want, rel=1e-8, abs=1e-8)


def test_binomial_at_the_ends() -> None:
    """p-values of 1 and 0 where they are certain, none for no rows."""
    from scipy.stats import binomtest

    assert significance.binomial_cdf(0, 5, 0.0) == 1.0
    assert significance.binomial_cdf(3, 5, 1.0) == 0.0
    assert significance.binomial_cdf(5, 5, 1.0) == 1.0
    assert significance.binomial(0, 0, 0.1) == 1.0
    assert significance.binomial(0, 22, 0.1) == pytest.approx(0.9**22)
    assert significance.binomial(3, 100, 0.1) == pytest.approx(binomtest(3, 100, 0.1, alternative="less").pvalue)


@given(st.integers(1, 500), st.floats(0, 1), st.sampled_from([0.001, 0.05, 0.2]))
def test_clopper_pearson_is_scipys(n: int, share: float, level: float) -> None:
    """Both ends to 1e-7 by the quantiles of the beta distribution, and 0 and 1 where they must be."""
    from scipy.stats import beta

    k = round(share * n)
    low, high = significance.clopper_pearson(k, n, level)
    assert low == pytest.approx(beta.ppf(level / 2, k, n - k + 1) if k else 0.0, abs=1e-7)
    assert high == pytest.approx(beta.ppf(1 - level / 2, k + 1, n - k) if k < n else 1.0, abs=1e-7)
    assert (low == 0.0) == (k == 0)
    assert (high == 1.0) == (k == n)


def test_clopper_pearson_without_rows() -> None:
    """No rows exclude nothing."""
    assert significance.clopper_pearson(0, 0, 0.05) == (0.0, 1.0)


def restricted(worse: int, better: int, n: int, loss: float) -> float:
    """The score statistic with the restricted maximum likelihood found numerically, not by its formula."""
    from scipy.optimize import minimize_scalar

    same = n - worse - better

    def minus_log_likelihood(q: float) -> float:
        shares = np.array([q + loss, q, 1 - 2 * q - loss])
        return -float(np.array([worse, better, same]) @ np.log(np.maximum(shares, 1e-300)))

    top = (1 - loss) / 2
    optimum = minimize_scalar(minus_log_likelihood, bounds=(0, top), method="bounded", options={"xatol": 1e-12})
    q = min((optimum.x, 0.0, top), key=minus_log_likelihood)
    return float((n * loss - (worse - better)) / sqrt(n * (2 * q + loss - loss**2)))


@settings(deadline=None)
@given(st.integers(2, 200), st.floats(0, 1), st.floats(0, 1), LIMITS)
def test_tango_is_the_score_statistic(n: int, discordant: float, lost: float, loss: float) -> None:
    """The closed form of the restricted maximum likelihood is where a numerical search finds it."""
    both = round(discordant * n)
    worse = round(lost * both)
    assert float(significance.tango(worse, both - worse, n, loss)) == pytest.approx(
        restricted(worse, both - worse, n, loss), abs=1e-4, rel=1e-4
    )


@given(st.integers(1, 1000), st.floats(0, 1), LIMITS)
def test_tango_falls_as_losses_replace_gains(n: int, discordant: float, loss: float) -> None:
    """Which is what lets a bisection find the rejection region."""
    both = round(discordant * n)
    worse = np.arange(both + 1)
    assert np.all(np.diff(significance.tango(worse, both - worse, n, loss)) < 0)


def brute_force(n: int, loss: float, points: int) -> dict[tuple[int, int], float]:
    """The p-value of every outcome, summing the multinomial over all outcomes for each share of discordant pairs."""
    from scipy.stats import beta, multinomial

    worse, better = outcomes(n)
    statistic = np.array([restricted(int(a), int(b), n, loss) for a, b in zip(worse, better, strict=True)])
    as_large = statistic[None, :] >= statistic[:, None] - 1e-6
    level, triples = significance.NUISANCE_LEVEL, np.stack([worse, better, n - worse - better], axis=-1)

    @cache
    def probabilities(k: int) -> npt.NDArray[np.float64]:
        """(points, outcomes): the shares depend on the number of discordant pairs alone."""
        low = beta.ppf(level / 2, k, n - k + 1) if k else 0.0
        high = beta.ppf(1 - level / 2, k + 1, n - k) if k < n else 1.0
        shares = np.linspace(max(low, loss), high, points)
        p = np.clip([[(s + loss) / 2, (s - loss) / 2, 1 - s] for s in shares], 0, 1)
        return np.stack([multinomial.pmf(triples, n, row) for row in p])

    return {
        (a, b): min(1.0, float((probabilities(a + b) * as_large[i]).sum(axis=1).max()) + level)
        for i, (a, b) in enumerate(zip(worse.tolist(), better.tolist(), strict=True))
    }


@pytest.mark.parametrize(("n", "loss"), [(6, 0.1), (9, 0.25)])
def test_paired_is_brute_force(n: int, loss: float) -> None:
    """Every outcome of a small n has the p-value that enumeration gives; a finer grid of shares moves none by 0.003."""
    for points, within in ((significance.NUISANCE_POINTS, 1e-6), (200, 3e-3)):
        for (worse, better), p in brute_force(n, loss, points).items():
            assert significance.paired(worse, better, n, loss) == pytest.approx(p, abs=within)


def paired_share_by_share(worse: int, better: int, n: int, loss: float) -> float:
    """The exact paired test without a cache, with a rejection region that is searched count by count, without bisection."""
    observed = float(significance.tango(worse, better, n, loss))
    low, high = significance.clopper_pearson.__wrapped__(worse + better, n, significance.NUISANCE_LEVEL)
    if high <= loss:
        return significance.NUISANCE_LEVEL
    every = [np.arange(k + 1) for k in range(n + 1)]
    most = np.array([int((significance.tango(a, a[::-1], n, loss) >= observed - 1e-9).sum()) - 1 for a in every])
    tails = []
    for s in np.linspace(max(low, loss), high, significance.NUISANCE_POINTS).tolist():
        share = min(max(s, 1e-12), 1 - 1e-12)
        reach = 7.5 * sqrt(n * share * (1 - share)) + 20
        counts = np.arange(max(0, int(n * share - reach)), min(n, int(n * share + reach)) + 1)
        weight = np.exp(significance.log_pmf(counts, n, share))
        below_limit = significance._cdf_rows(most[counts], counts, min(max((share + loss) / (2 * share), 1e-12), 1 - 1e-12))
        tails.append(float((weight * below_limit).sum()) + max(0.0, 1.0 - float(weight.sum())))
    return min(1.0, max(tails) + significance.NUISANCE_LEVEL)


@settings(max_examples=30)
@given(st.integers(1, 120), st.floats(0, 1), st.floats(0, 1), LIMITS)
def test_paired_shares_work_without_changing_a_bit(n: int, discordant: float, lost: float, loss: float) -> None:
    """One search for all shares, and the caches, give the very float of the plain computation, the first and second time."""
    both = round(discordant**2 * n)
    worse = round(lost * both)
    p = paired_share_by_share(worse, both - worse, n, loss)
    assert significance.paired(worse, both - worse, n, loss) == p
    assert significance.paired(worse, both - worse, n, loss) == p
    assert significance.paired.__wrapped__(worse, both - worse, n, loss) == p


@given(st.integers(0, 5000))
def test_log_factorials_do_not_depend_on_the_tables_length(n: int) -> None:
    """A longer table begins with the shorter one, bit by bit, so that calls may share it."""
    assert np.array_equal(significance._log_factorials(8192)[: n + 1], significance._log_factorials.__wrapped__(n))


def rejected(n: int, loss: float, delta: float, p_value: Callable[[int, int], float]) -> list[tuple[int, int]]:
    """All outcomes with p <= delta, given that none has whose losses exceed its gains by more than the limit."""
    worse, better = outcomes(n)
    near = worse - better <= n * loss
    return [(a, b) for a, b in zip(worse[near].tolist(), better[near].tolist(), strict=True) if p_value(a, b) <= delta]


def boundary(n: int, delta: float, p_value: Callable[[int, int], float]) -> list[tuple[int, int]]:
    """All outcomes with p <= delta, found along the boundary: for each number of gains up to the first loss that fails."""
    region, most = [], -1
    for better in range(n + 1):
        while most < n - better and p_value(most + 1, better) <= delta:
            most += 1
        region += [(worse, better) for worse in range(min(most, n - better) + 1)]
    return region


@pytest.mark.parametrize(("n", "loss"), [(25, 0.2), (60, 0.05)])
def test_paired_never_rejects_more_than_its_level(n: int, loss: float) -> None:
    """By exact enumeration: where the loss is at the limit, or above it, p <= delta has a probability of at most delta.

    Also where 0/1 losses without any gain are tested by the binomial instead, as the automatic choice does.
    """
    from scipy.stats import multinomial

    @cache
    def paired(worse: int, better: int) -> float:
        return significance.paired(worse, better, n, loss)

    def chosen(worse: int, better: int) -> float:
        return significance.binomial(worse, n, loss) if better == 0 else paired(worse, better)

    for delta in (0.05, 0.1, 0.2):
        for p_value in (paired, chosen):
            region = np.array(boundary(n, delta, p_value))
            if n == 25 and delta == 0.1 and p_value is paired:
                assert sorted(map(tuple, region.tolist())) == sorted(rejected(n, loss, delta, p_value))
            triples = np.column_stack([region, n - region.sum(axis=1)])
            sizes = []
            for extra in (0.0, 0.02):
                for gains in np.linspace(0.0, (1 - loss - extra) / 2, 40):
                    shares = np.clip([gains + loss + extra, gains, 1 - 2 * gains - loss - extra], 0, 1)
                    sizes.append(float(multinomial.pmf(triples, n, shares).sum()))
            assert max(sizes) <= delta
            # A test that never rejects would be valid too.
            assert max(sizes) >= 0.85 * delta


@settings(deadline=None, max_examples=20)
@given(st.integers(20, 150), st.floats(0, 0.5), st.floats(0, 1), LIMITS)
def test_paired_rises_with_losses(n: int, discordant: float, lost: float, loss: float) -> None:
    """A gain turned into a loss never lowers the p-value; a larger limit never raises one that is small enough to matter."""
    both = max(1, round(discordant * n))
    worse = round(lost * (both - 1))
    p = significance.paired(worse, both - worse, n, loss)
    assert significance.paired(worse + 1, both - worse - 1, n, loss) >= p - 1e-9
    # The test's size over the nuisance parameter moves with the limit: above any usual delta the p-value may rise a little.
    rise = 2e-3 if p <= 0.05 else 5e-2
    assert p > 0.2 or significance.paired(worse, both - worse, n, loss * 1.5) <= p + rise


def test_paired_at_the_ends() -> None:
    """No rows prove nothing; a limit of 1 is always kept; the level of the confidence set is the least p-value."""
    assert significance.paired(0, 0, 0, 0.1) == 1.0
    assert significance.paired(3, 0, 5, 1.0) == 0.0
    assert significance.paired(0, 0, 3000, 0.1) == significance.NUISANCE_LEVEL
    assert significance.paired(40, 0, 100, 0.1) > 0.99
    # Sharper than the binomial that a clean sweep of gains cannot enter.
    assert significance.paired(2, 10, 100, 0.05) < significance.binomial(2, 100, 0.05)


@given(st.integers(1, 300), st.data(), LIMITS)
def test_binomial_rises_with_losses(n: int, data: st.DataObject, limit: float) -> None:
    """One more loss raises the p-value, a larger limit lowers it."""
    losses = data.draw(st.integers(0, n - 1))
    p = significance.binomial(losses, n, limit)
    assert significance.binomial(losses + 1, n, limit) >= p - 1e-12
    assert significance.binomial(losses, n, limit * 1.2) <= p + 1e-12


def gamblers(values: npt.NDArray[np.float64], limit: float) -> float:
    """The betting p-value as a story: one gambler after the other, one value after the other."""
    fortunes = [1.0] * significance.BETS
    richest = 1.0
    for x in values:
        for i in range(significance.BETS):
            share = ((i + 1) / significance.BETS) ** 2 * 0.99 / (1 - limit)
            fortunes[i] *= 1 + share * (limit - x)
        richest = max(richest, sum(fortunes) / significance.BETS)
    return 1 / richest


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0, 1), min_size=1, max_size=60), LIMITS)
def test_betting_is_a_mixture_of_gamblers(values: list[float], limit: float) -> None:
    """The vectorised p-value is that of a plain loop."""
    x = np.array(values)
    assert significance.betting(x, limit) == pytest.approx(gamblers(x, limit), rel=1e-9)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), LIMITS, st.data())
def test_betting_rises_with_losses(values: list[float], limit: float, data: st.DataObject) -> None:
    """A larger value anywhere never lowers the p-value, and a larger limit never raises it by much: bets shrink with it."""
    x = np.array(values)
    p = significance.betting(x, limit)
    more = x.copy()
    more[data.draw(st.integers(0, len(x) - 1))] = 1.0
    assert significance.betting(more, limit) >= p - 1e-12
    assert significance.betting(x, limit * 1.2) <= p + 1e-12


def test_betting_at_the_ends() -> None:
    """No values and a limit of 0 prove nothing; a limit of 1 is always kept; any loss may come first without a warning."""
    assert significance.betting([], 0.1) == 1.0
    assert significance.betting([0.0] * 50, 0.0) == 1.0
    assert significance.betting([1.0] * 50, 1.0) == 0.0
    assert significance.betting([1.0] * 5000, 0.1) == 1.0
    assert 0 < significance.betting(np.zeros(5000), 0.1) < 1e-100


def plug_in(values: npt.NDArray[np.float64], limit: float, delta: float) -> float:
    """The published predictable plug-in bets (Waudby-Smith & Ramdas 2024, eq. 26 and 27, capped as in their section 4)."""
    n, fortune, richest = len(values), 1.0, 1.0
    total, squares = 0.5, 0.25
    for t, x in enumerate(values, 1):
        variance = squares / t
        share = min(0.5 / (1 - limit), sqrt(2 * log(1 / delta) / (n * variance)))
        fortune *= 1 + share * (limit - x)
        richest = max(richest, fortune)
        total += x
        squares += (x - total / (t + 1)) ** 2
    return 1 / richest


DRAWS = 2000


def below(p_values: npt.NDArray[np.float64], delta: float) -> None:
    """At most a share delta of the p-values under the null lies at or below delta, by a binomial test at 1e-3."""
    from scipy.stats import binomtest

    hits = int((p_values <= delta).sum())
    assert binomtest(hits, len(p_values), delta, alternative="greater").pvalue > 1e-3, hits


@pytest.mark.parametrize("shape", ["bernoulli", "beta", "rare"])
def test_betting_keeps_its_level(shape: str) -> None:
    """2,000 data sets whose mean is the limit itself: by Ville's inequality a share of at most delta has p <= delta."""
    rng = np.random.default_rng(11)
    limit, n = 0.1, 100
    x = {
        "bernoulli": lambda: (rng.random((DRAWS, n)) < limit).astype(float),
        "beta": lambda: rng.beta(0.3, 2.7, (DRAWS, n)),
        "rare": lambda: 0.5 * (rng.random((DRAWS, n)) < 2 * limit),
    }[shape]()
    p = np.array([significance.betting(row, limit) for row in x])
    for delta in (0.05, 0.1, 0.3):
        below(p, delta)
    if shape == "bernoulli":  # not by never rejecting
        assert (p <= 0.1).mean() > 0.1 / 3


def test_betting_is_not_much_weaker_than_the_plug_in() -> None:
    """Against the published bets: log p is at most 10 % and log 3 worse on every data set, and both keep their level."""
    rng = np.random.default_rng(5)
    for n in (100, 300, 1000):
        for mean in (0.005, 0.02, 0.05):
            for x in ((rng.random(n) < mean).astype(float), rng.beta(5 * mean, 5 * (1 - mean), n)):
                for limit in (0.05, 0.1):
                    ours, theirs = significance.betting(x, limit), plug_in(x, limit, 0.1)
                    assert -log(ours) >= -0.9 * log(theirs) - log(3)
    null = (rng.random((DRAWS, 100)) < 0.1).astype(float)
    below(np.array([plug_in(row, 0.1, 0.1) for row in null[:500]]), 0.1)


@given(st.integers(1, 1000), st.floats(0, 1), LIMITS)
def test_hoeffding_bentkus_is_its_formula(n: int, share: float, limit: float) -> None:
    """The smaller of exp(-n kl(mean, limit)) and e times the binomial tail, by scipy."""
    from scipy.stats import binom

    losses = round(share * n)
    mean = losses / n
    if mean >= limit:
        assert significance.hoeffding_bentkus(mean, n, limit) == 1.0
        return
    kl = (mean * log(mean / limit) if mean else 0.0) + (1 - mean) * log((1 - mean) / (1 - limit))
    want = min(1.0, exp(-n * kl), e * binom.cdf(ceil(n * mean), n, limit))
    assert significance.hoeffding_bentkus(mean, n, limit) == pytest.approx(want, rel=1e-7, abs=1e-12)
    assert significance.hoeffding_bentkus(mean, n, limit) >= significance.binomial(losses, n, limit) - 1e-9


@given(st.integers(1, 500), st.floats(0, 1), st.floats(0, 1), LIMITS)
def test_hoeffding_bentkus_rises_with_the_mean(n: int, one: float, other: float, limit: float) -> None:
    """A larger mean never lowers the p-value, and a larger limit never raises it."""
    low, high = sorted((one, other))
    assert significance.hoeffding_bentkus(low, n, limit) <= significance.hoeffding_bentkus(high, n, limit) + 1e-12
    assert significance.hoeffding_bentkus(low, n, limit * 1.2) <= significance.hoeffding_bentkus(low, n, limit) + 1e-12
    assert significance.hoeffding_bentkus(0.0, 0, limit) == 1.0
