"""What the journal's runs of some days add up to, by all processes together: counts, money, labels, latencies."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from cascade.journal.store import SqlStore
from cascade.promise.sampling import is_sampled

OUTCOMES = ("accepted", "unscored", "not accepted", "stopped", "unanswered")
"""How runs end: a judge accepted the answer; no judge could score it; none was good enough; a limit stopped the run; there
is no answer. A run is counted once."""
_OUTCOME = (
    "CASE WHEN accepted THEN 'accepted' WHEN reason IN ('budget', 'max_calls', 'max_samples') THEN 'stopped' "
    "WHEN tier IS NULL THEN 'unanswered' WHEN reason IN ('last_tier', 'unjudged') THEN 'unscored' ELSE 'not accepted' END"
)
_GOOD = "(accepted OR reason = 'last_tier')"
_COLUMNS = {
    **{name: f"r.{name}" for name in ("run_id", "kind", "policy", "tier", "model", "accepted", "reason", "confidence")},
    **{name: f"r.{name}" for name in ("cost_usd", "premium_usd", "latency_s")},
    "at": "r.ended",
    "loss": "l.loss",
}
_MOST_GROUPS, _MOST_LABELS, _MOST_PAIRS, _MOST_RUNS = 50_000, 50_000, 4_000, 100


class Group(NamedTuple):
    """The runs of one step of time with the same policy, task, key and outcome.

    Attributes:
        step: The place of the step, from 0.
        policy: As the runs named it.
        task: Their tag ``task``.
        caller: The name of the gateway's key.
        outcome: One of OUTCOMES.
        runs: How many.
        usd: What those with a known cost cost.
        priced: How many have a known cost.
        compared: How many enter the comparison with premium: cost known, and premium's, too, where the answer was good.
        cost: What those cost.
        premium: What premium alone would have cost for the good answers among them, estimated.
        cost_square: The sum of squares of ``cost``.
        cost_premium: The sum of products.
        premium_square: The sum of squares of ``premium``.
    """

    step: int
    policy: str
    task: str | None
    caller: str | None
    outcome: str
    runs: int
    usd: float
    priced: int
    compared: int
    cost: float
    premium: float
    cost_square: float
    cost_premium: float
    premium_square: float


class LabelRow(NamedTuple):
    """A label of a sampled run, with what the run is filtered by."""

    policy: str
    task: str | None
    caller: str | None
    step: int
    loss: float
    probability: float


class LatencyPair(NamedTuple):
    """A sampled run's seconds, and those of the premium tier's answer to the same prompt."""

    policy: str
    task: str | None
    caller: str | None
    seconds: float
    premium_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Some time, in steps.

    Attributes:
        since: Its beginning, in Unix seconds.
        step_s: The seconds of a step.
        steps: How many there are.
        tag: Only runs with this tag: its name and its value.
    """

    since: float
    step_s: int
    steps: int
    tag: tuple[str, str] | None = None


def groups(store: SqlStore, span: Span, task_tag: str = "task") -> list[Group]:
    """The runs of a span, added up by the database."""
    condition, values = _tag(store, span)
    rows = store.execute(
        "SELECT step, policy, task, caller, outcome, COUNT(*), COALESCE(SUM(cost_usd), 0), COUNT(cost_usd), COUNT(c), "
        "COALESCE(SUM(c), 0), COALESCE(SUM(p), 0), COALESCE(SUM(c * c), 0), COALESCE(SUM(c * p), 0), "
        "COALESCE(SUM(p * p), 0) FROM (SELECT CAST(started - ? AS BIGINT) / ? AS step, policy, "
        f"{store.tag_sql(task_tag)} AS task, {store.tag_sql('key')} AS caller, {_OUTCOME} AS outcome, cost_usd, "
        f"CASE WHEN cost_usd IS NOT NULL AND (NOT {_GOOD} OR premium_usd IS NOT NULL) THEN cost_usd END AS c, "
        f"CASE WHEN cost_usd IS NOT NULL AND NOT {_GOOD} THEN 0 WHEN cost_usd IS NOT NULL THEN premium_usd END AS p "
        f"FROM cascade_runs WHERE started >= ? AND kind = 'run'{condition}) AS r "
        f"GROUP BY step, policy, task, caller, outcome ORDER BY step LIMIT {_MOST_GROUPS}",
        (span.since, span.step_s, span.since, *values),
    )
    return [Group(min(int(step), span.steps - 1), *rest) for step, *rest in rows]


def labels(store: SqlStore, span: Span, task_tag: str = "task") -> list[LabelRow]:
    """The labels of a span's runs, in their order."""
    condition, values = _tag(store, span)
    rows = store.execute(
        f"SELECT r.policy, {store.tag_sql(task_tag)}, {store.tag_sql('key')}, r.started, l.loss, l.probability "
        "FROM cascade_labels l JOIN cascade_runs r ON r.run_id = l.run_id "
        f"WHERE l.state = 'done' AND r.started >= ?{condition} ORDER BY l.number LIMIT {_MOST_LABELS}",
        (span.since, *values),
    )
    return [
        LabelRow(policy, task, key, min(int((started - span.since) / span.step_s), span.steps - 1), loss, probability)
        for policy, task, key, started, loss, probability in rows
    ]


def latency_pairs(store: SqlStore, span: Span, last_tiers: Mapping[str, str], task_tag: str = "task") -> list[LatencyPair]:
    """Sampled runs with the latency of premium on the same prompt: shadowed, or in the run itself.

    Args:
        store: The journal.
        span: The time.
        last_tiers: The premium tier of each policy that is shadowed.
        task_tag: The tag that names a run's task.
    """
    condition, values = _tag(store, span)
    tags = f"{store.tag_sql(task_tag)}, {store.tag_sql('key')}"
    pairs = []
    for policy, tier in last_tiers.items():
        shadowed = store.execute(
            f"SELECT {tags}, r.latency_s, s.latency_s FROM cascade_shadows s JOIN cascade_runs r ON r.run_id = s.run_id "
            f"WHERE s.policy = ? AND s.tier = ? AND s.state = 'done' AND s.latency_s IS NOT NULL{condition} "
            f"AND r.started >= ? ORDER BY r.started DESC LIMIT {_MOST_PAIRS}",
            (policy, tier, *values, span.since),
        )
        pairs += [LatencyPair(policy, task, key, ours, premium) for task, key, ours, premium in shadowed]
        answered = store.execute(
            f"SELECT {tags}, run_id, latency_s, CAST(body AS TEXT) FROM cascade_runs "
            f"WHERE started >= ? AND kind = 'run' AND policy = ? AND tier = ?{condition} "
            f"ORDER BY started DESC LIMIT {_MOST_PAIRS}",
            (span.since, policy, tier, *values),
        )
        for task, key, run_id, ours, body in answered:
            record = json.loads(body)
            premium_s = (record["attempts"] or [{}])[-1].get("latency_s")
            if premium_s is not None and is_sampled(run_id, record.get("sampling_probability") or 0.0):
                pairs.append(LatencyPair(policy, task, key, ours, premium_s))
    return pairs


def find_runs(
    store: SqlStore, span: Span, filters: Mapping[str, str], *, order: Sequence[str] = (), task_tag: str = "task"
) -> list[dict[str, Any]]:
    """The latest runs of a span, a hundred at most.

    Args:
        store: The journal.
        span: The time.
        filters: By name: ``policy``, ``task``, ``caller``, ``outcome``, ``step``, or ``labelled``.
        order: Unused names are ignored; "loss" puts the largest losses first.
        task_tag: The tag that names a run's task.
    """
    condition, values = _tag(store, span)
    joined = "LEFT JOIN" if "labelled" not in filters else "JOIN"
    columns = {"policy": "r.policy", "task": store.tag_sql(task_tag), "caller": store.tag_sql("key"), "outcome": _OUTCOME}
    for name, value in filters.items():
        if name in columns:
            condition += f" AND {columns[name]} = ?"
            values.append(value)
    begin, end = span.since, span.since + span.step_s * (span.steps + 1)
    if "step" in filters:
        begin = span.since + int(filters["step"]) * span.step_s
        end = begin + span.step_s
    sort = "l.loss DESC, r.started DESC" if "loss" in order else "r.started DESC"
    rows = store.execute(
        f"SELECT {', '.join(_COLUMNS.values())} FROM cascade_runs r {joined} cascade_labels l "
        f"ON l.run_id = r.run_id AND l.state = 'done' WHERE r.kind = 'run' AND r.started >= ? AND r.started < ?{condition} "
        f"ORDER BY {sort} LIMIT {_MOST_RUNS}",
        (begin, end, *values),
    )
    runs = [dict(zip(_COLUMNS, row, strict=True)) for row in rows]
    return [{**run, "accepted": bool(run["accepted"])} for run in runs]


def _tag(store: SqlStore, span: Span) -> tuple[str, list[Any]]:
    if span.tag is None:
        return "", []
    name, value = span.tag
    return f" AND {store.tag_sql(name)} = ?", [value]
