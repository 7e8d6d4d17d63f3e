"""Journals as production would leave them, generated record by record."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from cascade.journal.open_store import open_store
from cascade.journal.record import Record
from cascade.journal.store import StoredPolicy, to_row
from cascade.policy.schema import Policy

CHEAP_USD, PREMIUM_USD = 1e-5, 1e-3
DAY = 86_400.0
SPEC: dict[str, Any] = {
    "tiers": [
        {"name": "cheap", "model": "small", "accept_at": 0.7, "judges": ["logprob"]},
        {"name": "premium", "model": "large", "accept_at": 0.0, "judges": ["logprob"]},
    ],
    "shadow": {"share": 0.5, "budget_usd_per_day": 1.0, "text": True},
    "promise": {"max_loss": 0.05},
}
POLICY = Policy.model_validate(SPEC)


def attempt(tier: str, text: str, confidence: float) -> dict[str, Any]:
    """An attempt as the journal keeps it, with its text."""
    usd = CHEAP_USD if tier == "cheap" else PREMIUM_USD
    call = {"model": tier, "purpose": "answer", "started_s": 0.0, "latency_s": 0.1, "n": 1, "usage": None, "cost_usd": usd}
    return {
        "tier": tier,
        "model": {"cheap": "small", "premium": "large"}[tier],
        "reason": "accepted",
        "answered": True,
        "confidence": confidence,
        "cost_usd": usd,
        "verdicts": [],
        "call_log": [call],
        "answer": {"text": text},
    }


def fill(
    url: str,
    rng: np.random.Generator,
    *,
    n: int = 400,
    now: float = 1_800_000_000.0,
    loss: float = 0.0,
    escalated: float = 0.3,
    useless: float = 0.1,
    stopped: float = 0.0,
    tasks: tuple[str, ...] = ("chat", "code"),
    never_pays: str = "",
    unpriced: float = 0.0,
    labels: bool = True,
    plant: Callable[[Record, np.random.Generator], Record] = lambda record, _: record,
) -> None:
    """Fills a journal with runs of the two days before ``now``.

    ``loss``: the probability that an accepted answer is worse than premium's; ``escalated``: of a run; ``useless``: that an
    escalation changes nothing; ``stopped``: that a budget ends a run; ``never_pays``: a task in which every run escalates;
    ``plant``: changes each record.
    """
    store: Any = open_store(url, full=False)
    rows = []
    losses: list[tuple[str, float]] = []
    for i in range(n):
        started = now - 2 * DAY + i * 2 * DAY / n
        run_id = f"{int(started * 1000):012x}7{rng.integers(0, 16**3):03x}{rng.integers(0, 2**62):016x}"
        task = tasks[int(rng.integers(len(tasks)))]
        is_stopped = rng.random() < stopped
        goes_on = rng.random() < escalated or task == never_pays
        confidence = float(rng.uniform(0.3, 0.7) if goes_on else rng.uniform(0.7, 1.0))
        attempts = [attempt("cheap", "a", confidence)]
        if goes_on:
            attempts.append(attempt("premium", "a" if rng.random() < useless else "b", 0.9))
        cost = sum(one["cost_usd"] for one in attempts)
        worse = not goes_on and rng.random() < loss * (2.0 if confidence < 0.85 else 0.0)
        record = Record(
            run_id=run_id,
            kind="run",
            started=started,
            ended=started + 0.1,
            policy="default",
            policy_hash=POLICY.hash,
            prompt_hash=f"{i:064x}",
            accepted=not is_stopped,
            reason="budget" if is_stopped else "accepted",
            tier=None if is_stopped else attempts[-1]["tier"],
            model=None if is_stopped else attempts[-1]["model"],
            confidence=None if is_stopped else confidence,
            cost_usd=None if rng.random() < unpriced else cost,
            premium_usd=PREMIUM_USD,
            latency_s=0.1,
            error=None,
            tags={"task": task, "key": "team-a"},
            attempts=[] if is_stopped else attempts,
            prompt={"messages": [{"role": "user", "content": f"question {i}"}], "schema": None, "tools": []},
            sampling_probability=0.5,
            shadow_tiers=["premium"] if not goes_on else [],
        )
        rows.append(to_row(plant(record, rng)))
        if not is_stopped and int(run_id[-13:], 16) < 0.5 * 16**13:
            losses.append((run_id, float(worse)))
            if not goes_on:
                _shadow(store, run_id, "right" if worse else "a", started)
    store.write({POLICY.hash: StoredPolicy(json=POLICY.canonical)}, rows)
    store.close()
    if labels:
        _label(url, losses)


def _shadow(store: Any, run_id: str, text: str, at: float) -> None:
    store.execute(
        "INSERT INTO cascade_shadows (run_id, tier, model, policy, probability, queued, state, cost_usd, answer) "
        "VALUES (?, 'premium', 'large', 'default', 0.5, ?, 'done', ?, ?)",
        (run_id, at, 1.2 * PREMIUM_USD, json.dumps({"text": text})),
    )


def _label(url: str, losses: list[tuple[str, float]]) -> None:
    store: Any = open_store(url, full=False)
    with store.transaction():
        for number, (run_id, loss) in enumerate(losses, 1):
            store.execute(
                "INSERT INTO cascade_labels "
                "(run_id, policy, policy_hash, probability, state, owner, number, loss, grader, at) "
                "VALUES (?, 'default', ?, 0.5, 'done', 'test', ?, ?, 'number@1', 0)",
                (run_id, POLICY.hash, number, loss),
            )
    store.close()
