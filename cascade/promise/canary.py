"""Is a candidate calibration worse than the present one? By the labels of sampled runs of both, at any time.

Each run has the candidate with probability ``share``, by a hash. A label counts in inverse proportion to the probability of
its calibration, losses of the present one with their sign turned: the mean of these values is the difference of the two mean
losses, whatever happens to both over time. Two e-processes bet on it: one against "the candidate is no worse", one against
"it is worse by ``max_worse`` or more".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import log, sqrt
from typing import Any

from .e_process import STEADY_BETS, Bet, EProcess

CANARY_BETS = (Bet(0.5, 0.0, 1.0), Bet(0.2, 0.0, 1.0), Bet(0.07, 0.0, 0.5))


class CanaryVerdict(StrEnum):
    """What the evidence so far says of a candidate."""

    WORSE = "worse"
    NO_WORSE = "no worse"
    NOT_ENOUGH = "not enough evidence"


@dataclass(slots=True)
class ArmSums:
    """The labels of one calibration: how many, their weights, weighted losses and squared losses."""

    n: int = 0
    weight: float = 0.0
    loss: float = 0.0
    square: float = 0.0

    @property
    def mean_loss(self) -> float | None:
        """The weighted mean loss; None before the first label."""
        return self.loss / self.weight if self.weight else None


class CanaryComparison:
    """Compares two calibrations by the labels that come in.

    Args:
        share: The probability with which a run has the candidate, in (0, 1).
        max_worse: The largest increase of the mean loss with which a candidate may still be promoted, in (0, 1).
        alpha: The probability of ever calling a candidate worse that is not; and of ever calling one no worse that is
            worse by ``max_worse``.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(self, *, share: float, max_worse: float, alpha: float = 0.05) -> None:
        for name, value in (("share", share), ("max_worse", max_worse), ("alpha", alpha)):
            if not 0.0 < value < 1.0:
                raise ValueError(f"{name} must lie between 0 and 1, got {value!r}")
        self.share, self.max_worse, self.alpha = share, max_worse, alpha
        # Of a pair of labels, one of each calibration, both limits count: so each is half of the difference's.
        self._worse = EProcess(0.0, bets=CANARY_BETS)
        self._no_worse = EProcess(-0.5 * max_worse, bets=STEADY_BETS)
        self.candidate, self.present = ArmSums(), ArmSums()

    def add(self, loss: float, weight: float = 1.0, *, candidate: bool) -> CanaryVerdict:
        """Takes a labelled run into account.

        Args:
            loss: Premium's quality less that of the answer returned, in [-1, 1].
            weight: The floor of the sampling probabilities over this run's, in (0, 1].
            candidate: Whether the run had the candidate.

        Returns:
            The verdict with this label.

        Raises:
            ValueError: The loss or the weight is out of range.
        """
        smaller = min(self.share, 1.0 - self.share)
        balanced = weight * smaller / (self.share if candidate else 1.0 - self.share)
        value = loss if candidate else -loss
        self._worse.update(value, balanced)
        self._no_worse.update(-value, balanced)
        sums = self.candidate if candidate else self.present
        sums.n += 1
        sums.weight += weight
        sums.loss += weight * loss
        sums.square += (weight * loss) ** 2
        return self.verdict

    @property
    def verdict(self) -> CanaryVerdict:
        """What the labels so far say; it stays once it is worse."""
        if self._worse.rejects(self.alpha):
            return CanaryVerdict.WORSE
        return CanaryVerdict.NO_WORSE if self._no_worse.rejects(self.alpha) else CanaryVerdict.NOT_ENOUGH

    @property
    def n(self) -> int:
        """How many labels were taken into account."""
        return self._worse.n

    @property
    def difference(self) -> float | None:
        """The candidate's mean loss less the present one's; None before both have a label."""
        candidate, present = self.candidate.mean_loss, self.present.mean_loss
        return None if candidate is None or present is None else candidate - present

    @property
    def labels_needed(self) -> int | None:
        """Roughly how many more labels like those so far show that it is no worse; None where no number would do."""
        if self.verdict is not CanaryVerdict.NOT_ENOUGH:
            return 0 if self.verdict is CanaryVerdict.NO_WORSE else None
        room = self.max_worse - (self.difference or 0.0)
        if room <= 0.0:
            return None
        variance = sum(
            (sums.square / sums.weight if sums.weight else self.max_worse) / probability
            for sums, probability in ((self.candidate, self.share), (self.present, 1.0 - self.share))
        )
        left = -log(self.alpha) - min(0.0, self._no_worse.log_value)
        return max(1, round(2.0 * left * variance / room**2 + left / sqrt(room)))

    def to_json(self) -> dict[str, Any]:
        """The state as plain data."""
        return {
            "share": self.share,
            "max_worse": self.max_worse,
            "alpha": self.alpha,
            "worse": self._worse.to_json(),
            "no_worse": self._no_worse.to_json(),
            "arms": [[sums.n, sums.weight, sums.loss, sums.square] for sums in (self.candidate, self.present)],
        }

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> "CanaryComparison":
        """The comparison whose state ``to_json`` gave. Raises KeyError or ValueError for another state."""
        share, max_worse = float(state["share"]), float(state["max_worse"])
        comparison = cls(share=share, max_worse=max_worse, alpha=float(state["alpha"]))
        comparison._worse = EProcess.from_json(state["worse"], CANARY_BETS)
        comparison._no_worse = EProcess.from_json(state["no_worse"], STEADY_BETS)
        comparison.candidate, comparison.present = (ArmSums(int(n), *map(float, sums)) for n, *sums in state["arms"])
        return comparison
