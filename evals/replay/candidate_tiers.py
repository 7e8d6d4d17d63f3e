"""Score columns -> the steps that a ladder may be built of: fitted on the fit rows, with and without the dear judges."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from cascade.policy.calibrators import Calibrator

from .calibrate import Fitted, apply, fit, gain
from .score_table import TierScores
from .simulate import CandidateTier, TierOutcome, settle

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

# Where a dearer judge follows, an answer may be accepted above, or given up below, these quantiles of the confidence.
ACCEPT_QUANTILES = (0.4, 0.6, 0.8)
REJECT_QUANTILES = (0.1, 0.25, 0.4)


def fitted(column: TierScores, rows: Rows, seed: int, earlier: Sequence[TierOutcome] = ()) -> CandidateTier:
    """A step without early decisions: for each judge prefix the mapping that cross-validation chose on ``rows``.

    ``confidence`` is the mapping's, but on ``rows`` themselves the out-of-fold one, so that tuning on them is not flattered.
    ``earlier`` gives the tiers before it, whose agreement is then read as evidence too.
    """
    n, stages = len(column.vetoed), column.scores.shape[1]
    confidence = np.zeros((n, stages + 1))
    calibrators: list[Calibrator] = []
    last: tuple[tuple[str, ...], Fitted, Rows] | None = None
    for stage in range(stages + 1):
        # A vetoed answer is never accepted: what is fitted is P(right) of those that pass.
        passed = rows[~column.vetoed[rows, stage]]
        used = passed if len(passed) else rows
        scores = _told(column, stage, used) | agreements(column, stage, earlier)
        names = tuple(scores)
        same = last is not None and last[0] == names and stage > 0 and _same(column, stage, rows)
        if last is None or not same:
            correct = column.quality[used, stage]
            last = (names, fit({k: v[used] for k, v in scores.items()}, correct, seed=seed), used)
        calibrators.append(last[1].mapping)
        confidence[:, stage] = apply(last[1].mapping, scores, n=n)
        confidence[last[2], stage] = last[1].out_of_fold
    return CandidateTier(column, tuple(calibrators), confidence, (None,) * stages, (None,) * stages)


def _told(column: TierScores, stage: int, rows: Rows) -> dict[str, Array]:
    """The scores of the judges up to ``stage`` that ever told anything on ``rows``."""
    return {
        name: column.scores[:, j]
        for j, name in enumerate(column.names[:stage])
        if not np.isnan(column.scores[rows, j]).all()
    }


def agreements(column: TierScores, stage: int, earlier: Sequence[TierOutcome]) -> dict[str, Array]:
    """Whether the answer that stood after ``stage`` says the same as that of each earlier tier, as the engine names it."""
    return {f"agrees:{i}": (column.said[:, stage] == s.said).astype(np.float64) for i, s in enumerate(earlier)}


def compares(steps: Sequence[CandidateTier]) -> bool:
    """Whether a mapping of these steps reads the agreement with an earlier tier."""
    return any("agrees:" in str(calibrator.to_json()) for step in steps for calibrator in step.calibrators)


def _same(column: TierScores, stage: int, rows: Rows) -> bool:
    """Whether the judge of ``stage`` changed neither answers nor vetoes on ``rows``."""
    quality, vetoed = column.quality[rows], column.vetoed[rows]
    return bool(np.all(quality[:, stage] == quality[:, stage - 1]) and np.all(vetoed[:, stage] == vetoed[:, stage - 1]))


def variants(step: CandidateTier, rows: Rows) -> list[CandidateTier]:
    """The step itself, the step without its dear judges, and with early decisions before them."""
    free, stages = step.column.free, len(step.column.rules)
    if free == stages:
        return [step]
    made = [step, first(step, free)]
    before = step.confidence[rows, free]
    if free == 0 or np.ptp(before) < 1e-9:
        return made  # nothing is known before the dear judge speaks
    highs = [None, *(float(x) for x in np.unique(np.quantile(before, ACCEPT_QUANTILES)))]
    lows = [None, *(float(x) for x in np.unique(np.quantile(before, REJECT_QUANTILES)))]
    for high in highs:
        for low in lows:
            if (high is None and low is None) or (high is not None and low is not None and low >= high):
                continue
            accept_at, reject_below = list(step.accept_at), list(step.reject_below)
            accept_at[free - 1], reject_below[free - 1] = high, low
            made.append(replace(step, accept_at=tuple(accept_at), reject_below=tuple(reject_below)))
    return made


def first(step: CandidateTier, stages: int) -> CandidateTier:
    """The step with its first judges only."""
    return CandidateTier(
        step.column.first(stages),
        step.calibrators[: stages + 1],
        step.confidence[:, : stages + 1],
        (None,) * stages,
        (None,) * stages,
    )


def with_agreement(steps: Sequence[CandidateTier], rows: Rows, seed: int) -> tuple[list[CandidateTier], list[str]]:
    """The steps of one ladder, each with agreement with the tiers before it where cross-validation shows a gain; notes."""
    made: list[CandidateTier] = []
    notes: list[str] = []
    for step in steps:
        settled = [settle(s) for s in made]
        if settled:
            stage = len(step.column.rules)
            passed = rows[~step.column.vetoed[rows, stage]]
            scores = {k: v[passed] for k, v in _told(step.column, stage, passed).items()}
            extra = {k: v[passed] for k, v in agreements(step.column, stage, settled).items()}
            if len(passed) > 1 and (found := gain(scores, extra, step.column.quality[passed, stage], seed)):
                notes.append(
                    f"{step.model}: agreement with earlier tiers lowers the cross-validated log-loss by {found.mean:.4f} "
                    f"(standard error {found.standard_error:.4f})"
                )
                refit = fitted(step.column, rows, seed, settled)
                step = replace(refit, accept_at=step.accept_at, reject_below=step.reject_below)
        made.append(step)
    return made, notes


def columns_of(columns: Mapping[str, Sequence[TierScores]], rows: Rows, seed: int) -> dict[str, list[CandidateTier]]:
    """Every model's possible steps."""
    return {
        model: [v for column in given for v in variants(fitted(column, rows, seed), rows)]
        for model, given in columns.items()
    }
