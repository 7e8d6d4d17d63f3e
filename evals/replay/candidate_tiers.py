"""Score columns -> the tiers that a cascade may be built of: fitted on the fit rows, with and without expensive judges."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from cascade.policy.calibrators import Calibrator, Constant, Isotonic, Logistic, agreement_name
from judges.prompt import PROMPT_SCORE

from .calibration.apply_mapping import apply
from .calibration.calibrate import SURE, Fitted, fit, gain
from .evidence.consensus import has_consensus
from .prompt_predictor import PromptScores
from .score_table import TierScores
from .simulate import CandidateTier, TierOutcome, simulate_tier

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

# Before a more expensive judge, an answer may be accepted above, or given up below, these quantiles of the confidence.
ACCEPT_QUANTILES = (0.4, 0.6, 0.8)
REJECT_QUANTILES = (0.1, 0.25, 0.4)
# This many rows with the same scores are one step of the confidence; differences between folds would be noise.
TIED_ROWS = 10


def fit_tier(
    column: TierScores, rows: Rows, seed: int, earlier: Sequence[TierOutcome] = (), *, errors: float = 1.0
) -> CandidateTier:
    """A step without early decisions: for each judge prefix the mapping that cross-validation chose on ``rows``.

    ``confidence`` is the mapping's, but on ``rows`` themselves the out-of-fold one, so that tuning on them is not flattered;
    where many rows have the same scores it is the mapping's, because a threshold can only accept all of them or none.
    ``earlier`` gives the tiers before it, whose agreement is then read as evidence too. ``errors``: see ``calibrate.fit``.
    """
    n, stages = len(column.vetoed), column.scores.shape[1]
    confidence = np.zeros((n, stages + 1))
    uses_agreement = False
    calibrators: list[Calibrator] = []
    prompt = None if column.prompts is None else column.prompts.fit(column.quality[:, 0], rows, seed)
    evidence = prompt_scores(column, prompt, rows, seed, errors)
    last: tuple[tuple[str, ...], Fitted, Rows] | None = None
    for stage in range(stages + 1):
        # A vetoed answer is never accepted: what is fitted is P(right) of those that pass.
        not_vetoed = rows[~column.vetoed[rows, stage]]
        used = not_vetoed if len(not_vetoed) else rows
        scores = available_scores(column, stage, used) | agreement_scores(column, stage, earlier) | evidence
        names = tuple(scores)
        same = last is not None and last[0] == names and stage > 0 and _same(column, stage, rows)
        if last is None or not same:
            correct = column.quality[used, stage]
            last = (names, fit({k: v[used] for k, v in scores.items()}, correct, seed=seed, errors=errors), used)
        calibrators.append(last[1].mapping)
        uses_agreement |= bool(judges_read(last[1].mapping) & {agreement_name(i) for i in range(len(earlier))})
        confidence[:, stage] = apply(last[1].mapping, scores, n=n)
        confidence[last[2], stage] = np.where(
            _many_equal(last[1].mapping, scores, last[2]), confidence[last[2], stage], last[1].out_of_fold
        )
    return CandidateTier(
        column=column,
        calibrators=tuple(calibrators),
        confidence=confidence,
        accept_at=(None,) * stages,
        reject_below=(None,) * stages,
        uses_agreement=uses_agreement,
        prompt=prompt,
    )


def prompt_scores(
    column: TierScores, prompt: PromptScores | None, rows: Rows, seed: int, errors: float = 1.0
) -> dict[str, Array]:
    """What the prompt says of the tier, as one more score; empty where cross-validation shows no gain beside the judges."""
    if prompt is None or prompt.predictor is None:
        return {}
    stage = column.n_free
    not_vetoed = rows[~column.vetoed[rows, stage]]
    if len(not_vetoed) < 2:
        return {}
    scores = {k: v[not_vetoed] for k, v in available_scores(column, stage, not_vetoed).items()}
    extra = {PROMPT_SCORE: prompt.probability[not_vetoed]}
    added = gain(scores, extra, column.quality[not_vetoed, stage], seed)
    # Predictors have many weights and few rows: their probability is used only where it clearly helps.
    return {PROMPT_SCORE: prompt.probability} if added.exceeds(max(errors, SURE)) else {}


def _many_equal(mapping: Calibrator, scores: Mapping[str, Array], rows: Rows) -> npt.NDArray[np.bool_]:
    """(m,): whether ``TIED_ROWS`` or more of ``rows`` have the same values of all scores that the mapping reads."""
    columns = [np.nan_to_num(scores[name][rows], nan=-1.0) for name in sorted(judges_read(mapping)) if name in scores]
    if not columns:
        return np.full(len(rows), len(rows) >= TIED_ROWS)
    _, group, counts = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True, return_counts=True)
    return np.asarray(counts[group.ravel()] >= TIED_ROWS)


def available_scores(column: TierScores, stage: int, rows: Rows) -> dict[str, Array]:
    """The scores of the judges up to ``stage`` that are known for at least one of ``rows``."""
    return {
        name: column.scores[:, j]
        for j, name in enumerate(column.names[:stage])
        if not np.isnan(column.scores[rows, j]).all()
    }


def agreement_scores(column: TierScores, stage: int, earlier: Sequence[TierOutcome]) -> dict[str, Array]:
    """Whether the answer after ``stage`` agrees with that of each earlier tier, by the engine's names."""
    return {agreement_name(i): (column.meaning[:, stage] == s.meaning).astype(np.float64) for i, s in enumerate(earlier)}


def judges_read(mapping: Calibrator) -> set[str]:
    """The names of the scores that a mapping reads."""
    if isinstance(mapping, Logistic):
        return {feature.judge for feature in mapping.features}
    return {mapping.judge} if isinstance(mapping, Isotonic) else set()


def _same(column: TierScores, stage: int, rows: Rows) -> bool:
    """Whether the judge of ``stage`` changed neither answers nor vetoes on ``rows``."""
    quality, vetoed = column.quality[rows], column.vetoed[rows]
    return bool(np.all(quality[:, stage] == quality[:, stage - 1]) and np.all(vetoed[:, stage] == vetoed[:, stage - 1]))


def tier_variants(tier: CandidateTier, rows: Rows) -> list[CandidateTier]:
    """The step itself, the step without its expensive judges, and with early decisions before them."""
    free, stages = tier.column.n_free, len(tier.column.rules)
    if free == stages:
        return [tier]
    if tier.column.keeps_judges and tier.column.drops_vetoes:
        return [tier]  # a policy's vetoes are always used
    variants = [tier, first_judges_only(tier, free)]
    before = tier.confidence[rows, free]
    if free == 0 or np.ptp(before) < 1e-9 or isinstance(tier.calibrators[free], Constant):
        return variants  # there is no score before the expensive judge has run
    highs = [None, *(float(x) for x in np.unique(np.quantile(before, ACCEPT_QUANTILES)))]
    lows = [None, *(float(x) for x in np.unique(np.quantile(before, REJECT_QUANTILES)))]
    for high in highs:
        for low in lows:
            if (high is None and low is None) or (high is not None and low is not None and low >= high):
                continue
            accept_at, reject_below = list(tier.accept_at), list(tier.reject_below)
            accept_at[free - 1], reject_below[free - 1] = high, low
            variants.append(replace(tier, accept_at=tuple(accept_at), reject_below=tuple(reject_below)))
    return variants


def first_judges_only(tier: CandidateTier, stages: int) -> CandidateTier:
    """The step with its first judges only."""
    return CandidateTier(
        column=tier.column.first_judges(stages),
        calibrators=tier.calibrators[: stages + 1],
        confidence=tier.confidence[:, : stages + 1],
        accept_at=(None,) * stages,
        reject_below=(None,) * stages,
        uses_agreement=tier.uses_agreement,
        prompt=tier.prompt,
    )


def fit_end(column: TierScores, rows: Rows, seed: int) -> CandidateTier:
    """A model as the premium tier of a ladder: with the judges of a last tier, calibrated only where that surely helps.

    No decision reads its confidence, so that nothing is lost where the raw one stays; the caller reads it.
    """
    return fit_tier(column.first_judges(column.n_last), rows, seed, errors=SURE)


def add_agreement(
    tiers: Sequence[CandidateTier], rows: Rows, seed: int, *, errors_at_end: float = 1.0
) -> tuple[list[CandidateTier], list[str]]:
    """The steps of one ladder, each with agreement with the tiers before it where cross-validation shows a gain; notes.

    ``errors_at_end``: of how many standard errors that gain must be at the last tier.
    """
    variants: list[CandidateTier] = []
    notes: list[str] = []
    for tier in tiers:
        errors = errors_at_end if tier is tiers[-1] else 1.0
        tier_outcomes = [simulate_tier(s) for s in variants]
        if tier_outcomes:
            stage = len(tier.column.rules)
            not_vetoed = rows[~tier.column.vetoed[rows, stage]]
            scores = {k: v[not_vetoed] for k, v in available_scores(tier.column, stage, not_vetoed).items()}
            extra = {k: v[not_vetoed] for k, v in agreement_scores(tier.column, stage, tier_outcomes).items()}
            if len(not_vetoed) < 2:
                variants.append(tier)
                continue
            improvement = gain(scores, extra, tier.column.quality[not_vetoed, stage], seed)
            if improvement.exceeds(errors):
                notes.append(
                    f"{tier.model}: agreement with earlier tiers lowers the cross-validated log-loss by "
                    f"{improvement.mean:.4f} (standard error {improvement.standard_error:.4f})"
                )
                refit = fit_tier(tier.column, rows, seed, tier_outcomes, errors=errors)
                tier = replace(refit, accept_at=tier.accept_at, reject_below=tier.reject_below)
        variants.append(tier)
    return variants, notes


def fit_all_tiers(columns: Mapping[str, Sequence[TierScores]], rows: Rows, seed: int) -> dict[str, list[CandidateTier]]:
    """Every model's possible steps."""
    return {
        model: [v for column in alternatives for v in tier_variants(fit_tier(column, rows, seed), rows)]
        for model, alternatives in columns.items()
    }


def fit_consensus_tiers(columns: Mapping[str, Sequence[TierScores]], rows: Rows, seed: int) -> list[CandidateTier]:
    """The possible steps with other models' answers as evidence, which are not steps without it as well."""
    return [
        tier
        for alternatives in columns.values()
        for column in alternatives
        if has_consensus(column)
        for tier in tier_variants(fit_tier(column, rows, seed), rows)
        if has_consensus(tier.column)
    ]
