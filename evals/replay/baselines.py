"""Baselines that a cascade must beat on the same held-out rows; each learns from the calibration rows alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .certificate.certified_choice import choose_certified
from .certificate.guarantee import CertifiedChoice, Guarantee
from .router import PromptRouter
from .rows.splits import Splits
from .score_table import TierScores
from .simulate import CandidateTier, SimulatedCascade
from .statistics.certify import fixed_sequence

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Columns = Mapping[str, Sequence[TierScores]]

MOST_PAIRS = 4
BOOTSTRAP_CHUNK = 4_000_000
# As in ``cascade.engine.confidence``: one judge's certainty must not outweigh all others.
_LOW, _HIGH = 0.001, 0.999


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Baseline:
    """One way of answering m rows: quality in [0, 1], USD, seconds (NaN where unknown), each (m,), and who answered."""

    name: str
    note: str
    quality: Array
    cost_usd: Array
    latency_s: Array
    answered_by: list[str]


def single(columns: Columns, model: str, rows: Rows) -> Baseline:
    """One tier alone, its answer unjudged."""
    c = columns[model][0]
    return Baseline(
        name=model,
        note="",
        quality=c.quality[rows, 0],
        cost_usd=c.cost_usd[rows, 0],
        latency_s=c.latency_s[rows, 0],
        answered_by=[model] * len(rows),
    )


def random_mixing(columns: Columns, models: Sequence[str], calibration: Rows, rows: Rows, usd: float) -> Baseline:
    """Two tiers mixed at random so that they cost ``usd`` on average: the calibration rows' best pair; expectations."""
    cost = {m: float(columns[m][0].cost_usd[calibration, 0].mean()) for m in models}
    good = {m: float(columns[m][0].quality[calibration, 0].mean()) for m in models}
    best: tuple[float, str, str, float] | None = None
    for low in models:
        for high in models:
            if cost[low] <= usd and cost[high] >= usd:
                share = 0.0 if cost[high] == cost[low] else (usd - cost[low]) / (cost[high] - cost[low])
                quality = (1 - share) * good[low] + share * good[high]
                if best is None or quality > best[0]:
                    best = quality, low, high, share
    if best is None:  # dearer than every tier, or cheaper: the best tier for that cost
        affordable = [m for m in models if cost[m] <= usd] or [min(models, key=lambda m: cost[m])]
        only = max(affordable, key=lambda m: good[m])
        best = good[only], only, only, 0.0
    _, low, high, share = best
    one, two = single(columns, low, rows), single(columns, high, rows)
    answered = [high if (i + 0.5) / len(rows) < share else low for i in range(len(rows))]
    note = f"{100 * share:.0f} % {high}, else {low}, at random; figures are expectations"
    if low == high or share in (0.0, 1.0):
        note = f"all {high if share else low}"
    mixed = [(1 - share) * a + share * b for a, b in zip(_figures(one), _figures(two), strict=True)]
    return Baseline(
        name="random mixing", note=note, quality=mixed[0], cost_usd=mixed[1], latency_s=mixed[2], answered_by=answered
    )


def _figures(b: Baseline) -> tuple[Array, Array, Array]:
    return b.quality, b.cost_usd, b.latency_s


def best_pair(columns: Columns, splits: Splits, guarantee: Guarantee, seed: int) -> Baseline:
    """The cheapest certified ladder of two tiers that ends in the premium one; premium alone where there is none."""
    models = list(columns)
    premium = models[-1]
    # With many tiers, those with the lowest quality on the fit rows are not tried.
    cheap = sorted(models[:-1], key=lambda m: float(columns[m][0].quality[splits.fit, 0].mean()))[-MOST_PAIRS:]
    choices: list[tuple[float, CertifiedChoice]] = []
    for model in cheap:
        pair = {model: columns[model], premium: columns[premium]}
        # Every pair has its share of delta, so that the promise also holds for the best of them.
        shared = Guarantee(guarantee.kind, guarantee.value, guarantee.delta / len(cheap))
        choice = choose_certified(pair, splits, shared, seed=seed, must_end=premium)
        usd = float(choice.chosen.outcome(splits.calibration).cost_usd.mean())
        choices.append((usd, choice))
    choice = min(choices, key=lambda item: item[0])[1]
    names = choice.chosen.cascade.models
    outcome = choice.chosen.outcome(splits.test)
    note = " -> ".join(names) + ("" if len(names) > 1 else ", since no pair was certified to cost less")
    return Baseline(
        name="best pair",
        note=note,
        quality=outcome.quality,
        cost_usd=outcome.cost_usd,
        latency_s=outcome.latency_s,
        answered_by=[names[i] for i in outcome.tier],
    )


def without_skips(columns: Columns, splits: Splits, guarantee: Guarantee, seed: int) -> Baseline:
    """The cascade that does not look at prompts, tuned and certified for the same promise.

    Args:
        columns: Each model's columns, as they were tuned, but without the prompts.
        splits: The rows.
        guarantee: The promise.
        seed: The seed of the folds.
    """
    choice = choose_certified(columns, splits, guarantee, seed=seed)
    names, outcome = choice.chosen.cascade.models, choice.chosen.outcome(splits.test)
    return Baseline(
        name="cascade without skips",
        note=f"{' -> '.join(names)}, without any evidence from the prompt",
        quality=outcome.quality,
        cost_usd=outcome.cost_usd,
        latency_s=outcome.latency_s,
        answered_by=[names[i] for i in outcome.tier],
    )


def prompt_router(texts: Sequence[str], columns: Columns, splits: Splits, limit: float, delta: float, seed: int) -> Baseline:
    """Cheapest or premium tier by the prompt alone, under the same promise, tested in the same way."""
    models = list(columns)
    premium = models[-1]
    cheap = min(models[:-1], key=lambda m: float(columns[m][0].cost_usd[splits.fit, 0].mean()))
    one, two = columns[cheap][0], columns[premium][0]
    router = PromptRouter.fit([texts[i] for i in splits.fit], one.quality[splits.fit, 0], seed)
    p = router.probability([texts[i] for i in splits.certify])
    loss = two.quality[splits.certify, 0] - one.quality[splits.certify, 0]
    # Fixed beforehand, as probabilities; the first one sends nothing to the cheap tier.
    grid = np.round(np.linspace(1.0, 0.0, 101), 2)
    choices = fixed_sequence([np.where(p >= at, loss, 0.0) for at in grid], limit, delta)
    at = float(grid[choices.position]) if choices.position >= 0 else 2.0
    sent = router.probability([texts[i] for i in splits.test]) >= at
    test = splits.test
    share = 100 * float(sent.mean())
    note = f"{share:.0f} % to {cheap} by TF-IDF and logistic regression on the prompt, the rest to {premium}, same promise"
    if not sent.any():
        note = f"learned nothing that could be certified: all to {premium}"
    return Baseline(
        name="prompt-only router",
        note=note,
        quality=np.where(sent, one.quality[test, 0], two.quality[test, 0]),
        cost_usd=np.where(sent, one.cost_usd[test, 0], two.cost_usd[test, 0]),
        latency_s=np.where(sent, one.latency_s[test, 0], two.latency_s[test, 0]),
        answered_by=[cheap if s else premium for s in sent],
    )


def hand_set(columns: Columns, splits: Splits, at: float = 0.7) -> Baseline:
    """The usual setting without calibration: the same threshold at every tier, on the uncalibrated confidence."""
    models = list(columns)
    last = columns[models[-1]][0].first_judges(0)
    tiers = [
        CandidateTier(
            column=c,
            calibrators=(),
            confidence=uncalibrated(c),
            accept_at=(None,) * len(c.rules),
            reject_below=(None,) * len(c.rules),
        )
        for c in (columns[m][0] for m in models[:-1])
    ]
    tiers.append(CandidateTier(column=last, calibrators=(), confidence=uncalibrated(last), accept_at=(), reject_below=()))
    outcome = SimulatedCascade.from_tiers(tiers).outcome((at,) * (len(models) - 1), splits.test)
    return Baseline(
        name=f"thresholds of {at:g}",
        note="",
        quality=outcome.quality,
        cost_usd=outcome.cost_usd,
        latency_s=outcome.latency_s,
        answered_by=[models[i] for i in outcome.tier],
    )


def uncalibrated(column: TierScores) -> Array:
    """(n, S + 1): ``cascade.engine.confidence.combine`` of the first scores, for every prefix of judges."""
    n, stages = column.scores.shape
    combined_by_stage = np.full((n, stages + 1), 0.5)
    for stage in range(1, stages + 1):
        scores = column.scores[:, :stage]
        n_scores = (~np.isnan(scores)).sum(axis=1)
        bounded = np.clip(scores, _LOW, _HIGH)
        logits = np.nansum(np.log(bounded / (1 - bounded)), axis=1) / np.maximum(n_scores, 1)
        combined = 1 / (1 + np.exp(-logits))
        alone = np.nansum(scores, axis=1)
        combined_by_stage[:, stage] = np.where(n_scores == 0, 0.5, np.where(n_scores == 1, alone, combined))
    return combined_by_stage


def oracle(columns: Columns, models: Sequence[str], rows: Rows) -> Baseline:
    """The cheapest tier whose answer is as good as the best: the limit of any choice of tiers.

    Only a judge that replaces a tier's answer by another sample can do better.
    """
    quality = np.stack([columns[m][0].quality[rows, 0] for m in models], axis=1)
    cost = np.stack([columns[m][0].cost_usd[rows, 0] for m in models], axis=1)
    latency = np.stack([columns[m][0].latency_s[rows, 0] for m in models], axis=1)
    good = quality >= quality.max(axis=1, keepdims=True)
    at = np.argmin(np.where(good, cost, np.inf), axis=1)
    i = np.arange(len(rows))
    return Baseline(
        name="oracle",
        note="",
        quality=quality[i, at],
        cost_usd=cost[i, at],
        latency_s=latency[i, at],
        answered_by=[models[j] for j in at],
    )


def bootstrap_difference(a: Array, b: Array, seed: int, rounds: int = 2000) -> tuple[float, float]:
    """The 95 % paired bootstrap interval (percentiles) of mean(a - b)."""
    difference, rng = np.asarray(a) - np.asarray(b), np.random.default_rng(seed)
    n = len(difference)
    means: list[Array] = []
    each = max(1, BOOTSTRAP_CHUNK // max(n, 1))
    for start in range(0, rounds, each):
        size = min(each, rounds - start)
        means.append(difference[rng.integers(0, n, (size, n))].mean(axis=1))
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return float(low), float(high)
