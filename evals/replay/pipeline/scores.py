"""The judges' scores of every tier's answers, computed once and cached beside the recording."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from evals.common.progress import Progress
from evals.engines import Engine
from evals.recording import Example
from evals.replay.evidence.consensus import has_consensus, with_consensus
from evals.replay.on_engine import load_or_score
from evals.replay.rows.input_rows import ReplayError, Rules, default_judges, judge_plans, named_judges, preview
from evals.replay.rows.splits import Splits
from evals.replay.score_table import Cache, TierScores

from .config import LOSS, ReplayConfig


async def score_tiers(
    path: str | Path,
    sha256: str,
    rows: Sequence[Example],
    tiers: Sequence[str],
    config: ReplayConfig,
    engine: Engine | None = None,
) -> dict[str, list[TierScores]]:
    """The scores of each tier, one table for each set of judges that may be chosen for it."""
    cache = Cache(path, sha256)
    judges: dict[str, list[Rules]] = {}
    for tier in tiers:
        if config.own is not None:
            judges[tier] = [config.own.rules[tier]]
        elif config.judges is not None:
            judges[tier] = [named_judges(config.judges, rows, tier)]
        else:
            judges[tier] = [default_judges(rows, tier)] if len(tiers) <= 2 else judge_plans(rows, tier)
    progress = Progress(len(rows) * sum(len(w) for w in judges.values()), "judging")
    scores = {
        tier: [await load_or_score(rows, tier, rules, cache, progress.step, engine) for rules in tier_scores]
        for tier, tier_scores in judges.items()
    }
    progress.end()
    if config.own is not None:
        scores = {tier: [replace(c, keeps_judges=True) for c in columns] for tier, columns in scores.items()}
    for tier, tier_scores in scores.items():
        unknown = np.any([np.isnan(c.cost_usd).any(axis=1) for c in tier_scores], axis=0)
        unpriced = [row.id for row, missing in zip(rows, unknown, strict=True) if missing]
        if unpriced:
            raise ReplayError(
                f"what judging costs is unknown in {len(unpriced)} rows of the model {tier!r}: {preview(unpriced)}; give "
                f"answers[{tier!r}].sample_cost_usd, or leave self_consistency out by --judges"
            )
    return scores


async def add_consensus(
    path: str | Path,
    sha256: str,
    rows: Sequence[Example],
    scores: dict[str, list[TierScores]],
    splits: Splits,
    *,
    config: ReplayConfig,
    engine: Engine | None = None,
) -> dict[str, list[TierScores]]:
    """The scores, and those with a consensus of cheap models, where the judges are not named and the promise allows it."""
    kind, value = config.guarantee.kind, config.guarantee.value
    chooses = config.judges is None and config.policy is None and kind != "min_accepted_quality"
    if not chooses or any(map(has_consensus, itertools.chain(*scores.values()))):
        return scores
    premium = list(scores)[-1]
    if kind == "min_quality":
        limits: tuple[float, ...] = (max(0.0, float(scores[premium][0].quality[splits.fit, 0].mean()) - value),)
    else:
        limits = (config.menu or (value,)) if kind == "max_loss" else (LOSS,)
    cache = Cache(path, sha256)

    async def score(model: str, rules: Rules) -> TierScores:
        column = await load_or_score(rows, model, rules, cache, engine=engine)
        return replace(column, keeps_judges=scores[model][0].keeps_judges)

    return await with_consensus(scores, splits.fit, limits, len(splits.certify), score)
