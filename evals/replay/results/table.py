"""The figures of a replay, and the one table that shows them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from evals.recording import Example
from evals.replay import baselines
from evals.replay.baselines import Baseline, Columns
from evals.replay.certificate.guarantee import Guarantee
from evals.replay.expected_value import cascade_routing
from evals.replay.rows.splits import Splits
from evals.replay.simulate import Outcome

Array = npt.NDArray[np.float64]
NAME_WIDTH = 40
Kind = Literal["tier", "cascade", "baseline", "oracle"]


@dataclass(frozen=True, slots=True, kw_only=True)
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


def result_row(
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
    """The figures of one way of answering m rows: each array is (m,), NaN where unknown. ``premium_usd``: a mean cost."""
    n = len(quality)
    mean_usd = None if np.isnan(usd).any() else float(usd.mean())
    has_latency = not np.isnan(seconds).any()
    ordered = np.sort(seconds)
    return ResultRow(
        name=name,
        kind=kind,
        quality=float(quality.mean()),
        usd_per_1000=None if mean_usd is None else mean_usd * 1000,
        relative_cost=mean_usd / premium_usd if mean_usd is not None and premium_usd else None,
        mean_s=float(seconds.mean()) if has_latency else None,
        p95_s=float(ordered[min(n - 1, -(-95 * n // 100) - 1)]) if has_latency else None,
        shares={tier: answered_by.count(tier) / n for tier in dict.fromkeys(answered_by)},
        difference=float((quality - premium_quality).mean()),
        interval=interval,
        note=note,
    )


def compare(
    rows: Sequence[Example],
    columns: Columns,
    splits: Splits,
    guarantee: Guarantee,
    engine_outcome: Outcome,
    answered_by: Sequence[str],
    seed: int,
    unprompted: Columns | None = None,
    by_prompt: bool = False,
) -> tuple[ResultRow, ...]:
    """The table's rows, all on the test rows of the recording: each tier, the cascade, and the baselines it must beat.

    Args:
        rows: The recording's rows.
        columns: Each model's scores, cheapest first, the premium tier last.
        splits: Baselines learn from ``fit`` and ``certify``; every row of the table is measured on ``test``.
        guarantee: The loss that baselines may have, each by a certificate of its own.
        engine_outcome: What the engine did with the test rows.
        answered_by: The model whose answer the engine returned, one for each test row.
        seed: The seed of the bootstrap and fits.
        unprompted: The columns as they were tuned, without prompts, where the cascade looks at prompts; None: it does not.
        by_prompt: Whether it was allowed to: then the cascade without skips is in the table, even if it is the same one.
    """
    test, tiers = splits.test, list(columns)
    single_tiers = [baselines.single(columns, t, test) for t in tiers]
    premium = single_tiers[-1]
    premium_usd = float(premium.cost_usd.mean())

    def row(kind: Kind, b: Baseline) -> ResultRow:
        return result_row(
            name=b.name, kind=kind, quality=b.quality, usd=b.cost_usd, seconds=b.latency_s, answered_by=b.answered_by,
            premium_quality=premium.quality, premium_usd=premium_usd,
            interval=baselines.bootstrap_difference(b.quality, premium.quality, seed), note=b.note,
        )  # fmt: skip

    cascade = Baseline(
        name="cascade",
        note="",
        quality=engine_outcome.quality,
        cost_usd=engine_outcome.cost_usd,
        latency_s=engine_outcome.latency_s,
        answered_by=list(answered_by),
    )
    table = [row("tier", b) for b in single_tiers] + [row("cascade", cascade)]
    if len(tiers) > 1:
        texts = [" ".join(filter(None, (e.system, e.to_prompt().text))) for e in rows]
        usd = float(engine_outcome.cost_usd.mean())
        if np.isfinite(usd):
            table.append(row("baseline", baselines.random_mixing(columns, tiers, splits.calibration, test, usd)))
        if len(tiers) > 2:
            table.append(row("baseline", baselines.best_pair(columns, splits, guarantee, seed)))
        if unprompted is not None:
            table.append(row("baseline", baselines.without_skips(unprompted, splits, guarantee, seed)))
        elif by_prompt:
            note = "the cascade itself: looking at prompts did not pay"
            table.append(row("baseline", replace(cascade, name="cascade without skips", note=note)))
        router = baselines.prompt_router(texts, columns, splits, guarantee.value, guarantee.delta, seed)
        by_value = cascade_routing(texts, columns, splits, guarantee.value, guarantee.delta, seed)
        table += [row("baseline", router), row("baseline", by_value), row("baseline", baselines.hand_set(columns, splits))]
    return (*table, row("oracle", baselines.oracle(columns, tiers, test)))


def render(rows: Sequence[ResultRow], tiers: Sequence[str], *, full: bool = False) -> str:
    """The table as text, aligned for a terminal: at most 100 columns, and with ``full`` as wide as it takes.

    Args:
        rows: The table's rows.
        tiers: The cascade's models; ``full`` adds a column with the share of the answers of each.
        full: Whether to add mean and 95th percentile of the latency, and those shares.
    """
    head = ["", "quality", "vs premium", "95 % interval", "USD/1000", "cost"]
    head += ["mean s", "p95 s", *(f"by {t}" for t in tiers)] if full else []
    body = []
    for item in rows:
        cells = [
            item.name if full else clip(item.name),
            f"{item.quality:.3f}",
            f"{item.difference:+z.3f}",
            f"[{item.interval[0]:+z.3f}, {item.interval[1]:+z.3f}]",
            "unknown" if item.usd_per_1000 is None else f"{item.usd_per_1000:.4g}",
            "—" if item.relative_cost is None else f"{100 * item.relative_cost:.0f} %",
        ]
        if full:
            cells += ["—" if seconds is None else f"{seconds:.2f}" for seconds in (item.mean_s, item.p95_s)]
            cells += [f"{100 * item.shares[t]:.0f} %" if t in item.shares else "—" for t in tiers]
        body.append(cells)
    widths = [max(len(row[i]) for row in [head, *body]) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in [head, *body]
    )


def clip(name: str, width: int = NAME_WIDTH) -> str:
    """The name, cut in the middle where it is too long: both ends tell models apart."""
    if len(name) <= width:
        return name
    head = (width - 1) // 2
    return f"{name[:head]}…{name[len(name) - (width - 1 - head) :]}"


def as_json(item: ResultRow) -> dict[str, Any]:
    """One line as plain data."""
    return {**asdict(item), "shares": dict(item.shares), "interval": list(item.interval)}
