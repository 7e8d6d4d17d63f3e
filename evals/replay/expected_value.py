"""Cascade routing by expected value (Dekoninck, Baader, Vechev 2024, arXiv 2410.10347), as a baseline, one step ahead.

Before each step every model not asked yet is valued at what it is expected to add to the best answer so far, less lambda
times its cost; the best is asked while that is above 0. What a model adds is predicted by its prompt-only router and, once
there is an answer, by the confidence of the best one. lambda is the only threshold, tested like the others.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .baselines import MOST_PAIRS, Baseline, Columns
from .candidate_tiers import fit_tier
from .router import MOST_ROWS, PromptRouter, probabilities
from .rows.splits import Splits
from .statistics.certify import fixed_sequence
from .statistics.regression import logistic, ridge_logistic

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

LAMBDAS = np.concatenate([[0.0], np.geomspace(1e-3, 1e2, 40)])
"""Points of quality that the mean cost of the premium tier is worth."""


class _Model:
    """One model: for every row its prompt-only router's probability, confidence, quality, cost and latency, each (n,)."""

    def __init__(self, columns: Columns, name: str, rows: Rows, seed: int, *, last: bool) -> None:
        column = columns[name][0]
        tier = fit_tier(column.first_judges(column.n_last) if last else column, rows, seed)
        self.name, self.quality = name, tier.column.quality[:, -1]
        self.cost_usd, self.latency_s = tier.column.cost_usd[:, -1], tier.column.latency_s[:, -1]
        self.confidence = np.where(tier.column.vetoed[:, -1], 1e-6, np.clip(tier.confidence[:, -1], 1e-6, 1 - 1e-6))
        self.prior = np.zeros(0)
        self.mean_usd = float(self.cost_usd[rows].mean())


def _add_priors(models: Sequence[_Model], texts: Sequence[str], rows: Rows, seed: int) -> None:
    """Each model's probability by its prompt-only router, for every row; on ``rows`` it is out-of-fold."""
    routers = PromptRouter.fit_all([texts[i] for i in rows], [m.quality[rows] for m in models], seed)
    priors = np.clip(probabilities(routers, texts), 1e-6, 1 - 1e-6)
    for i, (model, router) in enumerate(zip(models, routers, strict=True)):
        model.prior = priors[:, i].copy()
        if len(rows) <= MOST_ROWS:
            model.prior[rows] = np.clip(router.out_of_fold, 1e-6, 1 - 1e-6)


def _logit(p: Array) -> Array:
    return np.asarray(np.log(p / (1 - p)))


def _gain(best: _Model, other: _Model, rows: Rows) -> Array:
    """(n,): the expected gain in quality if ``other`` is asked as well, where ``best`` has the best answer so far."""
    x = np.column_stack([np.ones(len(best.prior)), _logit(other.prior), _logit(best.confidence)])
    added = np.maximum(other.quality - best.quality, 0.0)
    weights = ridge_logistic(x[rows], added[rows], np.ones((1, len(rows))), np.array([[0.0, 1.0, 1.0]]))
    if weights is None:
        return np.full(len(added), float(added[rows].mean()))
    return np.asarray(logistic(x @ weights[0]))


def _walk(models: Sequence[_Model], gains: Array, worth: float) -> tuple[npt.NDArray[np.int64], Array, Array]:
    """(n,): the model that answers, USD and seconds, where one USD is worth ``worth`` points of quality."""
    n, k = len(models[0].prior), len(models)
    prices = worth * np.array([m.mean_usd for m in models])
    every = np.arange(n)
    best = np.argmax(np.stack([m.prior for m in models], axis=1) - prices, axis=1)
    used = np.zeros((n, k), dtype=bool)
    used[every, best] = True
    confidence = np.stack([m.confidence for m in models], axis=1)
    going = np.ones(n, dtype=bool)
    for _ in range(k - 1):
        values = np.where(used, -np.inf, gains[best, :, every] - prices)
        following = np.argmax(values, axis=1)
        going &= values[every, following] > 0.0
        used[every[going], following[going]] = True
        better = going & (confidence[every, following] > confidence[every, best])
        best = np.where(better, following, best)
    cost = np.where(used, np.stack([m.cost_usd for m in models], axis=1), 0.0).sum(axis=1)
    latency = np.where(used, np.stack([m.latency_s for m in models], axis=1), 0.0).sum(axis=1)
    return best, cost, latency


def cascade_routing(
    texts: Sequence[str], columns: Columns, splits: Splits, limit: float, delta: float, seed: int
) -> Baseline:
    """The cheapest lambda that keeps ``limit`` under a certificate of its own; premium alone where none does."""
    names = list(columns)
    premium = names[-1]
    cheap = sorted(names[:-1], key=lambda m: float(columns[m][0].quality[splits.fit, 0].mean()))[-MOST_PAIRS:]
    chosen = [name for name in names if name in cheap or name == premium]
    models = [_Model(columns, name, splits.fit, seed, last=name == premium) for name in chosen]
    _add_priors(models, texts, splits.fit, seed)
    gains = np.stack([[_gain(a, b, splits.fit) if a is not b else np.zeros(len(a.prior)) for b in models] for a in models])
    quality = np.stack([m.quality for m in models], axis=1)
    reference, rows = columns[premium][0].quality[:, 0], splits.certify
    every = np.arange(len(reference))
    worths = LAMBDAS / max(models[-1].mean_usd, 1e-12)
    walks = [_walk(models, gains, float(worth)) for worth in worths]
    # From the safest to the riskiest, by the fit rows.
    walks.sort(key=lambda walk: float((reference - quality[every, walk[0]])[splits.fit].mean()))
    losses = [reference[rows] - quality[rows, place[rows]] for place, _, _ in walks]
    position = fixed_sequence(losses, limit, delta).position
    test = splits.test
    if position < 0:
        column = columns[premium][0]
        return Baseline(
            name="cascade routing", note=f"nothing could be certified: all to {premium}", quality=column.quality[test, 0],
            cost_usd=column.cost_usd[test, 0], latency_s=column.latency_s[test, 0], answered_by=[premium] * len(test),
        )  # fmt: skip
    passed = walks[: position + 1]
    place, cost, latency = min(passed, key=lambda walk: float(walk[1][splits.calibration].mean()))
    return Baseline(
        name="cascade routing",
        note="asks next what adds most to the best answer for its cost, by the prompt and what was seen, same promise",
        quality=quality[test, place[test]],
        cost_usd=cost[test],
        latency_s=latency[test],
        answered_by=[models[i].name for i in place[test]],
    )
