"""How long a cascade takes: the share of rows that are late, percentiles, and tiers that ask the next one at once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cascade.util.messages import counted

from .rows.input_rows import ReplayError
from .score_table import TierScores
from .simulate import CandidateTier, SimulatedCascade
from .sweep_result import Candidate
from .threshold_sweep import TierColumns, sweep_surface

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

SHARE = 0.95
"""The share of the runs that must be in time."""
MOST_SPECULATION_CUTS = 40
MOST_EXTRA = 0.05
"""What speculation may add to the cost, as a share of it."""


def p95(seconds: Array) -> float | None:
    """The 95th percentile, the smallest value that 95 % do not exceed; None for no rows or an unknown latency."""
    if not len(seconds) or np.isnan(seconds).any():
        return None
    return float(np.sort(seconds)[-(-95 * len(seconds) // 100) - 1])


def check_latencies(columns: dict[str, list[TierScores]], flag: str) -> None:
    """Raises ReplayError where a latency is not recorded."""
    for model, each in columns.items():
        for column in each:
            unknown = int(np.isnan(column.latency_s).any(axis=1).sum())
            if unknown:
                raise ReplayError(
                    f"{flag} needs the latency of every answer and of its samples; it is missing in "
                    f"{counted(unknown, 'row')} of the model {model!r}: record it, or leave the model out with --tiers"
                )


def safe_share(n: int) -> float:
    """The largest share of late runs among ``n`` rows for which a cascade is taken to be in time.

    One standard error below 5 %, so that a few of these rows do not decide whether other rows are in time.
    """
    allowed = 1.0 - SHARE
    return float(max(0.0, allowed - (allowed * SHARE / max(n, 1)) ** 0.5))


def late_shares(cascade: SimulatedCascade, cuts: Sequence[Array], rows: Rows, max_latency_s: float) -> Array:
    """(vectors,): the share of ``rows`` that take longer than ``max_latency_s``, exactly, for every threshold vector."""
    elapsed = np.zeros(len(rows))
    columns = []
    for outcome in cascade.tier_outcomes:
        elapsed = elapsed + outcome.latency_s[rows]
        late = (elapsed > max_latency_s).astype(np.float64)
        columns.append(TierColumns(outcome.effective_confidence[rows], late, np.zeros(len(rows))))
    return np.asarray(sweep_surface(columns, list(cuts)).quality.ravel(), dtype=np.float64)


def is_in_time(candidate: Candidate, rows: Rows, max_latency_s: float) -> bool:
    """Whether few enough of ``rows`` are late."""
    late = candidate.outcome(rows).latency_s > max_latency_s
    return float(late.mean()) <= safe_share(len(rows))


def fastest(tiers: dict[str, CandidateTier], rows: Rows) -> str:
    """The model whose latency alone has the least 95th percentile, with that percentile, in words."""
    seconds = {model: p95(tier.column.latency_s[rows, 0]) or 0.0 for model, tier in tiers.items()}
    best = min(seconds, key=lambda model: seconds[model])
    return f"{best} with {seconds[best]:.3g} s"


def with_percentiles(candidate: Candidate, rows: Rows) -> Candidate:
    """The candidate whose tiers state the 95th percentile of their latency, answer and judging, on ``rows``."""
    tiers = [
        replace(tier, p95_s=p95(outcome.latency_s[rows][~tier.skipped[rows]]))
        for tier, outcome in zip(candidate.cascade.tiers, candidate.cascade.tier_outcomes, strict=True)
    ]
    return replace(candidate, cascade=SimulatedCascade.from_tiers(tiers, candidate.cascade.final, candidate.cascade.vote))


@dataclass(frozen=True, slots=True, kw_only=True)
class Speculation:
    """What asking two tiers at once does, beside the same ladder with one tier after the other.

    Attributes:
        p95_s: 95th percentile of the runs that ask more than one tier, in seconds; None: there are none.
        serial_p95_s: The same where tiers are asked one after the other.
        extra_cost: How much it adds to the cost, as a share of the serial cost.
    """

    p95_s: float | None
    serial_p95_s: float | None
    extra_cost: float

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {"p95_s": self.p95_s, "serial_p95_s": self.serial_p95_s, "extra_cost": self.extra_cost}


def speculation(candidate: Candidate, rows: Rows) -> Speculation:
    """What the candidate's speculation does on ``rows``."""
    outcome, serial = candidate.outcome(rows), _with_speculation(candidate, None).outcome(rows)
    escalated = outcome.last_called > 0
    cost = float(serial.cost_usd.mean())
    return Speculation(
        p95_s=p95(outcome.latency_s[escalated]),
        serial_p95_s=p95(serial.latency_s[escalated]),
        extra_cost=float(outcome.cost_usd.mean()) / cost - 1.0 if cost else 0.0,
    )


def choose_speculation(candidate: Candidate, rows: Rows, most_extra: float = MOST_EXTRA) -> tuple[Candidate, str]:
    """The candidate whose first tier asks the second at once, where that is likely to be needed; and a note.

    Of the thresholds of the prompt's probability, and "always", it takes the one with the smallest 95th percentile of
    escalated runs whose cost grows by at most ``most_extra``; of equal ones the cheapest.
    """
    if len(candidate.cascade.tiers) < 2:
        return candidate, "no two tiers are asked at once: the ladder has one"
    tried: list[tuple[float, float, Candidate]] = []
    always = _with_speculation(candidate, 1.0)
    serial = speculation(candidate, rows)
    for at in _cuts(candidate.cascade.tiers[0], rows):
        speculating = _with_speculation(candidate, at)
        effect = speculation(speculating, rows)
        if effect.p95_s is not None and effect.extra_cost <= most_extra:
            tried.append((effect.p95_s, effect.extra_cost, speculating))
    best = min(tried, key=lambda each: each[:2], default=None)
    if best is None or serial.p95_s is None or best[0] >= serial.p95_s:
        effect = speculation(always, rows)
        if effect.p95_s is None or serial.p95_s is None:
            return candidate, "no two tiers are asked at once: no run escalates"
        return candidate, (
            f"no two tiers are asked at once: within {100 * most_extra:g} % more cost nothing shortens the escalated runs; "
            f"always asking both would take their 95th percentile from {serial.p95_s:.3g} to {effect.p95_s:.3g} s at "
            f"{100 * effect.extra_cost:.0f} % more cost"
        )
    p95_s, extra, speculating = best
    return speculating, (
        f"two tiers are asked at once where escalation is likely: the 95th percentile of escalated runs goes from "
        f"{serial.p95_s:.3g} to {p95_s:.3g} s at {100 * extra:.1f} % more cost, on the calibration rows"
    )


def _cuts(tier: CandidateTier, rows: Rows) -> list[float]:
    if tier.prompt is None or tier.prompt.predictor is None:
        return [1.0]
    probability = tier.prompt.probability[rows]
    probability = probability[~np.isnan(probability)]
    if not len(probability):
        return [1.0]
    shares = np.linspace(0.0, 1.0, MOST_SPECULATION_CUTS + 2)[1:]
    return [*(float(at) for at in np.unique(np.quantile(probability, shares)) if at < 1.0), 1.0]


def _with_speculation(candidate: Candidate, at: float | None) -> Candidate:
    first, *others = candidate.cascade.tiers
    cascade = replace(candidate.cascade, tiers=(replace(first, speculate_below=at), *others))
    return replace(candidate, cascade=cascade)
