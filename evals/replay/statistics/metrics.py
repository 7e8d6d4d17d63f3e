"""Measures of probabilities: proper scores, calibration error, ranking. Every interval is a bootstrap over rows.

``p`` (n,) are probabilities of being correct in [0, 1], ``correct`` (n,) is 0 or 1, or a fractional quality between. A
metric that is undefined on its input (no rows; AUROC with one class) is None.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from evals.common.intervals import wilson

Array: TypeAlias = NDArray[np.float64]
Metric: TypeAlias = Callable[[Array, Array], float | None]

MOST_BINS, LEAST_ROWS = 10, 10
_EPS = float(np.finfo(np.float64).eps)
# Keeps the draws apart from those of rows simulated with the same seed.
_STREAM = 2


def losses(p: Array, correct: Array) -> Array:
    """Log-loss of each row in nats, (n,); p is clipped to [2.2e-16, 1 - 2.2e-16], so that one row cannot be infinite."""
    q = np.clip(p, _EPS, 1.0 - _EPS)
    return np.asarray(-(correct * np.log(q) + (1.0 - correct) * np.log1p(-q)))


def log_loss(p: Array, correct: Array) -> float | None:
    """Mean of `losses`."""
    return float(losses(p, correct).mean()) if len(p) else None


def brier(p: Array, correct: Array) -> float | None:
    """Mean squared difference of p and correct (Brier 1950)."""
    return float(np.mean((p - correct) ** 2)) if len(p) else None


def auroc(p: Array, correct: Array) -> float | None:
    """P(a correct row has the higher p than a wrong one), ties counting half (Hanley & McNeil 1982); 0.5 ranks nothing.

    A fractional row counts as ``correct`` of a correct row and the rest of a wrong one. None where one class is empty.
    """
    n, good = len(p), float(correct.sum())
    bad = n - good
    if good <= 0.0 or bad <= 0.0:
        return None
    order = np.argsort(p, kind="stable")
    right = np.add.reduceat(correct[order], starts := _tie_starts(p[order]))
    wrong = np.diff(starts, append=n) - right
    below = np.cumsum(wrong) - wrong
    return float(np.sum(right * (below + 0.5 * wrong)) / (good * bad))


def aurc(p: Array, correct: Array) -> float | None:
    """Area under the risk-coverage curve: the share of wrong answers among the k highest p, averaged over k = 1..n.

    Among equal p, the mean over their orders is taken (Geifman et al. 2019). Lower is better.
    """
    n = len(p)
    if not n:
        return None
    order = np.argsort(-p, kind="stable")
    sizes = np.diff(starts := _tie_starts(p[order]), append=n)
    risk = np.repeat(np.add.reduceat(1.0 - correct[order], starts) / sizes, sizes)
    return float(np.mean(np.cumsum(risk) / np.arange(1, n + 1)))


def ece(p: Array, correct: Array) -> float | None:
    """Expected calibration error: |mean p - mean correct| of each bin of `edges`, weighted by its rows.

    It is never 0 on finite data: perfect p give about 0.8 sqrt(p (1 - p) / m) at m rows a bin; see `ece_by_chance`.
    """
    n = len(p)
    if not n:
        return None
    order = np.argsort(p, kind="stable")
    starts = edges(p[order])[:-1]
    return float(np.abs(np.add.reduceat((p - correct)[order], starts)).sum() / n)


def ece_by_chance(p: Array, seed: int, rounds: int = 200) -> float | None:
    """The mean `ece` of these p on 0/1 outcomes if they were perfect: the floor that a measured ECE is to be read by."""
    if not len(p):
        return None
    ordered = np.sort(p)
    outcomes = np.random.default_rng((seed, _STREAM)).random((rounds, len(p))) < ordered
    gaps = np.add.reduceat(ordered - outcomes, edges(ordered)[:-1], axis=1)
    return float(np.abs(gaps).sum(axis=1).mean() / len(p))


def edges(ordered: Array, bins: int = MOST_BINS) -> list[int]:
    """Bounds of equal-mass bins over ascending p: bin i is rows [edges[i], edges[i + 1]).

    At most ``bins``, and few enough that each has 10 rows or more (one bin where there are fewer rows). Equal p are never
    parted, because their order is arbitrary: a bin grows until its run of equal values ends.
    """
    n = len(ordered)
    size = n / max(1, min(bins, n // LEAST_ROWS))
    ends = np.append(_tie_starts(ordered)[1:], n)
    bounds, mark = [0], 0.0
    while bounds[-1] < n:
        # Fractions add up, so that sizes stay within one row of each other; a run that went further restarts the count.
        mark = max(mark, float(bounds[-1])) + size
        at = int(np.searchsorted(ends, int(mark + 1e-6)))
        bounds.append(int(ends[min(at, len(ends) - 1)]))
    # After long runs the last bin may be a small remainder: its rows go to the bin before.
    if len(bounds) > 2 and n - bounds[-2] < max(LEAST_ROWS, size / 2):
        del bounds[-2]
    return bounds


def reliability(p: Array, correct: Array, bins: int = MOST_BINS) -> list[dict[str, float]]:
    """The reliability diagram, one entry a bin of `edges`, by ascending p.

    ``confidence`` is the bin's mean p, ``correct`` its mean correct, ``n`` its rows, ``low`` and ``high`` the 95 % Wilson
    interval of ``correct`` (1927), which is wider than needed where quality is fractional.
    """
    order = np.argsort(p, kind="stable")
    bounds = edges(p[order], bins)
    entries = []
    for first, last in pairwise(bounds):
        rows = order[first:last]
        share = float(correct[rows].mean())
        low, high = wilson(share, len(rows))
        entries.append({"confidence": float(p[rows].mean()), "correct": share, "n": len(rows), "low": low, "high": high})
    return entries


def bootstrap(metric: Metric, p: Array, correct: Array, seed: int, rounds: int = 500) -> tuple[float, float, float] | None:
    """(value, low, high): the metric and its 95 % bootstrap interval over rows; None where the metric is.

    The percentiles are shifted by the bootstrap's own estimate of the bias (mean of the rounds less the value): resampling
    adds noise, which a calibration error would count as error. Rounds in which the metric is undefined are left out.
    """
    value = metric(p, correct)
    if value is None:
        return None
    n = len(p)
    # Ascending rows, because the stable sort inside the metrics is then a single pass.
    order = np.argsort(p, kind="stable")
    p, correct = p[order], correct[order]
    draws = np.sort(np.random.default_rng((seed, _STREAM)).integers(n, size=(rounds, n)), axis=1)
    values = [v for rows in draws if (v := metric(p[rows], correct[rows])) is not None]
    low, high = np.quantile(values, [0.025, 0.975]) - (np.mean(values) - value) if values else (value, value)
    return value, max(0.0, min(value, float(low))), max(value, float(high))


METRICS: dict[str, Metric] = {"brier": brier, "ece": ece, "auroc": auroc, "aurc": aurc, "log_loss": log_loss}


def summary(p: Array, correct: Array, seed: int) -> dict[str, list[float] | None]:
    """Every metric as [value, low, high] by its name, None where undefined. ``log_loss`` is in nats.

    Raises ValueError where p or correct are not (n,) numbers in [0, 1].
    """
    for name, values in (("p", p), ("correct", correct)):
        if values.shape != (len(p),) or not np.all((values >= 0.0) & (values <= 1.0)):
            raise ValueError(f"{name}: expected {len(p)} numbers in [0, 1]")
    intervals = {name: bootstrap(metric, p, correct, seed) for name, metric in METRICS.items()}
    return {name: None if triple is None else list(triple) for name, triple in intervals.items()}


def _tie_starts(ordered: Array) -> NDArray[np.intp]:
    """The first row of each run of equal values."""
    return np.concatenate(([0], np.flatnonzero(np.diff(ordered)) + 1)) if len(ordered) else np.zeros(0, np.intp)
