"""p-values for one promise about a mean, each valid at its sample size without an approximation.

Every function returns a p-value of the hypothesis "the promise is broken": a small one is evidence that it is kept.

- ``binomial``: 0/1 losses. Exact.
- ``paired``: differences in {-1, 0, 1} of two 0/1 qualities. The exact unconditional test with the score statistic of Tango
  (1998) and Hsueh, Liu & Chen (2001); the share of discordant pairs is a nuisance parameter, over a confidence set of which
  the p-value is maximised (Berger & Boos 1994). Much sharper than a concentration bound, because it uses that the
  differences are ternary.
- ``betting``: any values in [0, 1]. A mixture of test martingales (Waudby-Smith & Ramdas 2024), by Ville's inequality.
- ``hoeffding_bentkus``: any values in [0, 1] (Bates et al. 2021); here to compare with.
"""

from collections.abc import Callable
from functools import lru_cache
from math import ceil, e, exp, inf, log, log1p, sqrt

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

# Spent on the confidence set of the discordant share; the p-value is raised by as much (Berger & Boos 1994).
NUISANCE_LEVEL = 0.001
NUISANCE_POINTS = 64
BETS = 40
# Results of the exact tests that are kept: tuning, a menu and its bounds test the same few counts again and again.
CACHED_TESTS = 16_384
# Above this many rows the exact paired test costs seconds, and the betting test is as good as any.
PAIRED_LIMIT = 50_000


@lru_cache(maxsize=8)
def _log_factorials(n: int) -> Array:
    """log k! for k = 0..n."""
    table = np.zeros(n + 1)
    np.cumsum(np.log(np.arange(1, n + 1, dtype=np.float64)), out=table[1:])
    return table


def log_pmf(k: npt.ArrayLike, n: npt.ArrayLike, p: float) -> Array:
    """log P(Binomial(n, p) = k), elementwise over whole numbers 0 <= k <= n, for 0 < p < 1."""
    ks, ns = np.asarray(k, dtype=np.int64), np.asarray(n, dtype=np.int64)
    # Tables are shared by rounding their length up; each value is a sum from the left, whatever the length.
    table = _log_factorials(1 << int(ns.max(initial=0)).bit_length())
    return np.asarray(table[ns] - table[ks] - table[ns - ks] + ks * log(p) + (ns - ks) * log1p(-p), dtype=np.float64)


def _log_choose(n: int, k: Counts) -> Array:
    """The logarithms of the binomial coefficients of one n."""
    table = _log_factorials(1 << n.bit_length())
    return np.asarray(table[n] - table[k] - table[n - k], dtype=np.float64)


def binomial_cdf(k: int, n: int, p: float) -> float:
    """P(Binomial(n, p) <= k)."""
    return _cdf_of_share(k, n)(p)


def _cdf_of_share(k: int, n: int) -> Callable[[float], float]:
    """P(Binomial(n, p) <= k) as a function of p: what does not depend on p is computed once."""
    if k < 0:
        return lambda p: 0.0
    if k >= n:
        return lambda p: 1.0
    ks = np.arange(k + 1)
    log_choose, rest = _log_choose(n, ks), n - ks

    def cdf(p: float) -> float:
        if not 0.0 < p < 1.0:
            return float(p <= 0.0)
        return min(1.0, float(np.exp(log_choose + ks * log(p) + rest * log1p(-p)).sum()))

    return cdf


def binomial(losses: int, n: int, max_risk: float) -> float:
    """p-value of "the risk exceeds ``max_risk``" after ``losses`` of ``n`` trials: P(Binomial(n, max_risk) <= losses)."""
    return binomial_cdf(losses, n, max_risk) if n else 1.0


@lru_cache(maxsize=CACHED_TESTS)
def clopper_pearson(k: int, n: int, level: float) -> tuple[float, float]:
    """A confidence interval of a share at 1 - ``level``, half of it on either side (Clopper & Pearson 1934)."""
    if n == 0:
        return 0.0, 1.0
    below, up_to = _cdf_of_share(k - 1, n), _cdf_of_share(k, n)
    low = 0.0 if k == 0 else _bisect(lambda p: 1.0 - below(p) >= level / 2)
    high = 1.0 if k == n else 1.0 - _bisect(lambda p: up_to(1.0 - p) >= level / 2)
    return low, high


def _bisect(holds: Callable[[float], bool]) -> float:
    """The largest p in [0, 1], to 1e-9 and from below, at which the condition does not hold yet."""
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return low


def tango(worse: npt.ArrayLike, better: npt.ArrayLike, n: int, max_loss: float) -> Array:
    """The score statistic of "worse share - better share >= max_loss" (Tango 1998); large where the promise is kept."""
    a, b = np.asarray(worse, dtype=np.float64), np.asarray(better, dtype=np.float64)
    linear = (a + b) * (1.0 - max_loss) - 2.0 * max_loss * (n - a)
    root = np.sqrt(linear**2 + 8.0 * n * b * max_loss * (1.0 - max_loss))
    better_share = np.maximum((linear + root) / (4.0 * n), 0.0)  # the maximum likelihood where the loss is max_loss
    variance = n * (2.0 * better_share + max_loss - max_loss**2)
    return np.asarray((n * max_loss - (a - b)) / np.sqrt(np.maximum(variance, 1e-12)), dtype=np.float64)


@lru_cache(maxsize=CACHED_TESTS)
def paired(worse: int, better: int, n: int, max_loss: float) -> float:
    """p-value of "the mean difference is at least ``max_loss``" for paired 0/1 qualities.

    ``worse`` of ``n`` pairs lost (premium right, cascade wrong), ``better`` gained. Needs 0 < max_loss < 1 (a loss of 0 is
    tested as 1e-6). Exact but for the maximum over the nuisance parameter being taken on a fine grid.
    """
    if n == 0 or max_loss >= 1.0:
        return 1.0 if n == 0 else 0.0
    loss = max(max_loss, 1e-6)
    observed = float(tango(worse, better, n, loss))
    low, high = clopper_pearson(worse + better, n, NUISANCE_LEVEL)
    if high <= loss:  # even if every discordant pair were a loss there would be too few of them
        return NUISANCE_LEVEL
    shares = [min(max(float(s), 1e-12), 1.0 - 1e-12) for s in np.linspace(max(low, loss), high, NUISANCE_POINTS)]
    windows = [_window(share, n) for share in shares]
    # The rejection region depends on no share, so it is searched once, over the union of the windows.
    first, last = min(start for start, _ in windows), max(end for _, end in windows)
    counts = np.arange(first, last + 1)
    region, log_choose = _largest_worse(counts, n, loss, observed), _log_choose(n, counts)
    # The tail at every share by a recursion, then term by term where it may be the largest.
    each, (starts, ends) = np.array(shares)[:, None], np.array(windows).T[:, :, None]
    weights = np.exp(log_choose + counts * np.log(each) + (n - counts) * np.log1p(-each))
    weights *= (counts >= starts) & (counts <= ends)
    rough = _rough_tails(each, loss, counts, weights, region)
    top = float(rough.max())
    if 1.0 - NUISANCE_LEVEL / 2 < top < inf:
        return 1.0
    tails = []
    for i in np.flatnonzero(rough >= top * (1.0 - 1e-7) - 1e-10):
        share, (start, end) = shares[i], windows[i]
        window = slice(start - first, end + 1 - first)
        weight = np.exp(log_choose[window] + counts[window] * log(share) + (n - counts[window]) * log1p(-share))
        tails.append(_tail(share, loss, counts[window], weight, region[window]))
    return min(1.0, max(tails) + NUISANCE_LEVEL)


def _rough_tails(shares: Array, loss: float, counts: Counts, weights: Array, region: Counts) -> Array:
    """What ``_tail`` gives for each of the ``shares``, but for rounding; all infinite where the recursion does not apply.

    P(Binomial(m + 1, p) <= k) follows from P(Binomial(m, p) <= k) by one term, and so does the same for k + 1: a cumulative
    sum of single terms takes the place of a sum for each count. ``shares`` are a column, ``weights`` a row for each.
    """
    limit = np.minimum(region, counts)
    more = np.diff(limit)
    if not np.isin(more, (0, 1)).all():
        return np.full(len(shares), inf)
    p = np.clip((shares + loss) / (2 * shares), 1e-12, 1.0 - 1e-12)
    log_p, log_rest = np.log(p), np.log1p(-p)
    # One more pair at the same limit: the last term's share p leaves. At a limit one higher: the next term's rest comes in.
    k, some = limit[:-1] + more, counts[:-1]
    exists = (k >= 0) & (k <= some)
    k = np.where(exists, k, 0)
    table = _log_factorials(1 << int(counts[-1]).bit_length())
    change = np.exp(table[some] - table[k] - table[some - k] + k * log_p + (some - k) * log_rest)
    change *= exists * np.where(more, 1.0 - p, -p)
    ks = np.arange(limit[0] + 1)
    at_first = np.exp(_log_choose(int(counts[0]), ks) + ks * log_p + (counts[0] - ks) * log_rest).sum(axis=1)
    cdf = np.cumsum(np.column_stack([at_first, change]), axis=1)
    return np.asarray((weights * np.minimum(cdf, 1.0)).sum(axis=1) + np.maximum(0.0, 1.0 - weights.sum(axis=1)))


def _window(share: float, n: int) -> tuple[int, int]:
    """The first and last of the counts that hold all but 1e-12 of Binomial(n, share)."""
    reach = 7.5 * sqrt(n * share * (1 - share)) + 20
    return max(0, int(n * share - reach)), min(n, int(n * share + reach))


def _tail(share: float, loss: float, counts: Counts, weight: Array, limit: Counts) -> float:
    """P(statistic >= observed) where a ``share`` of the pairs is discordant and the mean loss is exactly ``loss``.

    ``weight`` holds the probability of each of ``counts`` (the numbers of discordant pairs to sum over), ``limit`` the most
    losses that count.
    """
    worse_share = min(max((share + loss) / (2 * share), 1e-12), 1.0 - 1e-12)
    outside = max(0.0, 1.0 - float(weight.sum()))
    return float((weight * _cdf_rows(limit, counts, worse_share)).sum()) + outside


def _largest_worse(counts: Counts, n: int, loss: float, observed: float) -> Counts:
    """For each number of discordant pairs the largest number of losses with a statistic as large as observed; -1: none.

    The statistic falls as losses replace gains, so that bisection finds it.
    """
    low, high = np.full(len(counts), -1, dtype=np.int64), counts.copy()
    for _ in range(int(counts.max(initial=0)).bit_length() + 1):
        middle = (low + high + 1) // 2
        holds = (middle >= 0) & (tango(middle, counts - middle, n, loss) >= observed - 1e-9)
        low, high = np.where(holds, middle, low), np.where(holds, high, middle - 1)
        high = np.maximum(high, low)
    return low


def _cdf_rows(limit: Counts, counts: Counts, p: float) -> Array:
    """P(Binomial(counts[i], p) <= limit[i]) for every i, by summing the terms that matter."""
    most = int(counts.max(initial=0))
    reach = int(8.5 * sqrt(float(most) * p * (1 - p)) + 25)
    start = np.maximum(0, np.floor(counts * p).astype(np.int64) - reach)
    last = np.minimum(limit, counts)
    width = int(max(0, (last - start).max(initial=0))) + 1
    ks = start[:, None] + np.arange(min(width, 2 * reach + 1))
    outside = ks > last[:, None]
    ks[outside] = 0
    # The logarithm of log_pmf, without its conversions: this is where the exact test spends its time.
    table, rest = _log_factorials(1 << most.bit_length()), counts[:, None] - ks
    terms = table[counts][:, None] - table[ks]
    terms -= table[rest]
    terms += ks * log(p)
    terms += rest * log1p(-p)
    np.exp(terms, out=terms)
    terms[outside] = 0.0
    # Less than 1e-12 is below the window; above it nothing is left to add.
    return np.asarray(np.minimum(terms.sum(axis=1), 1.0), dtype=np.float64)


def betting(values: npt.ArrayLike, limit: float) -> float:
    """p-value of "the mean of ``values`` in [0, 1] is at least ``limit``", for 0 < limit < 1.

    ``BETS`` gamblers bet fixed shares of their capital that the next value lies below the limit; were the mean at or above
    it, their mean capital would be a supermartingale, so that it ever exceeds 1/p with probability at most p. Mixing over
    the shares comes near the best share in hindsight, and needs no estimate. The values' order counts, a little: it must not
    depend on them.
    """
    x = np.asarray(values, dtype=np.float64)
    if len(x) == 0 or limit <= 0.0:
        return 1.0
    if limit >= 1.0:
        return 0.0
    # Shares are spaced so that small ones, which win where the margin is small, are many.
    shares = (np.arange(1, BETS + 1) / BETS) ** 2 * (0.99 / (1.0 - limit))
    capital = np.cumsum(np.log1p(shares[:, None] * (limit - x[None, :])), axis=1)
    top = capital.max(axis=0)
    mixed = top + np.log(np.exp(capital - top).mean(axis=0))
    return float(min(1.0, exp(-max(0.0, float(mixed.max())))))


def hoeffding_bentkus(mean: float, n: int, limit: float) -> float:
    """p-value of "the mean is at least ``limit``" for values in [0, 1] with the given empirical mean (Bates et al. 2021)."""
    if n == 0 or mean >= limit:
        return 1.0
    kl_losses = mean * log(mean / limit) if mean > 0 else 0.0
    kl_rest = (1 - mean) * log((1 - mean) / (1 - limit)) if limit < 1 else inf
    return min(1.0, exp(-n * (kl_losses + kl_rest)), e * binomial_cdf(ceil(n * mean), n, limit))
