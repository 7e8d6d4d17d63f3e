"""The state of one promise, "the mean loss against premium is at most ``max_loss``", from the labels that come in."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import ceil, log, log1p
from typing import Any

from .e_process import STEADY_BETS, EDetector, EProcess

DOUBT_RUN_LENGTH = 1_000
"""The average number of labels until a stream that is exactly at the promise is doubted, at least."""


class PromiseState(StrEnum):
    """What the evidence so far says of a promise."""

    HOLDS = "kept"
    NOT_ENOUGH = "not enough evidence"
    IN_DOUBT = "in doubt"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """A promise about the mean loss.

    Attributes:
        max_loss: The largest mean of premium's quality less the cascade's, in (0, 1).
        delta: The largest probability of ever calling a kept promise broken; and of ever calling a broken one kept.
    """

    max_loss: float
    delta: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 < self.max_loss < 1.0:
            raise ValueError(f"max_loss must lie between 0 and 1, got {self.max_loss!r}")
        if not 0.0 < self.delta < 1.0:
            raise ValueError(f"delta must lie between 0 and 1, got {self.delta!r}")


class PromiseTracker:
    """Follows one promise over the labelled runs of a sample.

    Broken: the e-process against "the mean loss is at most max_loss" ever reached 1 / delta; that stays until a new tracker
    begins. In doubt: that e-process stands at 1 / sqrt(delta) or more, half the way on the scale of logarithms, or the
    e-detector, which forgives the distant past, at DOUBT_RUN_LENGTH. Kept: the e-process against "the mean loss is at least
    max_loss" ever reached 1 / delta. Otherwise there is not enough evidence.

    Args:
        promise: The promise.
    """

    def __init__(self, promise: Promise) -> None:
        self.promise = promise
        self.broken_evidence = EProcess(promise.max_loss)
        self.kept_evidence = EProcess(-promise.max_loss, bets=STEADY_BETS)  # of gains: losses with their sign turned
        self._detector = EDetector(promise.max_loss)
        self._sum = self._squares = self._weight = 0.0

    def add(self, loss: float, weight: float = 1.0) -> PromiseState:
        """Takes a labelled run into account.

        Args:
            loss: Premium's quality less that of the answer returned, in [-1, 1].
            weight: The floor of the sampling probabilities over this run's, in (0, 1].

        Returns:
            The state with this label.

        Raises:
            ValueError: The loss or the weight is out of range.
        """
        self.broken_evidence.update(loss, weight)
        self.kept_evidence.update(-loss, weight)
        self._detector.update(loss, weight)
        self._sum += weight * loss
        self._squares += weight * loss * loss
        self._weight += weight
        return self.state

    @property
    def n(self) -> int:
        """How many labels were taken into account."""
        return self.broken_evidence.n

    @property
    def mean_loss(self) -> float | None:
        """The weighted mean loss of the labels; None before the first."""
        return self._sum / self._weight if self._weight else None

    @property
    def state(self) -> PromiseState:
        """The present state."""
        delta, evidence = self.promise.delta, self.broken_evidence
        if evidence.rejects(delta):
            return PromiseState.BROKEN
        if evidence.log_value >= -0.5 * log(delta) or self._detector.log_value >= log(DOUBT_RUN_LENGTH):
            return PromiseState.IN_DOUBT
        return PromiseState.HOLDS if self.kept_evidence.rejects(delta) else PromiseState.NOT_ENOUGH

    @property
    def labels_needed(self) -> int | None:
        """Roughly how many more labels like those so far show that the promise is kept; 0 where they do already.

        None where no number would do: the promise is broken, or the mean loss of the labels is no lower than it allows.
        """
        if self.broken_evidence.rejects(self.promise.delta):
            return None
        if self.kept_evidence.rejects(self.promise.delta):
            return 0
        limit = self.promise.max_loss
        # A few imaginary labels exactly at the promise, so that the first real ones are not taken for the whole truth.
        prior = 10.0
        total = self._weight + prior
        gain = limit - (self._sum + prior * limit) / total if self._weight else limit
        if gain <= 0.0:
            return None
        variance = (self._squares + prior * limit) / total
        share = self._weight / self.n if self.n else 1.0  # an observed value's mean weight
        stake = min(gain / (variance + gain * gain), 0.95 / (1.0 - limit))
        growth = share * max(stake * gain - 0.5 * stake * stake * variance, 1e-9)
        growth = min(growth, log1p(share * stake * limit))
        return max(1, ceil((-log(self.promise.delta) - min(self.kept_evidence.log_value, 0.0)) / growth))

    def to_json(self) -> dict[str, Any]:
        """The tracker's state as plain data."""
        return {
            "max_loss": self.promise.max_loss,
            "delta": self.promise.delta,
            "broken": self.broken_evidence.to_json(),
            "kept": self.kept_evidence.to_json(),
            "detector": self._detector.to_json(),
            "sums": [self._sum, self._squares, self._weight],
        }

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> "PromiseTracker":
        """The tracker whose state ``to_json`` gave. Raises KeyError or ValueError for another state."""
        tracker = cls(Promise(max_loss=float(state["max_loss"]), delta=float(state["delta"])))
        tracker.broken_evidence = EProcess.from_json(state["broken"])
        tracker.kept_evidence = EProcess.from_json(state["kept"], STEADY_BETS)
        tracker._detector = EDetector.from_json(state["detector"])
        tracker._sum, tracker._squares, tracker._weight = map(float, state["sums"])
        return tracker
