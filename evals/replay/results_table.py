"""The figures of a replay, and the one table that shows them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Kind = Literal["tier", "cascade", "baseline", "oracle"]


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One way of answering: mean quality, USD per 1,000 questions, latency in seconds; None is unknown, never 0.

    ``difference`` is its mean quality less the premium tier's, ``interval`` the 95 % paired bootstrap interval of that.
    """

    name: str
    kind: Kind
    quality: float
    usd_per_1000: float | None
    relative_cost: float | None
    mean_s: float | None
    p95_s: float | None
    shares: Mapping[str, float]
    difference: float
    interval: tuple[float, float]
    note: str = ""


def line(
    name: str,
    kind: Kind,
    quality: Array,
    usd: Array,
    seconds: Array,
    answered_by: Sequence[str],
    premium_quality: Array,
    premium_usd: float,
    interval: tuple[float, float],
    note: str = "",
) -> ResultRow:
    """The figures of one way of answering m rows: each array is (m,), NaN where unknown. ``premium_usd``: its mean cost."""
    n = len(quality)
    mean_usd = None if np.isnan(usd).any() else float(usd.mean())
    timed = not np.isnan(seconds).any()
    known = np.sort(seconds)
    return ResultRow(
        name,
        kind,
        float(quality.mean()),
        None if mean_usd is None else mean_usd * 1000,
        mean_usd / premium_usd if mean_usd is not None and premium_usd else None,
        float(seconds.mean()) if timed else None,
        float(known[min(n - 1, -(-95 * n // 100) - 1)]) if timed else None,
        {tier: answered_by.count(tier) / n for tier in dict.fromkeys(answered_by)},
        float((quality - premium_quality).mean()),
        interval,
        note,
    )


def render(lines: Sequence[ResultRow], tiers: Sequence[str]) -> str:
    """The table as text, aligned for a terminal; ``tiers``: whose share of the answers has a column."""
    head = ["", "quality", "vs premium", "95 % interval", "USD/1000", "cost", "mean s", "p95 s", *(f"by {t}" for t in tiers)]
    body = [
        [
            item.name,
            f"{item.quality:.3f}",
            f"{item.difference:+.3f}",
            f"[{item.interval[0]:+.3f}, {item.interval[1]:+.3f}]",
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


def as_json(item: ResultRow) -> dict[str, Any]:
    """One line as plain data."""
    return {**asdict(item), "shares": dict(item.shares), "interval": list(item.interval)}
