"""Measures of probabilities: proper scores, calibration error, ranking. Every interval is a bootstrap over rows.

``p`` (n,) are probabilities of being correct in [0, 1], ``correct`` (n,) is 0 or 1, or a fractional quality between. A
metric that is undefined on its input (no rows; AUROC with one class) is None.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from evals.common.intervals import wilson

Array: TypeAlias = NDArray[np.float64]
Rows: TypeAlias = NDArray[np.intp]
Metric: TypeAlias = Callable[[Array, Array], float | None]

MOST_BINS, LEAST_ROWS = 10, 10
_EPS = float(np.finfo(np.float64).eps)
ROUNDS = 500
_FEW_ROWS = 1_000  # of a bootstrap whose rounds are computed together: larger arrays leave the processor's cache
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


def bootstrap(
    metric: Metric, p: Array, correct: Array, seed: int, rounds: int = ROUNDS
) -> tuple[float, float, float] | None:
    """(value, low, high): the metric and its 95 % bootstrap interval over rows; None where the metric is.

    The percentiles are shifted by the bootstrap's own estimate of the bias (mean of the rounds less the value): resampling
    adds noise, which a calibration error would count as error. Rounds in which the metric is undefined are left out.

    Args:
        metric: One of `METRICS`.
        p: (n,), probabilities of being correct.
        correct: (n,), in [0, 1].
        seed: Of the draws.
        rounds: How often n rows are drawn.
    """
    return _intervals({"": metric}, p, correct, seed, rounds)[""]


def _intervals(
    of: Mapping[str, Metric], p: Array, correct: Array, seed: int, rounds: int
) -> dict[str, tuple[float, float, float] | None]:
    """The bootstrap interval of each metric, all from the same draws."""
    n = len(p)
    values = {name: metric(p, correct) for name, metric in of.items()}
    defined = {name: value for name, value in values.items() if value is not None}
    if not defined:
        return dict.fromkeys(of)
    order = np.argsort(p, kind="stable")
    p, correct = p[order], correct[order]
    # Ascending rows, because the stable sort inside the metrics is then a single pass.
    draws = np.sort(np.random.default_rng((seed, _STREAM)).integers(n, size=(rounds, n)), axis=1)
    resampled: dict[str, list[float]] = {name: [] for name in defined}
    if n > _FEW_ROWS:
        for rows in draws:
            p_drawn, correct_drawn = p[rows], correct[rows]
            for name in defined:
                if (value := of[name](p_drawn, correct_drawn)) is not None:
                    resampled[name].append(value)
    else:
        together = ResampledRows(p, correct, draws)
        for name in defined:
            resampled[name] += OF_ROUNDS[of[name]](together).tolist()
    intervals: dict[str, tuple[float, float, float] | None] = dict.fromkeys(of)
    for name, value in defined.items():
        of_metric = resampled[name]
        low, high = np.quantile(of_metric, [0.025, 0.975]) - (np.mean(of_metric) - value) if of_metric else (value, value)
        intervals[name] = value, max(0.0, min(value, float(low))), max(value, float(high))
    return intervals


class ResampledRows:
    """Rounds of a bootstrap of few rows, whose metrics are computed together: many times as fast as one by one.

    Args:
        p: (n,), ascending.
        correct: (n,).
        draws: (rounds, n), row numbers, ascending in every round.
    """

    def __init__(self, p: Array, correct: Array, draws: Rows) -> None:
        self.p, self.correct, self.draws = p, correct, draws
        rounds, self.n = draws.shape
        self.value: Rows = np.cumsum(np.append(0, np.diff(p) != 0))[draws]
        """(rounds, n): which of the distinct p each drawn row has."""
        self._shape = rounds, int(self.value.max()) + 1
        self._cells = (self.value + self._shape[1] * np.arange(rounds)[:, None]).ravel()
        self.drawn_correct: Array = correct[draws]
        self.sizes = self._sums(None)
        """(rounds, distinct p): how many rows of each were drawn."""
        self.right = self._sums(self.drawn_correct)
        """(rounds, distinct p): how many of them are right."""

    def _sums(self, weights: Array | None) -> Array:
        flat = None if weights is None else weights.ravel()
        sums = np.bincount(self._cells, flat, self._shape[0] * self._shape[1])
        return np.asarray(sums.reshape(self._shape), np.float64)


def _brier_of_rounds(rows: ResampledRows) -> Array:
    return np.asarray(((rows.p - rows.correct) ** 2)[rows.draws].mean(axis=1))


def _log_loss_of_rounds(rows: ResampledRows) -> Array:
    return np.asarray(losses(rows.p, rows.correct)[rows.draws].mean(axis=1))


def _auroc_of_rounds(rows: ResampledRows) -> Array:
    right, wrong = rows.right, rows.sizes - rows.right
    below = np.cumsum(wrong, axis=1) - wrong
    good = rows.drawn_correct.sum(axis=1)
    bad = rows.n - good
    defined = (good > 0.0) & (bad > 0.0)
    better = np.sum(right * (below + 0.5 * wrong), axis=1)
    return np.asarray(better[defined] / (good * bad)[defined])


def _aurc_of_rounds(rows: ResampledRows) -> Array:
    wrong = rows.sizes - rows.right
    risk = np.divide(wrong, rows.sizes, out=np.zeros_like(wrong), where=rows.sizes > 0.0)
    by_rank = np.ascontiguousarray(np.take_along_axis(risk, rows.value, axis=1)[:, ::-1])
    return np.asarray(np.mean(np.cumsum(by_rank, axis=1) / np.arange(1, rows.n + 1), axis=1))


def _ece_of_rounds(rows: ResampledRows) -> Array:
    n, ends = rows.n, np.cumsum(rows.sizes, axis=1).astype(np.intp)
    # The loop of `edges`, one bin of every round at a time.
    size = n / max(1, min(MOST_BINS, n // LEAST_ROWS))
    bound, mark = np.zeros(len(ends), np.intp), np.zeros(len(ends))
    bounds = [bound]
    while (bound < n).any():
        mark = np.maximum(mark, bound) + size
        target = (mark + 1e-6).astype(np.intp)
        bound = np.where(ends >= target[:, None], ends, n).min(axis=1)
        bounds.append(bound)
    table = np.stack(bounds, axis=1)
    n_bins = np.sum(table < n, axis=1)
    last = table[np.arange(len(table)), n_bins - 1]
    n_bins -= (n_bins > 1) & (n - last < max(LEAST_ROWS, size / 2))
    gaps, sums = (rows.p - rows.correct)[rows.draws], np.empty(len(ends))
    for count in np.unique(n_bins):
        chosen = np.flatnonzero(n_bins == count)
        starts = table[chosen, :count] + n * np.arange(len(chosen))[:, None]
        bins = np.add.reduceat(gaps[chosen].ravel(), starts.ravel()).reshape(len(chosen), count)
        sums[chosen] = np.abs(bins).sum(axis=1)
    return np.asarray(sums / n)


OF_ROUNDS: dict[Metric, Callable[[ResampledRows], Array]] = {
    brier: _brier_of_rounds,
    ece: _ece_of_rounds,
    auroc: _auroc_of_rounds,
    aurc: _aurc_of_rounds,
    log_loss: _log_loss_of_rounds,
}
METRICS: dict[str, Metric] = {"brier": brier, "ece": ece, "auroc": auroc, "aurc": aurc, "log_loss": log_loss}


def summary(p: Array, correct: Array, seed: int, rounds: int = ROUNDS) -> dict[str, list[float] | None]:
    """Every metric as [value, low, high] by its name, None where undefined. ``log_loss`` is in nats.

    Raises ValueError where p or correct are not (n,) numbers in [0, 1].
    """
    for name, values in (("p", p), ("correct", correct)):
        if values.shape != (len(p),) or not np.all((values >= 0.0) & (values <= 1.0)):
            raise ValueError(f"{name}: expected {len(p)} numbers in [0, 1]")
    intervals = _intervals(METRICS, p, correct, seed, rounds)
    return {name: None if triple is None else list(triple) for name, triple in intervals.items()}


def _tie_starts(ordered: Array) -> NDArray[np.intp]:
    """The first row of each run of equal values."""
    return np.concatenate(([0], np.flatnonzero(np.diff(ordered)) + 1)) if len(ordered) else np.zeros(0, np.intp)
