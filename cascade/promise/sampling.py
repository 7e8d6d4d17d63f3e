"""The probability with which a run is sampled for shadowing: decided before anything is known of its quality."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

_RANDOM_DIGITS = 13  # of a run's id, at its end: 52 random bits
_NUMBERS = float(16**_RANDOM_DIGITS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stratum:
    """Runs with certain tags, which have a share of their own.

    Attributes:
        tags: What a run's tags must hold.
        share: The largest probability of such a run.
    """

    tags: Mapping[str, Any]
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingDesign:
    """The sampling probabilities of a policy's runs.

    A run whose confidence is just at its threshold, or that was not accepted, has the share of the first stratum that it
    belongs to, else ``share``. A surer one has less, in proportion to the root of the doubt that is left, but at least
    ``floor``: estimates weigh a run by 1 / probability, and the floor bounds that.

    Attributes:
        share: The largest probability, in (0, 1].
        floor: The smallest probability of any run, in (0, share].
        strata: Kinds of runs with a share of their own, in order.
    """

    share: float
    floor: float
    strata: tuple[Stratum, ...] = ()

    def probability(self, confidence: float, threshold: float | None, tags: Mapping[str, Any]) -> float:
        """The probability of one run, in [floor, 1].

        Args:
            confidence: The confidence of the answer returned, in [0, 1].
            threshold: The confidence from which on its tier accepts; None where the run was not accepted.
            tags: The run's tags.
        """
        share = self.share
        for stratum in self.strata:
            if all(tags.get(name) == value for name, value in stratum.tags.items()):
                share = stratum.share
                break
        if threshold is None or threshold >= 1.0 or self.floor == share:
            return share
        doubt = (1.0 - confidence) / (1.0 - threshold)
        return max(self.floor, share * sqrt(min(max(doubt, 0.0), 1.0)))


def is_sampled(run_id: str, probability: float) -> bool:
    """Whether a run is in the sample, by the random digits of its id: anyone who has the record comes to the same answer."""
    return int(run_id[-_RANDOM_DIGITS:], 16) < probability * _NUMBERS
