"""The books of shadowing, in the journal's database: one row for each tier that a sampled run still had to ask.

A row is ``queued`` before anything is sent. It becomes ``sent``, with an upper estimate of the cost, in the transaction that
checks the budget, and only after that transaction is the request sent. So whenever a process is killed, no request is sent a
second time, and none is missing from the budget: a row that stays ``sent`` counts with its estimate.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cascade.costs.budget import today

from .record import dumps
from .store import SqlStore
from .writer_connection import Book

Claim = Literal["granted", "wait", "budget", "gone"]
"""The result of a claim: the request may be sent; the minute is full; the budget is spent; another process has the row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowRow:
    """A shadow request that is to be made.

    Attributes:
        run_id: The run.
        tier: The tier to ask.
        model: Its model's name in the policy file.
        policy: The policy's name.
        probability: That with which the run was sampled.
        queued: When, in Unix seconds.
        job: What is needed to ask later and to grade: the prompt, the request, the answer returned. None: no text is stored.
    """

    run_id: str
    tier: str
    model: str
    policy: str
    probability: float
    queued: float
    job: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowOutcome:
    """How a shadow request ended.

    Attributes:
        state: "done", "failed" (no answer; it may have been billed), or "skipped" (nothing was sent).
        cost_usd: Its cost; None: unknown, and the estimate counts.
        latency_s: Seconds; None where there is no answer.
        agrees: Whether its answer says the same as the one that the run returned; None: unknown.
        answer: The answer and its usage as plain data; None: there is none, or no text is stored.
        error: Why there is no answer.
    """

    state: Literal["done", "failed", "skipped"]
    cost_usd: float | None = None
    latency_s: float | None = None
    agrees: bool | None = None
    answer: Mapping[str, Any] | None = None
    error: str | None = None


class ShadowBook(Book):
    """The rows of ``cascade_shadows``."""

    def queue(self, rows: Sequence[ShadowRow]) -> None:
        """Enters rows as ``queued``; those that are there already stay as they are."""
        self._session.run(lambda store: _queue(store, rows))

    def claim(self, row: ShadowRow, estimate_usd: float, *, budget_usd: float, per_minute: int) -> Claim:
        """Tries to make a queued row ``sent``: in one transaction with the check of the day's budget and of the minute.

        Args:
            row: The row.
            estimate_usd: The most that the request can cost.
            budget_usd: The most that the policy's shadow requests may cost in a UTC day, over all processes.
            per_minute: The most of its requests in any minute.
        """
        now = self._clock()
        return self._session.run(
            lambda store: _claim(store, row, estimate_usd, budget_usd=budget_usd, per_minute=per_minute, now=now)
        )

    def finish(self, row: ShadowRow, outcome: ShadowOutcome) -> None:
        """Enters how a row ended. One that is done stays as it is."""
        self._session.run(lambda store: _finish(store, row, outcome))

    def waiting(self, policies: Iterable[str], before: float, most: int) -> list[ShadowRow]:
        """Rows with text that were queued before a time and are queued still, the oldest first: their process has ended."""
        names = list(policies)
        return self._session.run(lambda store: _waiting(store, names, before, most))

    def spent(self, policy: str, day: str) -> float:
        """USD that a policy's shadow requests cost in a UTC day; what is unknown counts with its estimate."""
        return self._session.run(lambda store: _spent(store, policy, day))


def _queue(store: SqlStore, rows: Sequence[ShadowRow]) -> None:
    names = "run_id, tier, model, policy, probability, queued, state, job"
    with store.transaction():
        for row in rows:
            job = None if row.job is None else dumps(row.job)
            store.execute(
                f"INSERT INTO cascade_shadows ({names}) VALUES (?, ?, ?, ?, ?, ?, 'queued', ?) ON CONFLICT DO NOTHING",
                (row.run_id, row.tier, row.model, row.policy, row.probability, row.queued, job),
            )


def _claim(store: SqlStore, row: ShadowRow, estimate_usd: float, *, budget_usd: float, per_minute: int, now: float) -> Claim:
    day = today()
    with store.transaction():
        store.lock([f"shadow {row.policy}"])
        states = store.execute("SELECT state FROM cascade_shadows WHERE run_id = ? AND tier = ?", (row.run_id, row.tier))
        if states != [("queued",)]:
            return "gone"
        if _spent(store, row.policy, day) + estimate_usd > budget_usd:
            return "budget"
        ((recent,),) = store.execute(
            "SELECT COUNT(*) FROM cascade_shadows WHERE policy = ? AND sent > ? AND sent <= ?", (row.policy, now - 60.0, now)
        )
        if recent >= per_minute:
            return "wait"
        store.execute(
            "UPDATE cascade_shadows SET state = 'sent', sent = ?, day = ?, estimate_usd = ? WHERE run_id = ? AND tier = ?",
            (now, day, estimate_usd, row.run_id, row.tier),
        )
    return "granted"


def _finish(store: SqlStore, row: ShadowRow, outcome: ShadowOutcome) -> None:
    answer = None if outcome.answer is None else dumps(outcome.answer)
    with store.transaction():
        store.execute(
            "UPDATE cascade_shadows SET state = ?, cost_usd = ?, latency_s = ?, agrees = ?, answer = ?, error = ? "
            "WHERE run_id = ? AND tier = ? AND state IN ('queued', 'sent')",
            (
                outcome.state,
                outcome.cost_usd,
                outcome.latency_s,
                outcome.agrees,
                answer,
                outcome.error,
                row.run_id,
                row.tier,
            ),
        )


def _waiting(store: SqlStore, policies: Sequence[str], before: float, most: int) -> list[ShadowRow]:
    if not policies:
        return []
    marks = ", ".join("?" * len(policies))
    rows = store.execute(
        "SELECT run_id, tier, model, policy, probability, queued, CAST(job AS TEXT) FROM cascade_shadows "
        f"WHERE state = 'queued' AND job IS NOT NULL AND queued < ? AND policy IN ({marks}) ORDER BY id LIMIT ?",
        (before, *policies, most),
    )
    return [
        ShadowRow(
            run_id=run_id,
            tier=tier,
            model=model,
            policy=policy,
            probability=probability,
            queued=queued,
            job=json.loads(job),
        )
        for run_id, tier, model, policy, probability, queued, job in rows
    ]


def _spent(store: SqlStore, policy: str, day: str) -> float:
    ((usd,),) = store.execute(
        "SELECT COALESCE(SUM(COALESCE(cost_usd, estimate_usd)), 0) FROM cascade_shadows WHERE policy = ? AND day = ?",
        (policy, day),
    )
    return float(usd)
