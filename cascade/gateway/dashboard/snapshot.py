"""The figures of one moment as plain data: what the dashboard shows."""

from collections.abc import Iterable, Sequence
from time import time
from typing import TYPE_CHECKING, Any

from cascade.costs.budget import today

from .stats import SHOWN, FinishedRun, Stats

if TYPE_CHECKING:
    from cascade.gateway.state import Gateway

_BINS = 20
_DRIFT_BINS = 10
_RECENT_S = 10


async def snapshot(gateway: "Gateway") -> dict[str, Any]:
    """Everything. What is unknown is null; shares are of what they are given with."""
    figures, now = gateway.figures, time()
    runs = [run for run in figures.latest if run.kind == "run"]
    series = figures.per_second(now)
    status = gateway.reloader.status
    return {
        "at": now,
        "since": figures.began,
        "requests": {
            "per_s": sum(series[-_RECENT_S:]) / _RECENT_S,
            "series": series,
            "under_way": gateway.load.requests,
            "shed": gateway.load.shed,
        },
        "runs": {
            "total": figures.runs,
            "accepted": figures.accepted,
            "unanswered": figures.unanswered,
            "gates": figures.gates,
        },
        "window": {"runs": len(runs), "from": runs[0].at if runs else None},
        "tiers": _tiers(figures, gateway),
        "escalations": _counted(figures.escalations.items(), "policy", "tier", "reason"),
        "endings": _counted((((reason,), n) for reason, n in figures.endings.items()), "reason"),
        "spend": _spend(figures),
        "history": figures.history.columns(now),
        "latency": {
            "runs": percentiles([run.latency_s for run in runs if run.latency_s is not None]),
            "premium": percentiles([run.premium_s for run in runs if run.premium_s is not None]),
        },
        "confidence": _confidence(runs),
        "calibration": drift(figures.graded.values()),
        "models": _models(gateway),
        "budgets": await _budgets(gateway),
        "policies": {
            "loaded": status.loaded,
            "error": status.error,
            "failed": status.failed,
            "unusable": dict(status.unusable or {}),
        },
        "latest": [run._asdict() for run in list(figures.latest)[: -SHOWN - 1 : -1]],
    }


def percentiles(values: Sequence[float]) -> dict[str, Any]:
    """The median and the tail, in seconds; null where there is nothing."""
    known = sorted(values)
    made: dict[str, Any] = {"n": len(known)}
    for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        made[name] = known[min(len(known) - 1, int(share * len(known)))] if known else None
    return made


def drift(graded: Iterable[tuple[float, float]]) -> dict[str, Any] | None:
    """How far confidences were from what proved true, where feedback says; None where there is none.

    ``gap`` is the mean quality less the mean confidence: below 0 the cascade is too sure of itself.
    """
    bins: list[list[tuple[float, float]]] = [[] for _ in range(_DRIFT_BINS)]
    for confidence, quality in graded:
        bins[min(_DRIFT_BINS - 1, int(confidence * _DRIFT_BINS))].append((confidence, quality))
    every = [pair for filled in bins for pair in filled]
    if not every:
        return None
    told = [
        {
            "from": i / _DRIFT_BINS,
            "n": len(filled),
            "confidence": sum(c for c, _ in filled) / len(filled),
            "quality": sum(q for _, q in filled) / len(filled),
        }
        for i, filled in enumerate(bins)
        if filled
    ]
    return {"n": len(every), "gap": sum(q - c for c, q in every) / len(every), "bins": told}


def _tiers(figures: Stats, gateway: "Gateway") -> list[dict[str, Any]]:
    """How many answers came from each tier, in the ladder's order; ``share`` is of the policy's answers."""
    whole: dict[str, int] = {}
    for (policy, _), n in figures.tiers.items():
        whole[policy] = whole.get(policy, 0) + n
    order = {(name, tier.name): i for name, p in gateway.serving.file.policies.items() for i, tier in enumerate(p.tiers)}
    found = sorted(figures.tiers.items(), key=lambda item: (item[0][0], order.get(item[0], 99)))
    return [{"policy": p, "tier": t, "runs": n, "share": n / whole[p]} for (p, t), n in found]


def _counted(counted: Iterable[tuple[tuple[str, ...], int]], *names: str) -> list[dict[str, Any]]:
    ordered = sorted(counted, key=lambda item: (-item[1], item[0]))
    return [{**dict(zip(names, key, strict=True)), "count": n} for key, n in ordered]


def _spend(figures: Stats) -> dict[str, Any]:
    """What was spent, and what the last tiers alone would have cost: compared over those runs of which both are known."""
    compared = figures.compared > 0
    saved = figures.premium_usd - figures.compared_usd if compared else None
    return {
        "usd": figures.usd,
        "unpriced_runs": figures.unpriced,
        "compared_runs": figures.compared,
        "compared_usd": figures.compared_usd if compared else None,
        "premium_usd": figures.premium_usd if compared else None,
        "saved_usd": saved,
        "saved_share": saved / figures.premium_usd if saved is not None and figures.premium_usd > 0 else None,
    }


def _confidence(runs: Sequence[FinishedRun]) -> list[dict[str, Any]]:
    """A histogram of the latest answers' confidences for each tier, in bins of a twentieth."""
    found: dict[str, list[int]] = {}
    for run in runs:
        if run.tier is not None and run.confidence is not None:
            counts = found.setdefault(run.tier, [0] * _BINS)
            counts[min(_BINS - 1, int(run.confidence * _BINS))] += 1
    return [{"tier": tier, "counts": counts} for tier, counts in found.items()]


def _models(gateway: "Gateway") -> list[dict[str, Any]]:
    health = gateway.serving.cascade.health()
    return [
        {
            "model": name,
            "breaker": state.state,
            "requests": state.requests,
            "failures": state.failures,
            "under_way": state.in_flight,
            "p95_s": state.p95_s,
        }
        for name, state in sorted(health.items())
    ]


async def _budgets(gateway: "Gateway") -> list[dict[str, Any]]:
    """What is left of each budget of the day: of policies, of all together, of keys."""
    file, ledger, day = gateway.serving.file, gateway.serving.cascade.ledger, today()
    limits: list[tuple[str, str, float | None]] = [
        ("all policies", "all policies", file.budget_usd_per_day),
        *((f"policy {name}", f"policy {name}", p.budget_usd_per_day) for name, p in file.policies.items()),
        *gateway.keys.budgets(),
    ]
    made: list[dict[str, Any]] = []
    for scope, shown, usd in limits:
        if usd is not None:
            spent = await ledger.spent(f"{day} {scope}")
            made.append({"scope": shown, "usd_per_day": usd, "spent_usd": spent, "left_usd": max(0.0, usd - spent)})
    return made
