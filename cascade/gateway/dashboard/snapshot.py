"""The statistics of one moment as plain data: what the dashboard shows."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from time import time
from typing import TYPE_CHECKING, Any

from cascade.costs.budget import today
from cascade.engine.plan import period_scope
from cascade.errors import StateError
from cascade.gateway.stats import MOST_ROWS, FinishedRun, Stats
from cascade.telemetry.worker_breakers import all_breakers, worst

if TYPE_CHECKING:
    from cascade.gateway.state import Gateway

_BINS = 20
_DRIFT_BINS = 10
_RECENT_S = 10


async def snapshot(gateway: "Gateway") -> dict[str, Any]:
    """All the dashboard shows. What is unknown is null."""
    stats, now = gateway.stats, time()
    runs = [run for run in stats.latest if run.kind == "run"]
    series = stats.per_second(now)
    status = gateway.reload_status
    return {
        "at": now,
        "since": stats.started_at,
        "requests": {
            "per_s": sum(series[-_RECENT_S:]) / _RECENT_S,
            "series": series,
            "under_way": gateway.load.requests,
            "shed": gateway.load.shed,
        },
        "runs": {
            "total": stats.runs,
            "accepted": stats.accepted,
            "unjudged": stats.endings["last_tier"] + stats.endings["unjudged"],
            "unanswered": stats.unanswered,
            "gates": stats.gates,
        },
        "window": {"runs": len(runs), "from": runs[0].at if runs else None},
        "tiers": _tiers(stats, gateway),
        "escalations": _rows_of(stats.escalations.items(), "policy", "tier", "reason"),
        "endings": _rows_of((((reason,), n) for reason, n in stats.endings.items()), "reason"),
        "spend": _spend(stats),
        "history": stats.timeseries.columns(now),
        "latency": {
            "runs": percentiles([run.latency_s for run in runs if run.latency_s is not None]),
            "premium": percentiles([run.premium_s for run in runs if run.premium_s is not None]),
        },
        "confidence": _confidence(runs),
        "calibration": drift(stats.graded.values()),
        "models": _models(gateway),
        "budgets": await _budgets(gateway),
        "policies": {
            "loaded": status.loaded,
            "error": status.error,
            "failed": status.failed,
            "unusable": dict(status.unusable),
        },
        "latest": [run._asdict() for run in list(stats.latest)[: -MOST_ROWS - 1 : -1]],
    }


def percentiles(values: Sequence[float]) -> dict[str, Any]:
    """Median and tail, in seconds; null where there are no values."""
    ordered = sorted(values)
    result: dict[str, Any] = {"n": len(ordered)}
    for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        result[name] = ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
    return result


def drift(graded: Iterable[tuple[float, float]]) -> dict[str, Any] | None:
    """How far confidences were from the quality that feedback reported.

    Args:
        graded: Confidence and quality of each run with feedback.

    Returns:
        None where there is no feedback. ``gap`` is the mean quality less the mean confidence: below 0, the cascade is
        overconfident.
    """
    bins: list[list[tuple[float, float]]] = [[] for _ in range(_DRIFT_BINS)]
    for confidence, quality in graded:
        bins[min(_DRIFT_BINS - 1, int(confidence * _DRIFT_BINS))].append((confidence, quality))
    every = [pair for members in bins for pair in members]
    if not every:
        return None
    rows = [
        {
            "from": i / _DRIFT_BINS,
            "n": len(members),
            "confidence": sum(c for c, _ in members) / len(members),
            "quality": sum(q for _, q in members) / len(members),
        }
        for i, members in enumerate(bins)
        if members
    ]
    return {"n": len(every), "gap": sum(q - c for c, q in every) / len(every), "bins": rows}


def _tiers(stats: Stats, gateway: "Gateway") -> list[dict[str, Any]]:
    """How many answers came from each tier, in the policy's order; ``share`` is of the policy's answers."""
    totals: dict[str, int] = {}
    for (policy, _), n in stats.tiers.items():
        totals[policy] = totals.get(policy, 0) + n
    order = {(name, tier.name): i for name, p in gateway.active.file.policies.items() for i, tier in enumerate(p.tiers)}
    rows = sorted(stats.tiers.items(), key=lambda item: (item[0][0], order.get(item[0], 99)))
    return [{"policy": p, "tier": t, "runs": n, "share": n / totals[p]} for (p, t), n in rows]


def _rows_of(counts: Iterable[tuple[tuple[str, ...], int]], *names: str) -> list[dict[str, Any]]:
    ordered = sorted(counts, key=lambda item: (-item[1], item[0]))
    return [{**dict(zip(names, key, strict=True)), "count": n} for key, n in ordered]


def _spend(stats: Stats) -> dict[str, Any]:
    """Spend, and what the last tiers alone would have cost: compared over the runs for which both are known."""
    compared = stats.compared > 0
    saved = stats.premium_usd - stats.compared_usd if compared else None
    return {
        "usd": stats.usd,
        "unpriced_runs": stats.unpriced,
        "compared_runs": stats.compared,
        "compared_usd": stats.compared_usd if compared else None,
        "premium_usd": stats.premium_usd if compared else None,
        "saved_usd": saved,
        "saved_share": saved / stats.premium_usd if saved is not None and stats.premium_usd > 0 else None,
    }


def _confidence(runs: Sequence[FinishedRun]) -> list[dict[str, Any]]:
    """A histogram of the latest answers' confidences for each tier, in bins of a twentieth."""
    by_tier: dict[str, list[int]] = {}
    for run in runs:
        if run.tier is not None and run.confidence is not None:
            counts = by_tier.setdefault(run.tier, [0] * _BINS)
            counts[min(_BINS - 1, int(run.confidence * _BINS))] += 1
    return [{"tier": tier, "counts": counts} for tier, counts in by_tier.items()]


def _models(gateway: "Gateway") -> list[dict[str, Any]]:
    """Breakers are those of all workers; requests and latencies are this worker's."""
    health = gateway.active.cascade.health()
    breakers = all_breakers({name: one.state for name, one in health.items() if one.state is not None})
    return [
        {
            "model": name,
            "breaker": worst(breakers[name]) if name in breakers else None,
            "breakers": dict(breakers.get(name, {})),
            "requests": state.requests,
            "failures": state.failures,
            "under_way": state.in_flight,
            "p95_s": state.p95_s,
        }
        for name, state in sorted(health.items())
    ]


async def _budgets(gateway: "Gateway") -> list[dict[str, Any]]:
    """The rest of each daily budget: of policies, of all together, of keys."""
    file, ledger, day = gateway.active.file, gateway.active.cascade.ledger, today()
    limits: list[tuple[str, str, float | None]] = [
        ("all policies", "all policies", file.budget_usd_per_day),
        *((f"policy {name}", f"policy {name}", p.budget_usd_per_day) for name, p in file.policies.items()),
        *gateway.keys.budgets(),
    ]
    budgets: list[dict[str, Any]] = []
    for scope, label, usd in limits:
        if usd is not None:
            spent: float | None = None
            with suppress(StateError):  # the store of shared budgets is unavailable
                spent = await ledger.spent(period_scope(day, scope))
            left = None if spent is None else max(0.0, usd - spent)
            budgets.append({"scope": label, "usd_per_day": usd, "spent_usd": spent, "left_usd": left})
    return budgets
