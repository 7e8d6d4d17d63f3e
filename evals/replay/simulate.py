"""A ladder over the score table: what would be returned and paid, row by row, as ``cascade.engine.decide`` decides it.

This is the numpy twin of the engine; a property test holds the two equal on random tables with ties, vetoes and missing
scores, and every chosen policy is run through the engine itself before it is written.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cascade.policy.calibrators import Calibrator

from .score_table import TierScores
from .threshold_sweep import TierCuts

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class CandidateTier:
    """A tier that may stand on a ladder: a model's column, the fitted mappings, the thresholds of all stages but the last.

    ``calibrators`` (S + 1, for each judge prefix) gave ``confidence`` (n, S + 1). ``accept_at`` and ``reject_below`` (S)
    decide before a dearer judge is asked; their last entries are None, since the last stage is the ladder's threshold.
    """

    column: TierScores
    calibrators: tuple[Calibrator, ...]
    confidence: Array
    accept_at: tuple[float | None, ...]
    reject_below: tuple[float | None, ...]

    @property
    def model(self) -> str:
        """The model's name in the recording."""
        return self.column.model

    @property
    def rules(self) -> list[dict[str, Any]]:
        """The judges as a policy writes them, with the stages' thresholds."""
        return [
            {**rule, **{k: v for k, v in (("accept_at", a), ("reject_below", r)) if v is not None}}
            for rule, a, r in zip(self.column.rules, self.accept_at, self.reject_below, strict=True)
        ]


@dataclass(frozen=True, slots=True, eq=False)
class TierOutcome:
    """How a step's judging ends, row by row (n,): at the last stage, or where a veto or a stage's thresholds end it before.

    ``sure`` is 1 where a stage accepted early, -1 where one gave up early or a veto fell, else 0: the threshold decides.
    """

    confidence: Array
    sure: npt.NDArray[np.int8]
    vetoed: Flags
    quality: Array
    cost_usd: Array
    latency_s: Array
    said: Ints

    @property
    def reach(self) -> Array:
        """The confidence that a threshold in [0, 1] meets: 1 where accepted early, -inf where given up."""
        return np.where(self.sure > 0, 1.0, np.where(self.sure < 0, -np.inf, self.confidence))


def settle(step: CandidateTier) -> TierOutcome:
    """Walks the stages as ``cascade.engine.decide`` does."""
    column = step.column
    n, last = len(column.vetoed), column.scores.shape[1]
    at, sure = np.full(n, last), np.zeros(n, dtype=np.int8)
    going = np.ones(n, dtype=bool)
    for stage in range(last):
        here = stage + 1
        fallen = going & column.vetoed[:, here]
        at[fallen], sure[fallen] = here, -1
        going &= ~fallen
        if here == last:
            break
        p, up, low = step.confidence[:, here], step.accept_at[stage], step.reject_below[stage]
        taken = going & (p >= up) if up is not None else np.zeros(n, dtype=bool)
        at[taken], sure[taken] = here, 1
        going &= ~taken
        dropped = going & (p < low) if low is not None else np.zeros(n, dtype=bool)
        at[dropped], sure[dropped] = here, -1
        going &= ~dropped
    rows = np.arange(n)
    return TierOutcome(
        step.confidence[rows, at],
        sure,
        column.vetoed[rows, at],
        column.quality[rows, at],
        column.cost_usd[rows, at],
        column.latency_s[rows, at],
        column.said[rows, at],
    )


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a ladder does on m rows: each (m,). ``tier`` is the place on the ladder of the answer that is returned."""

    quality: Array
    cost_usd: Array
    latency_s: Array
    tier: Ints
    asked: Ints
    confidence: Array
    accepted: Flags


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedCascade:
    """Tiers in order. ``final``: "last" returns the last tier's answer where none was accepted, "best" the surest of all."""

    steps: tuple[CandidateTier, ...]
    settled: tuple[TierOutcome, ...]
    final: str = "last"

    @classmethod
    def of(cls, steps: Sequence[CandidateTier], final: str = "last") -> "SimulatedCascade":
        """A ladder of these steps, settled."""
        return cls(tuple(steps), tuple(settle(step) for step in steps), final)

    @property
    def models(self) -> tuple[str, ...]:
        """The models in order."""
        return tuple(step.model for step in self.steps)

    def with_final(self, final: str) -> "SimulatedCascade":
        """The same tiers with another final rule."""
        return replace(self, final=final)

    def end(self) -> Ints:
        """(n,): the place of the answer returned where no tier but perhaps the last accepts, by ``engine.best``."""
        vetoed = np.stack([s.vetoed for s in self.settled], axis=1)
        confidence = np.stack([s.confidence for s in self.settled], axis=1)
        # An answer without a veto before one with, then the surest, then the highest tier.
        ranked = np.where(vetoed, confidence - 2.0, confidence)[:, ::-1]
        best = len(self.steps) - 1 - np.argmax(ranked, axis=1)
        if self.final == "best":
            return np.asarray(best, dtype=np.int64)
        return np.where(vetoed[:, -1], best, len(self.steps) - 1).astype(np.int64)

    def rungs(self, rows: Ints, quality: Sequence[Array] | None = None) -> list[TierCuts]:
        """What the frontier sweeps; ``quality`` (one (n,) a step) stands in for the recorded one."""
        given = [s.quality for s in self.settled] if quality is None else list(quality)
        end = np.choose(self.end(), given)[rows]
        return [
            TierCuts(s.reach[rows], end if i == len(self.steps) - 1 else given[i][rows], s.cost_usd[rows])
            for i, s in enumerate(self.settled)
        ]

    def outcome(self, thresholds: Sequence[float], rows: Ints, last_at: float = 0.0) -> Outcome:
        """Every row's result. ``thresholds``: one for each tier but the last, whose own is ``last_at``."""
        m, last = len(rows), len(self.steps) - 1
        tier, asked = self.end()[rows], np.full(m, last)
        cost, latency = np.zeros(m), np.zeros(m)
        open_ = np.ones(m, dtype=bool)
        accepted = np.zeros(m, dtype=bool)
        for i, settled in enumerate(self.settled):
            cost[open_] += settled.cost_usd[rows][open_]
            latency[open_] += settled.latency_s[rows][open_]
            if i == last:
                break
            taken = open_ & (settled.reach[rows] >= thresholds[i])
            tier[taken], asked[taken], accepted[taken] = i, i, True
            open_ &= ~taken
        quality = np.choose(tier, [s.quality[rows] for s in self.settled])
        confidence = np.choose(tier, [s.confidence[rows] for s in self.settled])
        vetoed = np.choose(tier, [s.vetoed[rows] for s in self.settled])
        unsure = open_ & (tier == last) if self.final == "last" else open_
        accepted |= unsure & ~vetoed & (confidence >= last_at)
        if last_at > 0.0 and self.final == "last":
            # The engine returns the best answer so far, marked as not accepted, where the last tier's is not sure enough.
            best = self.with_final("best").end()[rows]
            weak = open_ & ~accepted
            tier = np.where(weak, best, tier)
            quality = np.choose(tier, [s.quality[rows] for s in self.settled])
            confidence = np.choose(tier, [s.confidence[rows] for s in self.settled])
        return Outcome(quality, cost, latency, tier, asked, confidence, accepted)
