"""What went where: counts and sums of runs, by policy, task, key, tier and day, from one pass over the journal."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import sqrt
from typing import Any

from cascade.journal.record import Record
from cascade.result import NOT_ASKED
from evals.common.intervals import Z95

DIMENSIONS = ("policy", "task", "key", "tier", "day")
_STOPPED = ("budget", "max_calls", "max_samples")
MOST_GROUPS = 200
"""Groups of one dimension that are kept apart; further ones are counted together as ``(others)``."""


@dataclass(slots=True)
class Group:
    """The runs of one group.

    Attributes:
        runs: How many there were.
        answered: Of those, how many returned an answer that was accepted, or is the last tier's.
        escalated: How many asked more than one tier.
        stopped: How many a budget or a cap ended.
        failed: How many ended without any answer for another reason.
        usd: What they cost, where known.
        unpriced: How many have an unknown cost.
        compared: How many were answered with both their cost and premium's known.
        premium_usd: What premium alone would have cost for those, estimated.
        saved_usd: Premium's cost less their own, of those: below 0, the cascade cost more.
        seconds: The sum of their latencies.
    """

    runs: int = 0
    answered: int = 0
    escalated: int = 0
    stopped: int = 0
    failed: int = 0
    usd: float = 0.0
    unpriced: int = 0
    compared: int = 0
    premium_usd: float = 0.0
    saved_usd: float = 0.0
    seconds: float = 0.0
    _squares: float = 0.0

    def add(self, record: Record) -> None:
        """Counts a run."""
        self.runs += 1
        self.escalated += sum(a["reason"] not in NOT_ASKED for a in record.attempts) > 1
        self.stopped += record.reason in _STOPPED
        answered = record.tier is not None and (record.accepted or record.reason == "last_tier")
        self.answered += answered
        self.failed += record.tier is None and record.reason not in _STOPPED
        self.seconds += record.latency_s
        if record.cost_usd is None:
            self.unpriced += 1
            return
        self.usd += record.cost_usd
        # What gave no answer to rely on has saved nothing, however cheap it was.
        if answered and record.premium_usd is not None:
            saved = record.premium_usd - record.cost_usd
            self.compared += 1
            self.premium_usd += record.premium_usd
            self.saved_usd += saved
            self._squares += saved * saved

    @property
    def saved_interval(self) -> tuple[float, float] | None:
        """95 % limits of ``saved_usd``, the runs taken as a sample of such traffic; None for fewer than 30 runs."""
        if self.compared < 30:
            return None
        mean = self.saved_usd / self.compared
        variance = max(0.0, self._squares / self.compared - mean * mean)
        half = Z95 * sqrt(variance * self.compared)
        return self.saved_usd - half, self.saved_usd + half

    def to_json(self) -> dict[str, Any]:
        """The group as plain data; shares are of its runs."""
        n = max(self.runs, 1)
        return {
            "runs": self.runs,
            "answered": self.answered,
            "escalated_share": self.escalated / n,
            "stopped": self.stopped,
            "failed": self.failed,
            "usd": self.usd,
            "unpriced": self.unpriced,
            "compared": self.compared,
            "premium_usd": self.premium_usd if self.compared else None,
            "saved_usd": self.saved_usd if self.compared else None,
            "saved_share": self.saved_usd / self.premium_usd if self.premium_usd else None,
            "saved_interval": self.saved_interval,
            "mean_latency_s": self.seconds / n,
        }


@dataclass(slots=True)
class Traffic:
    """All runs of a period, and their groups by dimension."""

    total: Group = field(default_factory=Group)
    groups: dict[str, dict[str, Group]] = field(default_factory=lambda: {name: {} for name in DIMENSIONS})
    task_tiers: dict[tuple[str, str], Group] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        """Counts a run in every dimension."""
        self.total.add(record)
        for name, value in _values(record).items():
            groups = self.groups[name]
            key = value if value in groups or len(groups) < MOST_GROUPS else "(others)"
            groups.setdefault(key, Group()).add(record)
        task = (record.policy, str(record.tags.get("task", "(none)")))
        if task in self.task_tiers or len(self.task_tiers) < MOST_GROUPS:
            self.task_tiers.setdefault(task, Group()).add(record)

    def to_json(self) -> dict[str, Any]:
        """The whole as plain data; groups by their number of runs, days in order."""
        return {
            "total": self.total.to_json(),
            **{
                f"by_{name}": {key: group.to_json() for key, group in sorted(groups.items(), key=_order(name))}
                for name, groups in self.groups.items()
            },
        }


def count(records: Iterable[Record]) -> Traffic:
    """The traffic of a period; gates are left out."""
    traffic = Traffic()
    for record in records:
        if record.kind == "run":
            traffic.add(record)
    return traffic


def _order(name: str) -> Any:
    return (lambda item: item[0]) if name == "day" else (lambda item: (-item[1].runs, item[0]))


def _values(record: Record) -> Mapping[str, str]:
    return {
        "policy": record.policy,
        "task": str(record.tags.get("task", "(none)")),
        "key": str(record.tags.get("key", "(none)")),
        "tier": record.tier or "(no answer)",
        "day": datetime.fromtimestamp(record.started, UTC).date().isoformat(),
    }
