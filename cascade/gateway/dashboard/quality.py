"""``/dashboard/quality`` and ``/dashboard/quality/runs``: quality, savings and outcomes of some days, from the journal.

All processes that share the journal are in it, and restarts do not matter. Without a journal there is nothing to add up.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl

from cascade.gateway.endpoint import Reply
from cascade.gateway.errors import ApiError
from cascade.journal.read.history import (
    OUTCOMES,
    Group,
    LabelRow,
    LatencyPair,
    Span,
    find_runs,
    groups,
    labels,
    latency_pairs,
)
from cascade.promise.bernstein import BernsteinInterval

from .alarms import alarms, canaries, drifts, promises
from .journal_access import on_store
from .snapshot import percentiles

if TYPE_CHECKING:
    from cascade.gateway.auth.keys import Caller
    from cascade.gateway.state import Gateway
    from cascade.journal.store import SqlStore

STEPS = {1: 3_600, 7: 6 * 3_600, 14: 86_400, 30: 86_400}
"""Seconds of a step by the number of days."""
FRESH_S = 10.0
"""How long figures are shown again before the database is asked; longer where it takes long to answer."""
_Z = 1.959964
_FILTERS = ("policy", "task", "caller", "outcome", "step", "labelled")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the database said of a span.

    Attributes:
        span: The span.
        groups: Its runs.
        labels: Its labels.
        pairs: Latencies of the same prompts.
        promises: The state of each policy's promise.
        canaries: The state of each canary.
        drifts: The checks of traffic that may differ from the recording.
        until: Until when it is fresh, by the monotonic clock.
    """

    span: Span
    groups: Sequence[Group]
    labels: Sequence[LabelRow]
    pairs: Sequence[LatencyPair]
    promises: Sequence[Mapping[str, Any]]
    canaries: Sequence[Mapping[str, Any]]
    drifts: Sequence[Mapping[str, Any]]
    until: float


class QualityView:
    """Answers both routes; the database is asked by one request at a time.

    Args:
        gateway: The gateway.
    """

    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway
        self._facts: dict[tuple[int, tuple[str, str] | None], Facts] = {}
        self._lock = asyncio.Lock()

    async def figures(self, gateway: "Gateway", caller: "Caller", body: Mapping[str, Any], reply: Reply) -> None:
        """``GET /dashboard/quality?days=7&policy=&task=&caller=&tag=name:value``."""
        query = _query(reply)
        days, tag = _days(query), _tag(query)
        if self._gateway.journal_url is None:
            live = alarms(self._gateway, (), (), None)
            await reply.json({"source": None, "days": days, "status": live})
            return
        facts = await self._read(days, tag)
        await reply.json(summary(facts, query, days, self._gateway))

    async def runs(self, gateway: "Gateway", caller: "Caller", body: Mapping[str, Any], reply: Reply) -> None:
        """``GET /dashboard/quality/runs``: the latest runs behind a figure; the same filters, ``outcome`` and ``step``."""
        query = _query(reply)
        span = _span(_days(query), _tag(query))
        filters = {name: query[name] for name in _FILTERS if query.get(name)}
        if filters.get("outcome", OUTCOMES[0]) not in OUTCOMES:
            raise ApiError(400, f"outcome: one of {', '.join(OUTCOMES)}", param="outcome")
        if "step" in filters and not (filters["step"].isdecimal() and len(filters["step"]) < 4):
            raise ApiError(400, "step: a number", param="step")
        if self._gateway.journal_url is None:
            raise ApiError(404, "there is no journal; add the key journal to the policy file", code="no_journal")
        order = ("loss",) if query.get("order") == "loss" else ()
        task_tag = self._task_tag()
        runs = await self._ask(lambda store: find_runs(store, span, filters, order=order, task_tag=task_tag))
        await reply.json({"runs": runs})

    async def _read(self, days: int, tag: tuple[str, str] | None) -> Facts:
        async with self._lock:
            cached = self._facts.get((days, tag))
            if cached is not None and time.monotonic() < cached.until:
                return cached
            if len(self._facts) >= 20:
                self._facts.clear()
            began, span, file = time.monotonic(), _span(days, tag), self._gateway.active.file
            last_tiers = {n: p.tiers[-1].name for n, p in file.policies.items() if p.shadow is not None}
            task_tag = self._task_tag()

            def work(store: "SqlStore") -> Facts:
                return Facts(
                    span=span,
                    groups=groups(store, span, task_tag),
                    labels=labels(store, span, task_tag),
                    pairs=latency_pairs(store, span, last_tiers, task_tag),
                    promises=promises(store, file),
                    canaries=canaries(store, file),
                    drifts=drifts(store, file),
                    until=time.monotonic() + max(FRESH_S, 20.0 * (time.monotonic() - began)),
                )

            facts = self._facts[days, tag] = await self._ask(work)
            return facts

    def _task_tag(self) -> str:
        return next(iter(self._gateway.active.file.policies.values())).tasks.tag

    async def _ask(self, work: "Callable[[SqlStore], T]") -> T:
        assert self._gateway.journal_url is not None
        return await on_store(self._gateway.journal_url, work)


def summary(facts: Facts, query: Mapping[str, str], days: int, gateway: "Gateway") -> dict[str, Any]:
    """The figures of the runs that pass the filters, as plain data; what is unknown is null."""

    def passes(row: Group | LabelRow | LatencyPair) -> bool:
        policy = query.get("policy")
        if policy and row.policy != policy and not row.policy.startswith(f"{policy}/"):
            return False
        return all(not query.get(name) or getattr(row, name) == query[name] for name in ("task", "caller"))

    runs = [group for group in facts.groups if passes(group)]
    outcomes = {outcome: sum(g.runs for g in runs if g.outcome == outcome) for outcome in OUTCOMES}
    span = facts.span
    return {
        "source": "journal",
        "days": days,
        "from": span.since,
        "step_s": span.step_s,
        "filters": {
            "policy": sorted({g.policy.partition("/")[0] for g in facts.groups}),
            "task": sorted({g.task for g in facts.groups if g.task})[:200],
            "caller": sorted({g.caller for g in facts.groups if g.caller})[:200],
        },
        "runs": sum(outcomes.values()),
        "outcomes": outcomes,
        "savings": savings(runs),
        "quality": quality([label for label in facts.labels if passes(label)]),
        "latency": latency([pair for pair in facts.pairs if passes(pair)]),
        "history": history(runs, [label for label in facts.labels if passes(label)], span),
        "promises": facts.promises,
        "canaries": facts.canaries,
        "drifts": facts.drifts,
        "status": alarms(gateway, facts.promises, facts.canaries, outcomes, facts.drifts),
    }


def savings(runs: Sequence[Group]) -> dict[str, Any]:
    """What was saved against premium alone: only good answers count as worth premium's price, but every cost counts."""
    n = sum(g.compared for g in runs)
    cost, premium = sum(g.cost for g in runs), sum(g.premium for g in runs)
    result: dict[str, Any] = {
        "usd": sum(g.usd for g in runs),
        "unpriced_runs": sum(g.runs - g.priced for g in runs),
        "compared_runs": n,
        "cost_usd": cost if n else None,
        "premium_usd": premium if n else None,
        "saved_usd": premium - cost if n else None,
        "share": None,
        "share_low": None,
        "share_high": None,
    }
    if n > 1 and premium > 0.0:
        share = 1.0 - cost / premium
        # The delta method for a ratio of means: the residual of each run's cost from the ratio times premium's.
        ratio = cost / premium
        squares = sum(g.cost_square - 2.0 * ratio * g.cost_premium + ratio**2 * g.premium_square for g in runs)
        half = _Z * sqrt(max(0.0, squares)) / premium
        result |= {"share": share, "share_low": share - half, "share_high": share + half}
    return result


def quality(rows: Sequence[LabelRow]) -> dict[str, Any]:
    """The mean loss against premium by the labels, with an interval that holds at every look."""
    if not rows:
        return {"labels": 0, "loss": None, "loss_low": None, "loss_high": None}
    floor = min(row.probability for row in rows)
    interval = BernsteinInterval()
    for row in rows:
        interval.add(row.loss, floor / row.probability)
    mean = interval.mean
    assert mean is not None
    low, high = min(interval.lower, mean), max(interval.upper, mean)
    return {"labels": len(rows), "loss": mean, "loss_low": low, "loss_high": high}


def latency(pairs: Sequence[LatencyPair]) -> dict[str, Any]:
    """Seconds of sampled runs, and of premium on the same prompts."""
    return {
        "pairs": len(pairs),
        "runs": percentiles([pair.seconds for pair in pairs]),
        "premium": percentiles([pair.premium_s for pair in pairs]),
    }


def history(runs: Iterable[Group], rows: Iterable[LabelRow], span: Span) -> dict[str, Any]:
    """A column for each figure, the oldest step first; null where nothing is known of a step."""
    counts, good = [0] * span.steps, [0] * span.steps
    cost, premium = [0.0] * span.steps, [0.0] * span.steps
    for group in runs:
        counts[group.step] += group.runs
        good[group.step] += group.runs if group.outcome == "accepted" else 0
        cost[group.step] += group.cost
        premium[group.step] += group.premium
    losses, weights = [0.0] * span.steps, [0.0] * span.steps
    for row in rows:
        losses[row.step] += row.loss / row.probability
        weights[row.step] += 1.0 / row.probability
    return {
        "at": [span.since + i * span.step_s for i in range(span.steps)],
        "runs": counts,
        "accepted": [g / n if n else None for g, n in zip(good, counts, strict=True)],
        "usd": [usd if n else None for usd, n in zip(cost, counts, strict=True)],
        "premium_usd": [usd if n else None for usd, n in zip(premium, counts, strict=True)],
        "loss": [loss / w if w else None for loss, w in zip(losses, weights, strict=True)],
    }


def _query(reply: Reply) -> dict[str, str]:
    return dict(parse_qsl(reply.query, max_num_fields=20))


def _days(query: Mapping[str, str]) -> int:
    days = query.get("days", "7")
    if days not in map(str, STEPS):
        raise ApiError(400, f"days: one of {', '.join(map(str, STEPS))}", param="days")
    return int(days)


def _tag(query: Mapping[str, str]) -> tuple[str, str] | None:
    text = query.get("tag")
    if not text:
        return None
    name, colon, value = text.partition(":")
    if not name or not colon or not text.isprintable() or set(name) & set("?%\"'\\"):
        raise ApiError(400, "tag: a name and a value, as in team:search", param="tag")
    return name, value


def _span(days: int, tag: tuple[str, str] | None) -> Span:
    """The steps that end with the current one."""
    step = STEPS[days]
    steps = days * 86_400 // step
    return Span(since=float((int(time.time()) // step + 1 - steps) * step), step_s=step, steps=steps, tag=tag)
