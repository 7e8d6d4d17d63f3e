"""At most five changes that the audit proposes, each with its price, its effect and the lines for the policy file."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade.policy.schema import Policy
from cascade.promise.states import PromiseState

from .quality import PolicyQuality
from .traffic import Traffic

MOST = 5
_LEAST_RUNS = 50
_RARELY, _OFTEN_STOPPED = 0.1, 0.05
_WASTED = 0.5
_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A proposed change.

    Attributes:
        title: What to change.
        price: What it costs or saves.
        effect: What it is for, with its interval where there is one.
        lines: For the policy file.
    """

    title: str
    price: str
    effect: str
    lines: str

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"title": self.title, "price": self.price, "effect": self.effect, "lines": self.lines}


def changes(
    traffic: Traffic,
    qualities: Mapping[str, PolicyQuality],
    states: Mapping[str, PromiseState],
    policies: Mapping[str, Policy],
) -> list[Change]:
    """The changes, the most urgent first.

    Args:
        traffic: The period.
        qualities: The labels by policy.
        states: The states of promises by policy.
        policies: The policy file's policies by name.
    """
    proposals: list[Change] = []
    for name, policy in policies.items():
        quality, state = qualities.get(name), states.get(name)
        if quality is not None and state in (PromiseState.IN_DOUBT, PromiseState.BROKEN):
            change = _raise_threshold(name, policy, quality)
            if change is not None:
                proposals.append(change)
    for name, group in traffic.groups["policy"].items():
        if group.runs >= _LEAST_RUNS and group.stopped / group.runs > _OFTEN_STOPPED:
            proposals.append(
                Change(
                    title=f"{name}: give it a larger budget",
                    price="up to what the stopped runs would have cost",
                    effect=f"{group.stopped} of {group.runs} runs were stopped by a budget or a cap",
                    lines=f"policies:\n  {name}:\n    budget_usd: # higher, or budget_usd_per_day, max_calls",
                )
            )
    for (name, task), group in traffic.task_tiers.items():
        known_policy = policies.get(name)
        ended = group.runs - group.stopped - group.failed  # what a budget stopped says nothing of the tiers
        if (
            known_policy is not None
            and len(known_policy.tiers) > 1
            and ended >= _LEAST_RUNS
            and group.early / ended < _RARELY
        ):
            last = known_policy.tiers[-1]
            lost = -group.saved_usd / group.compared * 1_000 if group.compared else None
            price = "unknown: costs are not priced" if lost is None else f"{lost:+.4f} USD saved per 1,000 runs, estimated"
            proposals.append(
                Change(
                    title=f"{name}: start task {task} at {last.name}",
                    price=price,
                    effect=f"the first tier was enough in {group.early} of {ended} runs of this task",
                    lines=f"policies:\n  {name}-{task}:  # for the calls of this task\n"
                    f"    tiers: [{{name: {last.name}, model: {last.model}}}]",
                )
            )
    for name, quality in qualities.items():
        known_policy = policies.get(name)
        if known_policy is not None and len(known_policy.tiers) > 1 and quality.escalated >= _LEAST_RUNS:
            share = quality.useless / quality.escalated
            if share > _WASTED:
                proposals.append(
                    Change(
                        title=f"{name}: retune its thresholds, most escalations change nothing",
                        price=f"{quality.useless_usd:.4f} USD were spent on them in this period",
                        effect=f"in {quality.useless} of {quality.escalated} of these runs the first tier had said the same",
                        lines="cascade replay shadowed.recording.jsonl --policy-file policies.yaml",
                    )
                )
    return proposals[:MOST]


def _raise_threshold(name: str, policy: Policy, quality: PolicyQuality) -> Change | None:
    """The lowest threshold of the first tier that brings the estimated loss below the promise; None where none does."""
    total, promise = quality.loss(), policy.promise
    if total is None or promise is None or promise.max_loss is None or len(policy.tiers) < 2:
        return None
    confidences = np.nan_to_num(np.array(quality.confidences), nan=2.0)  # premium's own answers are below no threshold
    used = np.sort(confidences[confidences <= 1.0])
    if not len(used):
        return None
    steps = [float(used[int(share * len(used))]) for share in _SHARES] + [min(1.0, float(np.nextafter(used[-1], 2.0)))]
    for threshold in steps:
        avoided = quality.loss(below=threshold)
        if avoided is None or total.mean - avoided.mean > promise.max_loss:
            continue
        moved = float((confidences < threshold).mean())
        premiums = np.array(quality.premiums)
        known_premiums = premiums[~np.isnan(premiums)]
        price = (
            f"{1_000 * moved * float(known_premiums.mean()):.4f} USD more per 1,000 runs"
            if len(known_premiums)
            else "premium's cost"
        )
        tier = policy.tiers[0].name
        return Change(
            title=f"{name}: accept less at {tier}, from a confidence of {threshold:.3f} on",
            price=f"{price}: {moved:.0%} of the runs escalate in addition",
            effect=f"the mean loss falls by {avoided.mean:.4f} (95 %: {avoided.lower:.4f} to {avoided.upper:.4f}), "
            f"from {total.mean:.4f}",
            lines=f"policies:\n  {name}:\n    tiers:\n      - {{name: {tier}, accept_at: {threshold:.4f}}}",
        )
    return None
