"""A cascade's every threshold vector with what the fit rows predict of it, and one of them as a candidate."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .simulate import Outcome, SimulatedCascade

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidate:
    """A ladder with its thresholds, and what the fit rows predict of it: mean loss, its variance a row, mean USD."""

    cascade: SimulatedCascade
    thresholds: tuple[float, ...]
    loss: float
    variance: float
    usd: float
    last_accept_at: float = 0.0

    def outcome(self, rows: Rows) -> Outcome:
        """What it does on ``rows``."""
        return self.cascade.outcome(self.thresholds, rows, self.last_accept_at)


@dataclass(frozen=True, slots=True, eq=False)
class SweepResult:
    """One cascade's every threshold vector, in row-major order: what the fit rows predict of it.

    ``loss``, ``square`` and ``usd`` (vectors,) are mean loss, mean squared loss and mean USD; ``cuts`` has one array of
    thresholds for each tier but the last.
    """

    cascade: SimulatedCascade
    cuts: tuple[Array, ...]
    loss: Array
    square: Array
    usd: Array

    def variance(self, limit: float) -> Array:
        """(vectors,): the variance of a row's loss where the mean loss is ``limit``, the case that a test must exclude."""
        return np.maximum(self.square - max(limit, 0.0) ** 2, 1e-6)

    def margin(self, limit: float, n: int) -> Array:
        """(vectors,): by how many standard errors of ``n`` rows each vector is predicted to keep the limit."""
        return (limit - self.loss) / np.sqrt(self.variance(limit) / max(n, 1))

    def candidate(self, flat: int, limit: float) -> Candidate:
        """The vector at a flat index, with its predicted variance at ``limit``."""
        at = np.unravel_index(flat, tuple(len(c) for c in self.cuts)) if self.cuts else ()
        thresholds = tuple(float(c[g]) for c, g in zip(self.cuts, at, strict=True))
        return Candidate(
            cascade=self.cascade,
            thresholds=thresholds,
            loss=float(self.loss[flat]),
            variance=float(self.variance(limit)[flat]),
            usd=float(self.usd[flat]),
        )
