"""The figures of a replay, and the one table that shows them."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Line:
    """One way of answering: mean quality, USD per 1,000 questions, latency in seconds; None is unknown, never 0."""

    name: str
    quality: float
    usd_per_1000: float | None
    relative_cost: float | None
    mean_s: float | None
    p95_s: float | None
    shares: Mapping[str, float]


def line(
    name: str,
    quality: Sequence[float],
    usd: Sequence[float | None],
    seconds: Sequence[float | None],
    answered_by: Sequence[str],
    premium_usd: float | None,
) -> Line:
    """The figures of one way of answering n rows. ``premium_usd`` is the premium's mean cost, for the relative cost."""
    n = len(quality)
    mean_usd = mean_or_none(usd)
    known = sorted(s for s in seconds if s is not None)
    complete = len(known) == n
    shares = {tier: answered_by.count(tier) / n for tier in dict.fromkeys(answered_by)}
    return Line(
        name,
        sum(quality) / n,
        None if mean_usd is None else mean_usd * 1000,
        mean_usd / premium_usd if mean_usd is not None and premium_usd else None,
        sum(known) / n if complete else None,
        known[min(n - 1, -(-95 * n // 100) - 1)] if complete else None,
        shares,
    )


def mean_or_none(values: Sequence[float | None]) -> float | None:
    """The mean, or None where any value is unknown."""
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def interval(differences: Sequence[float], seed: int, rounds: int = 2000) -> tuple[float, float]:
    """The 95 % bootstrap interval of the mean of paired differences (percentiles, reproducible by ``seed``)."""
    rng, n = random.Random(seed), len(differences)
    means = sorted(sum(rng.choices(differences, k=n)) / n for _ in range(rounds))
    return means[int(0.025 * rounds)], means[int(0.975 * rounds) - 1]


def render(lines: Sequence[Line], tiers: Sequence[str]) -> str:
    """The table as text, aligned for a terminal."""
    head = ["", "quality", "USD/1000", "cost", "mean s", "p95 s", *(f"by {tier}" for tier in tiers)]
    body = [
        [
            item.name,
            f"{item.quality:.3f}",
            "unknown" if item.usd_per_1000 is None else f"{item.usd_per_1000:.4g}",
            "—" if item.relative_cost is None else f"{100 * item.relative_cost:.0f} %",
            "—" if item.mean_s is None else f"{item.mean_s:.2f}",
            "—" if item.p95_s is None else f"{item.p95_s:.2f}",
            *(f"{100 * item.shares[t]:.0f} %" if t in item.shares else "—" for t in tiers),
        ]
        for item in lines
    ]
    widths = [max(len(row[i]) for row in [head, *body]) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in [head, *body]
    )


def as_json(item: Line) -> dict[str, Any]:
    """One line as plain data."""
    return {
        "name": item.name,
        "quality": item.quality,
        "usd_per_1000": item.usd_per_1000,
        "relative_cost": item.relative_cost,
        "mean_s": item.mean_s,
        "p95_s": item.p95_s,
        "shares": dict(item.shares),
    }
