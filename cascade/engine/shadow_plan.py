"""A policy's key ``shadow``, ready to use: which runs are sampled, and which tiers a sampled run still has to ask."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cascade.policy.schema import Policy, ShadowSpec
from cascade.promise.sampling import SamplingDesign, Stratum
from cascade.result import Attempt, Result


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowPlan:
    """What a policy says of shadowing.

    Attributes:
        spec: The policy's key.
        design: The sampling probabilities.
        tiers: The tiers that a sampled run must have answers of, in the policy's order.
        thresholds: The confidence from which on each tier accepts, by its name.
    """

    spec: ShadowSpec
    design: SamplingDesign
    tiers: tuple[str, ...]
    thresholds: Mapping[str, float]

    @classmethod
    def of(cls, policy: Policy) -> "ShadowPlan | None":
        """The plan of a policy; None where it shadows nothing."""
        spec = policy.shadow
        if spec is None or len(policy.tiers) == 1:
            return None
        strata = tuple(Stratum(tags=dict(stratum.tags), share=stratum.share) for stratum in spec.strata)
        names = [tier.name for tier in policy.tiers]
        return cls(
            spec=spec,
            design=SamplingDesign(share=spec.share, floor=spec.least_share, strata=strata),
            tiers=tuple(names if spec.tiers is None else [name for name in names if name in spec.tiers]),
            thresholds={tier.name: tier.thresholds.final for tier in policy.tiers},
        )

    def probability(self, result: Result, tags: Mapping[str, Any]) -> float:
        """The probability with which a run is sampled, from its result and its tags."""
        threshold = self.thresholds[result.tier] if result.accepted else None
        return self.design.probability(result.confidence, threshold, tags)

    def missing(self, attempts: Iterable[Attempt]) -> Sequence[str]:
        """The tiers of ``tiers`` that gave no answer in a run."""
        answered = {attempt.tier for attempt in attempts if attempt.answer is not None}
        return [name for name in self.tiers if name not in answered]
