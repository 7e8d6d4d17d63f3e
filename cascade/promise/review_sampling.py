"""Which runs people should label, so that few labels say much about all runs: by chance, the uncertain ones more often.

A label is worth most where its outcome is least certain. So each run that waits is drawn with a probability in proportion to
the standard deviation of its label, given the grader's verdict and the confidence (Neyman 1934; active inference, Zrnic &
Candes 2024). Two logistic regressions, of "premium was better" and of "the answer returned was better", predict it from the
labels so far; few labels move them little from what a calibrated confidence and a grader that is often right would say.
They decide the widths of intervals alone: estimates weigh each label by the recorded probability.
"""

from collections.abc import Sequence
from math import exp, log, sqrt
from operator import mul
from statistics import fmean, pstdev
from typing import NamedTuple

LEAST_LABELS = 20
"""With fewer labels they are not fitted: verdict and confidence are believed."""
FLOOR = 0.2
"""The smallest standard deviation of a label, relative to the mean one: no run is left out."""
PRIOR_LABELS = 10.0  # as many count for what is believed before any is seen
# Of the intercept, the verdict in standard deviations, its square, and the logit of the confidence. Before any label, the
# odds that premium was better are those that a calibrated confidence leaves, times e for each deviation of the verdict.
RIDGES = (0.0, 1.0, 0.3, 3.0)
BETTER, WORSE = (0.0, 1.0, 0.0, -1.0), (0.0, -1.0, 0.0, 0.0)
_CLIP = 1e-3
_STEPS = 12

Row = tuple[float, ...]


class ReviewCandidate(NamedTuple):
    """What is known of a run before people label it.

    Attributes:
        verdict: The grader's loss, in [-1, 1]; None: it could not decide.
        confidence: That of the answer returned; None: unknown.
        weight: How many runs it stands for: 1 / the probability with which it was sampled.
    """

    verdict: float | None
    confidence: float | None
    weight: float = 1.0


def draw_sizes(candidates: Sequence[ReviewCandidate], labelled: Sequence[tuple[ReviewCandidate, float]]) -> list[float]:
    """How likely each candidate is to be drawn next, relative to the others.

    Args:
        candidates: The runs that wait.
        labelled: Runs with their labels: premium's quality less that of the answer returned, in [-1, 1].

    Returns:
        (n,), with mean 1: the probability of each is its size / n.
    """
    if not candidates:
        return []
    # The scale of whatever waits and was labelled: labels change it little.
    scale = _Scale.of([*candidates, *(one for one, _ in labelled)])
    rows = [scale.row(one) for one in candidates]
    spreads = [_spread(_sigmoid(row[1] - row[3] - scale.logit), 0.0) for row in rows]
    if len(labelled) >= LEAST_LABELS:
        known = [scale.row(one) for one, _ in labelled]
        better = fit_logistic(known, [max(loss, 0.0) for _, loss in labelled], RIDGES, BETTER)
        worse = fit_logistic(known, [max(-loss, 0.0) for _, loss in labelled], RIDGES, WORSE)
        fitted = [_spread(_probability(row, better), _probability(row, worse)) for row in rows]
        share = PRIOR_LABELS / (PRIOR_LABELS + len(labelled))
        part = share * fmean(fitted) / fmean(spreads)
        spreads = [(1.0 - share) * new + part * old for new, old in zip(fitted, spreads, strict=True)]
    total = sum(one.weight for one in candidates)
    least = FLOOR * sum(one.weight * spread for one, spread in zip(candidates, spreads, strict=True)) / total
    sizes = [one.weight * max(spread, least) for one, spread in zip(candidates, spreads, strict=True)]
    mean = fmean(sizes)
    return [size / mean for size in sizes]


class _Scale(NamedTuple):
    """The mean and the standard deviation of verdicts, and the mean logit of confidences."""

    mean: float
    deviation: float
    logit: float

    @classmethod
    def of(cls, candidates: Sequence[ReviewCandidate]) -> "_Scale":
        verdicts = [one.verdict for one in candidates if one.verdict is not None]
        logits = [_logit(one.confidence) for one in candidates if one.confidence is not None]
        deviation = pstdev(verdicts) if verdicts else 0.0
        return cls(fmean(verdicts) if verdicts else 0.0, deviation or 1.0, fmean(logits) if logits else 0.0)

    def row(self, one: ReviewCandidate) -> Row:
        """The intercept, the verdict, its square, and the logit of the confidence; what is unknown counts as the mean."""
        verdict = 0.0 if one.verdict is None else (one.verdict - self.mean) / self.deviation
        logit = 0.0 if one.confidence is None else _logit(one.confidence) - self.logit
        return 1.0, verdict, verdict * verdict - 1.0, logit


def fit_logistic(rows: Sequence[Row], targets: Sequence[float], ridges: Sequence[float], centre: Row | None = None) -> Row:
    """The coefficients of a ridge logistic regression, by Newton steps that are halved where they lead uphill.

    Args:
        rows: (n, d), the intercept first.
        targets: (n,), in [0, 1].
        ridges: (d,): the weight of each coefficient's squared distance from its centre, halved, in the objective.
        centre: (d,). Default: zeros.
    """
    size = len(ridges)
    middle = (0.0,) * size if centre is None else centre
    mean = min(max(fmean(targets), 0.5 / len(rows)), 1.0 - 0.5 / len(rows))
    at = [log(mean / (1.0 - mean)), *[0.0] * (size - 1)]
    prior = list(zip(ridges, middle, strict=True))
    value = _objective(rows, targets, prior, at)
    for _ in range(_STEPS):
        gradient = [ridge * (b - m) for (ridge, m), b in zip(prior, at, strict=True)]
        hessian = [[ridge + 1e-6 if i == j else 0.0 for j in range(size)] for i, ridge in enumerate(ridges)]
        for row, target in zip(rows, targets, strict=True):
            p = _probability(row, at)
            curvature = p * (1.0 - p)
            for i, x in enumerate(row):
                gradient[i] += (p - target) * x
                for j in range(i + 1):
                    hessian[i][j] += curvature * x * row[j]
        step = _solved([[hessian[max(i, j)][min(i, j)] for j in range(size)] for i in range(size)], gradient)
        scale = 1.0
        while scale > 1e-3:
            tried = [b - scale * s for b, s in zip(at, step, strict=True)]
            now = _objective(rows, targets, prior, tried)
            if now <= value:
                at, value = tried, now
                break
            scale /= 2.0
        if scale * max(map(abs, step)) < 1e-4 or scale <= 1e-3:
            break
    return tuple(at)


def _objective(rows: Sequence[Row], targets: Sequence[float], prior: Sequence[Row], at: Sequence[float]) -> float:
    total = 0.5 * sum(ridge * (b - m) ** 2 for (ridge, m), b in zip(prior, at, strict=True))
    for row, target in zip(rows, targets, strict=True):
        z = sum(map(mul, row, at))
        total += max(z, 0.0) + log(1.0 + exp(-abs(z))) - target * z
    return total


def _solved(matrix: list[list[float]], right: Sequence[float]) -> list[float]:
    """The solution of a small symmetric positive definite system, by elimination."""
    size = len(right)
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for i in range(size):
        for j in range(i + 1, size):
            factor = rows[j][i] / rows[i][i]
            rows[j] = [a - factor * b for a, b in zip(rows[j], rows[i], strict=True)]
    out = [0.0] * size
    for i in reversed(range(size)):
        out[i] = (rows[i][size] - sum(rows[i][j] * out[j] for j in range(i + 1, size))) / rows[i][i]
    return out


def _spread(better: float, worse: float) -> float:
    """The standard deviation of a label that is 1, -1 or 0 with these probabilities (0 with what is left)."""
    return sqrt(max(better + worse - (better - worse) ** 2, 1e-6))


def _probability(row: Sequence[float], coefficients: Sequence[float]) -> float:
    return _sigmoid(sum(map(mul, row, coefficients)))


def _sigmoid(z: float) -> float:
    return 1.0 / (1.0 + exp(-z)) if z >= 0.0 else exp(z) / (1.0 + exp(z))


def _logit(p: float) -> float:
    p = min(max(p, _CLIP), 1.0 - _CLIP)
    return log(p / (1.0 - p))
