"""What quality was lost, by the labels of sampled runs; which escalations were useless, and which acceptances cost most."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np

from cascade.journal.record import Record
from cascade.promise.sampling import is_sampled
from judges.equivalence import key
from judges.types import content_text

from .estimate import Estimate, estimate_mean
from .people import PeopleEstimate

MOST_LINES = 10
"""Costly acceptances that are shown."""


@dataclass(slots=True, kw_only=True)
class Acceptance:
    """An accepted answer that premium's was better than."""

    run_id: str
    loss: float
    confidence: float | None
    prompt: str | None
    returned: str | None
    premium: str | None

    def to_json(self) -> dict[str, Any]:
        """Plain data; texts only where the journal has them."""
        return {
            "run_id": self.run_id,
            "loss": self.loss,
            "confidence": self.confidence,
            "prompt": self.prompt,
            "returned": self.returned,
            "premium": self.premium,
        }


class QualityRow(NamedTuple):
    """What the estimates read of a run.

    Attributes:
        run_id: The run.
        tier: Whose answer it returned; None: it returned none.
        confidence: That of the answer.
        premium_usd: What premium would have cost, estimated.
        probability: That with which the run was to be sampled; None: its policy samples none.
        loss: Its label.
        measured_usd: What premium did cost, where it was shadowed.
    """

    run_id: str
    tier: str | None
    confidence: float | None
    premium_usd: float | None
    probability: float | None
    loss: float | None
    measured_usd: float | None


@dataclass(slots=True)
class PolicyQuality:
    """The labels of one policy's runs, in the order of the runs.

    Attributes:
        share_read: The share of all runs that ``add`` gets, chosen by their ids' random digits, with all that are sampled.
        sampled: How many runs are in the sample.
        costly: The accepted answers with the largest losses.
        escalated: Escalated runs whose texts are known.
        useless: Of those, how many returned what the first tier had said.
        useless_usd: What their later tiers cost.
        estimated_usd: Premium's estimated cost, of runs that were shadowed.
        measured_usd: Premium's measured cost, of the same runs.
        measured: How many they are.
        people: The mean loss by what people said of runs; None where they looked at too few.
    """

    share_read: float = 1.0
    sampled: int = 0
    costly: list[Acceptance] = field(default_factory=list)
    escalated: int = 0
    useless: int = 0
    useless_usd: float = 0.0
    estimated_usd: float = 0.0
    measured_usd: float = 0.0
    measured: int = 0
    people: PeopleEstimate | None = None
    losses: "array[float]" = field(default_factory=lambda: array("d"))
    probabilities: "array[float]" = field(default_factory=lambda: array("d"))
    predictions: "array[float]" = field(default_factory=lambda: array("d"))
    confidences: "array[float]" = field(default_factory=lambda: array("d"))
    premiums: "array[float]" = field(default_factory=lambda: array("d"))
    _losses: dict[tuple[float | None, int], Estimate | None] = field(default_factory=dict)

    def add(self, row: QualityRow, premium_tier: str) -> None:
        """Takes a run into account."""
        if row.probability is None or row.tier is None:
            return
        self.sampled += is_sampled(row.run_id, row.probability)
        kept_cheap = row.tier != premium_tier
        doubt = 1.0 - (row.confidence if row.confidence is not None else 0.5)
        self.losses.append(float("nan") if row.loss is None else row.loss)
        self.probabilities.append(min(1.0, row.probability / self.share_read))
        self.predictions.append(doubt if kept_cheap else 0.0)
        self.confidences.append(row.confidence if kept_cheap and row.confidence is not None else float("nan"))
        measured = row.measured_usd
        self.premiums.append(measured if measured is not None else row.premium_usd or float("nan"))
        if measured is not None and row.premium_usd is not None:
            self.measured += 1
            self.measured_usd += measured
            self.estimated_usd += row.premium_usd

    def add_escalation(self, attempts: Sequence[Mapping[str, Any]]) -> None:
        """Takes a run into account that asked several tiers; those without stored answers do not count."""
        answers = [attempt["answer"]["text"] for attempt in attempts if "answer" in attempt]
        if len(answers) > 1:
            self.escalated += 1
            if key(answers[0], "auto") == key(answers[-1], "auto"):
                self.useless += 1
                self.useless_usd += sum(attempt["cost_usd"] or 0.0 for attempt in attempts[1:])

    def show(self, acceptances: Sequence[Acceptance]) -> None:
        """Shows the costliest of these acceptances."""
        self.costly = sorted(acceptances, key=lambda one: (-one.loss, -(one.confidence or 0.0)))[:MOST_LINES]

    @property
    def labels(self) -> int:
        """How many runs have a label."""
        return int((~np.isnan(np.array(self.losses))).sum())

    def loss(self, below: float | None = None) -> Estimate | None:
        """The mean loss over all runs; None without a label.

        Sampled runs without a label are taken to be missing at random, so that the others count for them.

        Args:
            below: Count only losses of accepted answers with a confidence below this; None: all.
        """
        key_of = (below, len(self.losses))  # several readers ask, and it takes seconds where there are many labels
        if key_of not in self._losses:
            self._losses[key_of] = self._estimate(below)
        return self._losses[key_of]

    def _estimate(self, below: float | None) -> Estimate | None:
        values, labels = np.array(self.losses), self.labels
        if not labels:
            return None
        if below is not None:
            # A confidence that is missing (premium's own answers) is not below anything.
            counts = np.nan_to_num(np.array(self.confidences), nan=2.0) < below
            values = np.where(np.isnan(values), np.nan, np.where(counts, values, 0.0))
        share = min(1.0, labels / max(self.sampled, 1))
        return estimate_mean(values, np.array(self.probabilities) * share, np.array(self.predictions))

    def to_json(self) -> dict[str, Any]:
        """Plain data; what is unknown is null."""
        loss = self.loss()
        return {
            "sampled": self.sampled,
            "labels": self.labels,
            "loss": None if loss is None else loss.mean,
            "loss_interval": None if loss is None else [loss.lower, loss.upper],
            "loss_by_people": None if self.people is None else asdict(self.people),
            "escalated_with_text": self.escalated,
            "useless_escalations": self.useless,
            "useless_usd": self.useless_usd,
            "premium_measured": self.measured,
            "premium_measured_to_estimated": self.measured_usd / self.estimated_usd if self.estimated_usd else None,
            "costly_acceptances": [one.to_json() for one in self.costly],
        }


def acceptance_of(record: Record, loss: float, premium_tier: str) -> Acceptance:
    """An accepted answer with its texts, where they are stored."""
    prompt = returned = None
    if record.prompt is not None:
        prompt = next(
            (content_text(m.get("content")) for m in reversed(record.prompt["messages"]) if m.get("role") == "user"),
            None,
        )
    for attempt in record.attempts:
        if attempt["tier"] == record.tier and "answer" in attempt:
            returned = attempt["answer"]["text"]
    premium = next(
        (
            s["answer"]["text"]
            for s in record.shadows
            if s["tier"] == premium_tier and s["state"] == "done" and "answer" in s
        ),
        None,
    )
    return Acceptance(
        run_id=record.run_id,
        loss=loss,
        confidence=record.confidence,
        prompt=prompt,
        returned=returned,
        premium=premium,
    )
