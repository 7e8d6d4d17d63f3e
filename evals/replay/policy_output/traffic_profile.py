"""The profile of a calibration: what runs look like without drift."""

from collections.abc import Sequence
from math import isnan

from cascade import Policy, Result
from cascade.journal.drifts import is_refused
from cascade.promise.drift import form_features, text_of
from cascade.promise.traffic import LEAST_EXAMPLES
from cascade.promise.traffic_events import TrafficRun
from evals.recording import Example

MOST_EXAMPLES = 1_000
"""Examples of a profile, spread evenly over the rows."""


def traffic_profile(policy: Policy, examples: Sequence[Example], results: Sequence[Result]) -> list[str] | None:
    """The profile of a policy.

    Args:
        policy: The policy.
        examples: Rows that it was not tuned on.
        results: What the engine returned for each of them.

    Returns:
        A line for each example; None where there are too few.
    """
    if len(results) < LEAST_EXAMPLES:
        return None
    tiers, step = [tier.name for tier in policy.tiers], -(-len(results) // MOST_EXAMPLES)
    pairs = list(zip(examples, results, strict=True))[::step]
    return [_run(example, result, tiers).to_line() for example, result in pairs]


def _run(example: Example, result: Result, tiers: Sequence[str]) -> TrafficRun:
    attempts = [attempt for attempt in result.attempts if attempt.reason != "skipped"]
    first = attempts[0] if attempts else None
    verdicts = [] if first is None else [{"veto": v.veto, "reason": v.reason} for v in first.verdicts]
    return TrafficRun(
        form=form_features(text_of(example.to_prompt().messages)),
        confidence=None if first is None or first.answer is None else first.confidence,
        tier=tiers.index(result.tier) if result.tier in tiers else None,
        escalated=len(attempts) > 1,
        refused=is_refused(verdicts),
        latency_s=None if isnan(result.latency_s) else result.latency_s,
        cost_usd=None if result.cost_usd is None or isnan(result.cost_usd) else result.cost_usd,
    )
