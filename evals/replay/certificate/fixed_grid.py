"""A walk fixed before any data were seen: two tiers, one score, a grid in the score's own units.

It needs no rows to tune on, so that every calibration row certifies; where data are few that is worth more than a clever
choice of thresholds. What is certified is a threshold on the raw score. The confidence that production reports is fitted
afterwards on the same rows: a strictly rising map of the score, through which the threshold is moved, changes no decision.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from cascade.policy.calibrators import Calibrator, Constant, Isotonic, Logistic
from evals.replay.calibration.apply_mapping import apply
from evals.replay.calibration.calibrate import fit
from evals.replay.candidate_tiers import fit_end
from evals.replay.score_table import TierScores
from evals.replay.simulate import CandidateTier, SimulatedCascade
from evals.replay.sweep_result import Candidate

Rows = npt.NDArray[np.int64]

# From "accept only certainty" to "accept all"; near 1 in steps of ratios, because token probabilities crowd there.
GRID: tuple[float, ...] = (
    1.0,
    *(float(x) for x in 1.0 - np.logspace(-7, -1, 37)),
    *(float(x) for x in np.round(np.linspace(0.875, 0.0, 36), 3)),
)


def deciding_judge(column: TierScores) -> str | None:
    """The one judge of the column that ever gives a score, or None where there is no such one."""
    judges = [name for j, name in enumerate(column.names) if not np.isnan(column.scores[:, j]).all()]
    return judges[0] if len(judges) == 1 else None


def raw_score_tier(column: TierScores, judge: str) -> CandidateTier:
    """The column decided by the bare score: its mapping to a confidence is the identity, and a missing score is 0."""
    n, stages = len(column.vetoed), len(column.names)
    at = column.names.index(judge) + 1
    calibrators: list[Calibrator] = [
        Isotonic(judge, ((0.0, 0.0), (1.0, 1.0)), 0.0) if stage >= at else Constant(0.5) for stage in range(stages + 1)
    ]
    scores = {judge: column.scores[:, at - 1]}
    confidence = np.stack([apply(c, scores, n=n) for c in calibrators], axis=1)
    return CandidateTier(
        column=column,
        calibrators=tuple(calibrators),
        confidence=confidence,
        accept_at=(None,) * stages,
        reject_below=(None,) * stages,
    )


def candidate_sequence(columns: Sequence[TierScores], calibration: Rows) -> list[Candidate] | None:
    """The candidates from the safest on, or None where the two columns do not decide by one score."""
    if len(columns) != 2 or (judge := deciding_judge(columns[0])) is None:
        return None
    last = columns[1].first_judges(columns[1].n_last)
    stages = len(last.rules)
    base = CandidateTier(
        column=last,
        calibrators=(Constant(0.5),) * (stages + 1),
        confidence=np.full((len(last.vetoed), stages + 1), 0.5),
        accept_at=(None,) * stages,
        reject_below=(None,) * stages,
    )
    cascade = SimulatedCascade.from_tiers([raw_score_tier(columns[0], judge), base])
    usd = [cascade.outcome((t,), calibration).cost_usd.mean() for t in GRID]
    return [
        Candidate(cascade=cascade, thresholds=(t,), loss=float("nan"), variance=float("nan"), usd=float(c))
        for t, c in zip(GRID, usd, strict=True)
    ]


def with_confidence(candidate: Candidate, rows: Rows, seed: int) -> Candidate:
    """The same decisions with a confidence fitted on ``rows``, or the candidate itself where no strictly rising map fits."""
    tier, last = candidate.cascade.tiers
    judge = deciding_judge(tier.column)
    assert judge is not None
    column, stages = tier.column, len(tier.calibrators) - 1
    passed = rows[~column.vetoed[rows, -1]]
    scores = {judge: column.scores[:, column.names.index(judge)]}
    mapping_fit = fit(
        {judge: scores[judge][passed]}, column.quality[passed, -1], seed=seed, candidates=("logistic",)
    ).mapping
    if not isinstance(mapping_fit, Logistic) or mapping_fit.coefficients[0] <= 0:
        return candidate
    base = fit({}, column.quality[passed, 0], seed=seed).mapping
    calibrators = tuple(mapping_fit if isinstance(c, Isotonic) else base for c in tier.calibrators)
    n = len(column.vetoed)
    confidence = np.stack([apply(c, scores, n=n) for c in calibrators], axis=1)
    old = candidate.thresholds[0]
    new = 0.0 if old <= 0.0 else mapping_fit.probability({judge: old})
    calibrated = replace(tier, calibrators=calibrators, confidence=confidence)
    cascade = SimulatedCascade.from_tiers([calibrated, fit_end(last.column, rows, seed)])
    every = np.arange(n)
    before, after = candidate.cascade.outcome((old,), every), cascade.outcome((new,), every)
    # Of two vetoed answers the surer one is returned: which one that is may change, but not what was certified.
    if (
        stages == 0
        or not np.array_equal(before.quality, after.quality)
        or not np.array_equal(before.cost_usd, after.cost_usd)
    ):
        return candidate
    return replace(candidate, cascade=cascade, thresholds=(new,))
