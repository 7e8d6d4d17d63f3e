"""What went where: counts and sums of runs, by policy, task, key, tier and day."""

from dataclasses import dataclass, field, fields
from math import sqrt
from typing import Any

from evals.common.intervals import Z95

DIMENSIONS = ("policy", "task", "key", "tier", "day")
MOST_GROUPS = 200
"""Groups of one dimension that are kept apart; further ones are counted together as ``(others)``."""


@dataclass(slots=True)
class Group:
    """The runs of one group.

    Attributes:
        runs: How many there were.
        answered: Of those, how many returned an answer that was accepted, or is the last tier's.
        escalated: How many asked more than one tier.
        early: How many were answered by the only tier that they asked.
        stopped: How many a budget or a cap ended.
        failed: How many ended without any answer for another reason.
        usd: What they cost, where known.
        unpriced: How many have an unknown cost.
        compared: How many were answered with both their cost and premium's known.
        measured: For how many of those premium's cost was measured, by shadowing.
        premium_usd: What premium alone would have cost for those: measured, or else estimated.
        saved_usd: Premium's cost less their own, of those: below 0, the cascade cost more.
        seconds: The sum of their latencies.
        squares: The sum of squares of what the compared runs saved.
    """

    runs: int = 0
    answered: int = 0
    escalated: int = 0
    early: int = 0
    stopped: int = 0
    failed: int = 0
    usd: float = 0.0
    unpriced: int = 0
    compared: int = 0
    measured: int = 0
    premium_usd: float = 0.0
    saved_usd: float = 0.0
    seconds: float = 0.0
    squares: float = 0.0

    def add(self, other: "Group") -> None:
        """Adds the runs of another group."""
        for field_name in _FIELDS:
            setattr(self, field_name, getattr(self, field_name) + getattr(other, field_name))

    @property
    def saved_interval(self) -> tuple[float, float] | None:
        """95 % limits of ``saved_usd``, the runs taken as a sample of such traffic; None for fewer than 30 runs."""
        if self.compared < 30:
            return None
        mean = self.saved_usd / self.compared
        variance = max(0.0, self.squares / self.compared - mean * mean)
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
            "premium_measured": self.measured,
            "premium_usd": self.premium_usd if self.compared else None,
            "saved_usd": self.saved_usd if self.compared else None,
            "saved_share": self.saved_usd / self.premium_usd if self.premium_usd else None,
            "saved_interval": self.saved_interval,
            "mean_latency_s": self.seconds / n,
        }


_FIELDS = tuple(one.name for one in fields(Group))


@dataclass(slots=True)
class Traffic:
    """All runs of a period, and their groups by dimension."""

    total: Group = field(default_factory=Group)
    groups: dict[str, dict[str, Group]] = field(default_factory=lambda: {name: {} for name in DIMENSIONS})
    task_tiers: dict[tuple[str, str], Group] = field(default_factory=dict)

    def add(self, group: Group, **values: str) -> None:
        """Adds runs that have the same value in every dimension.

        Args:
            group: The runs.
            values: The value of each of ``DIMENSIONS``.
        """
        self.total.add(group)
        for name in DIMENSIONS:
            groups, value = self.groups[name], values[name]
            key = value if value in groups or len(groups) < MOST_GROUPS else "(others)"
            groups.setdefault(key, Group()).add(group)
        task = (values["policy"], values["task"])
        if task in self.task_tiers or len(self.task_tiers) < MOST_GROUPS:
            self.task_tiers.setdefault(task, Group()).add(group)

    def to_json(self) -> dict[str, Any]:
        """The whole as plain data; groups by their number of runs, days in order."""
        return {
            "total": self.total.to_json(),
            **{
                f"by_{name}": {key: group.to_json() for key, group in sorted(groups.items(), key=_order(name))}
                for name, groups in self.groups.items()
            },
        }


def _order(name: str) -> Any:
    return (lambda item: item[0]) if name == "day" else (lambda item: (-item[1].runs, item[0]))
