"""The sequences of candidates that are tested for one promise, and the rows and the share of delta that each has.

Tuned sequences are chosen on the fit rows and tested on the rows that certify. Where a promise allows only few losses among
those rows, the fit rows are too few to tune on; then fixed grids, one for each cheap model before the premium tier, are
tested beside on all calibration rows. Whether they are is decided by the number of rows and the promise alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from evals.replay.evidence.consensus import has_consensus
from evals.replay.rows.splits import Splits
from evals.replay.score_table import TierScores
from evals.replay.sweep_result import Candidate
from evals.replay.tuning.fallback import CandidateSequence

from . import fixed_grid

Rows = npt.NDArray[np.int64]

FEW_LOSSES = 8
"""Grids are tested beside tuned ladders where the promise allows fewer losses than these among the rows that certify."""
PRESET_SHARE = 0.5
"""What the grids together have of delta then."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProofSequence:
    """Candidates in the order of their tests.

    Attributes:
        candidates: From the safest to the cheapest.
        rows: That test them.
        chosen_on: The rows that may have had a part in choosing them, or in fitting their confidence.
        share: Of delta.
        preset: Whether they were fixed before any row was read.
        notes: On how they were chosen.
    """

    candidates: tuple[Candidate, ...]
    rows: Rows
    chosen_on: Rows
    share: float = 1.0
    preset: bool = False
    notes: tuple[str, ...] = ()


def preset_sequences(
    columns: Mapping[str, Sequence[TierScores]], splits: Splits, must_end: str | None
) -> list[ProofSequence]:
    """A fixed grid for each cheap model before the premium tier, tested on all calibration rows, with equal shares.

    A consensus takes no part, since the fit rows chose whom it asks.

    Args:
        columns: Each model's scores, cheapest first, the premium tier last.
        splits: The rows.
        must_end: The model that every cascade must end with, or None.

    Returns:
        None for models that do not decide by one score.
    """
    *cheap, premium = columns
    if must_end not in (None, premium):
        return []
    grids: list[list[Candidate]] = []
    for model in cheap:
        own = [c for c in columns[model] if not has_consensus(c)]
        tried = (fixed_grid.candidate_sequence([c, columns[premium][0]], splits.calibration) for c in own)
        grids += [grid for grid in tried if grid is not None][:1]
    rows = splits.calibration
    return [
        ProofSequence(candidates=tuple(grid), rows=rows, chosen_on=rows, share=1.0 / len(grids), preset=True)
        for grid in grids
    ]


def too_few_to_tune(n_certify: int, limit: float) -> bool:
    """Whether a promise allows so few losses among the rows that certify that grids should be tested as well."""
    return n_certify * limit < FEW_LOSSES


def side_by_side(
    tuned: Sequence[CandidateSequence], presets: Sequence[ProofSequence], splits: Splits
) -> list[ProofSequence]:
    """Tuned sequences, each on the rows that certify, and fixed grids beside; all shares add up to 1."""
    part = PRESET_SHARE if presets else 0.0
    chosen = [
        ProofSequence(
            candidates=each.candidates,
            rows=splits.certify,
            chosen_on=splits.fit,
            share=each.share * (1.0 - part),
            notes=each.notes,
        )
        for each in tuned
    ]
    return [*chosen, *(replace(each, share=each.share * part) for each in presets)]
