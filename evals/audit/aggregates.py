"""The sums of an audit, added up by the database: what comes out of it grows with the groups and labels, not with the runs.

The same SQL runs in SQLite, in Postgres, and in DuckDB over a journal's Parquet files; what they write differently is in
``Dialect``. Of runs that were not sampled, which only sharpen the estimate of the loss, at most ``MOST_RUNS`` are
read: those whose ids end in small random digits, which says nothing of a run.
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any

from cascade.journal.store import Row, SqlStore
from evals.engines import Engine

from .dialects import Dialect, dialect_of
from .parquet_store import ParquetStore
from .prompt_drift import PromptDrift
from .quality import MOST_LINES, Acceptance, PolicyQuality, QualityRow, acceptance_of
from .traffic import Group, Traffic

MOST_RUNS = 400_000
"""Runs of a period that the estimate of the loss reads, where more than these were made and fewer are sampled."""
MOST_PROMPTS = 200_000
"""Runs with text whose prompts are compared with a recording, in the same way."""
_DIGITS = 13  # of a run's id, at its end: random
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """The runs that are added up.

    Attributes:
        store: The journal.
        since: The begin in Unix seconds.
        until: The end.
        policy: Only the runs of this policy and of its tiers alone; None: all.
    """

    store: SqlStore
    since: float
    until: float
    policy: str | None = None

    @property
    def where(self) -> str:
        """The condition on a run ``r``."""
        return "r.kind = 'run' AND r.started >= ? AND r.started < ?" + (
            "" if self.policy is None else " AND (r.policy = ? OR substr(r.policy, 1, ?) = ?)"
        )

    @property
    def values(self) -> list[Any]:
        """The values of the condition."""
        policy = [] if self.policy is None else [self.policy, len(self.policy) + 1, f"{self.policy}/"]
        return [self.since, self.until, *policy]

    @property
    def dialect(self) -> Dialect:
        """How the journal's database writes what differs."""
        return dialect_of(self.store)


def traffic(period: Period, begin: float | None = None, engine: Engine | None = None) -> tuple[Traffic, Traffic]:
    """Counts and sums of the runs by group, in one pass.

    Args:
        period: The runs.
        begin: Where the second part of the period begins, in Unix seconds; None: all of it is the second part.
        engine: Whose workers add up a journal in Parquet files; None: this process.

    Returns:
        The first part, and the second.
    """
    d, tag = period.dialect, period.store.tag_sql
    stopped = "r.reason IN ('budget', 'max_calls', 'max_samples')"
    answered = "r.tier IS NOT NULL AND (r.accepted OR r.reason = 'last_tier')"
    joined, pairs = _premium_join(period)
    premium, is_measured = (
        ("COALESCE(s.cost_usd, r.premium_usd)", "s.cost_usd IS NOT NULL") if joined else ("r.premium_usd", "1 = 0")
    )
    priced = f"{answered} AND r.cost_usd IS NOT NULL"
    rows = _sums(
        period,
        "SELECT policy, task, caller, tier, day, COUNT(*), SUM(answered), SUM(escalated), SUM(early), SUM(stopped), "
        "SUM(failed), COALESCE(SUM(cost_usd), 0.0), COUNT(*) - COUNT(cost_usd), COUNT(saved), COALESCE(SUM(premium), 0.0), "
        "COALESCE(SUM(saved), 0.0), SUM(latency_s), COALESCE(SUM(measured), 0), "
        "COALESCE(SUM(saved * saved), 0.0), part, MIN(id) AS first FROM ("
        "SELECT CASE WHEN r.started >= ? THEN 1 ELSE 0 END AS part, r.id AS id, r.policy AS policy, "
        f"{tag('task')} AS task, {tag('key')} AS caller, r.tier AS tier, "
        f"{d.day} AS day, CASE WHEN {answered} THEN 1 ELSE 0 END AS answered, "
        f"CASE WHEN {d.tiers_asked} > 1 THEN 1 ELSE 0 END AS escalated, "
        f"CASE WHEN {answered} AND {d.tiers_asked} = 1 THEN 1 ELSE 0 END AS early, "
        f"CASE WHEN {stopped} THEN 1 ELSE 0 END AS stopped, "
        f"CASE WHEN r.tier IS NULL AND NOT {stopped} THEN 1 ELSE 0 END AS failed, r.cost_usd AS cost_usd, "
        f"CASE WHEN {priced} THEN {premium} END AS premium, CASE WHEN {priced} THEN {premium} - r.cost_usd END AS saved, "
        f"CASE WHEN {priced} AND {is_measured} THEN 1 ELSE 0 END AS measured, "
        f"r.latency_s AS latency_s FROM cascade_runs r {joined} WHERE {period.where}{d.fence}) AS q "
        "GROUP BY part, policy, task, caller, tier, day ORDER BY first",
        [period.since if begin is None else begin, *pairs, *period.values],
        engine,
    )
    parts = Traffic(), Traffic()
    for policy, task, caller, tier, day, *sums, squares, part, _ in rows:
        count, answers, escalations, early, stops, failures, usd, unpriced, compared, premium_usd, won, seconds, measured = (
            sums
        )
        group = Group(
            runs=int(count),
            answered=int(answers),
            escalated=int(escalations),
            early=int(early),
            stopped=int(stops),
            failed=int(failures),
            usd=float(usd),
            unpriced=int(unpriced),
            compared=int(compared),
            premium_usd=float(premium_usd),
            saved_usd=float(won),
            seconds=float(seconds),
            measured=int(measured),
            squares=float(squares),
        )
        date = (_EPOCH + timedelta(days=int(day))).date().isoformat()
        parts[int(part)].add(
            group, policy=policy, task=task or "(none)", key=caller or "(none)", tier=tier or "(no answer)", day=date
        )
    return parts


def _sums(period: Period, sql: str, values: Sequence[Any], engine: Engine | None) -> Iterable[Row]:
    if isinstance(period.store, ParquetStore):
        # Each shard has its own groups; adding up is what the caller does with them.
        return itertools.chain.from_iterable(period.store.by_shard(sql, values, engine))
    statement = period.dialect.before_sums
    if not statement:
        return period.store.execute(sql, values)
    with period.store.transaction():
        period.store.execute(statement)
        return period.store.execute(sql, values)


def qualities(period: Period, runs: int) -> dict[str, PolicyQuality]:
    """The labels of each policy's runs, and which escalations and acceptances cost most.

    Args:
        period: The runs.
        runs: How many there are.
    """
    stored = {hash: json.loads(text) for hash, text in period.store.policies().items()}
    premiums = {hash: policy["tiers"][-1]["name"] for hash, policy in stored.items()}
    share = _share_read(stored.values(), runs)
    result: dict[str, PolicyQuality] = {}
    for policy, hash, *row in _quality_rows(period, premiums, share):
        quality = result.setdefault(policy, PolicyQuality(share_read=share))
        quality.add(QualityRow(*row), premiums[hash])
    if any(_stores_text(policy) for policy in stored.values()):
        _escalations(period, result)
    _costly(period, premiums, result)
    return result


def _share_read(policies: Iterable[Mapping[str, Any]], runs: int) -> float:
    """The share of all runs that the estimate reads: at least the largest share that any policy samples."""
    if runs <= MOST_RUNS:
        return 1.0
    sampled: list[float] = [
        max([shadow["share"], *(stratum["share"] for stratum in shadow.get("strata") or ())])
        for policy in policies
        if (shadow := policy.get("shadow")) is not None
    ]
    return min(1.0, max([MOST_RUNS / runs, *sampled]))


def _below(share: float) -> tuple[str, list[Any]]:
    """The condition that a run's random digits are among the smallest ``share``."""
    if share >= 1.0:
        return "", []
    return " AND substr(r.run_id, ?) < ?", [33 - _DIGITS, f"{ceil(share * 16**_DIGITS):0{_DIGITS}x}"]


def _quality_rows(period: Period, premiums: dict[str, str], share: float) -> Iterator[Row]:
    below, values = _below(share)
    if not premiums:
        return
    columns = (
        "r.policy, r.policy_hash, r.run_id, r.tier, r.confidence, r.premium_usd, "
        f"{period.dialect.probability} AS probability, l.loss, s.cost_usd"
    )
    shadowed, pairs = _with_premium(premiums)
    joined = f"LEFT JOIN cascade_labels l ON l.run_id = r.run_id AND l.state = 'done' {shadowed}"
    yield from _rows(period, columns, joined, below, pairs, values)


def _with_premium(premiums: Mapping[str, str]) -> tuple[str, list[str]]:
    """Joins a run ``r`` with premium's shadow answer ``s``; and the values of that."""
    tier = f"CASE r.policy_hash {' '.join('WHEN ? THEN ?' for _ in premiums)} END"
    joined = f"LEFT JOIN cascade_shadows s ON s.run_id = r.run_id AND s.state = 'done' AND s.tier = {tier}"
    return joined, [value for pair in premiums.items() for value in pair]


def _premium_join(period: Period) -> tuple[str, list[str]]:
    """Joins a run with premium's shadow answer, and the values of that; empty where no policy has any."""
    stored = {hash: json.loads(text) for hash, text in period.store.policies().items()}
    premiums = {hash: policy["tiers"][-1]["name"] for hash, policy in stored.items() if policy.get("shadow") is not None}
    return _with_premium(premiums) if premiums else ("", [])


def _rows(
    period: Period, columns: str, joined: str, condition: str, join_values: Sequence[Any], values: Sequence[Any]
) -> Iterator[Row]:
    """The rows in order of their numbers."""
    return period.store.stream(
        f"SELECT {columns} FROM cascade_runs r {joined} WHERE {period.where}{condition} ORDER BY r.id",
        [*join_values, *period.values, *values],
    )


def _stores_text(policy: dict[str, Any]) -> bool:
    return bool(policy.get("journal_text") or (policy.get("shadow") or {}).get("text"))


def _escalations(period: Period, result: dict[str, PolicyQuality]) -> None:
    """Adds the escalated runs whose answers are stored."""
    d = period.dialect
    condition = f" AND {d.attempts} LIKE ? AND {d.tiers_asked} > 1"
    for policy, attempts in _rows(period, f"r.policy, {d.attempts}", "", condition, (), ['%"answer":%']):
        result.setdefault(policy, PolicyQuality()).add_escalation(json.loads(attempts))


def _costly(period: Period, premiums: dict[str, str], result: dict[str, PolicyQuality]) -> None:
    """Adds the accepted answers with the largest losses; their texts are read for those alone."""
    store = period.store
    for policy, quality in result.items():
        acceptances: list[Acceptance] = []
        for hash, premium_tier in premiums.items():
            rows = store.execute(
                "SELECT r.run_id, l.loss FROM cascade_labels l JOIN cascade_runs r ON r.run_id = l.run_id "
                f"WHERE l.state = 'done' AND l.loss > 0 AND {period.where} AND r.policy = ? AND r.policy_hash = ? "
                "AND r.tier IS NOT NULL AND r.tier <> ? "
                "ORDER BY l.loss DESC, COALESCE(r.confidence, 0.0) DESC, r.id LIMIT ?",
                [*period.values, policy, hash, premium_tier, MOST_LINES],
            )
            for run_id, loss in rows:
                record = store.find(run_id)
                if record is not None:
                    acceptances.append(acceptance_of(record, loss, premium_tier))
        quality.show(acceptances)


def compare_prompts(period: Period, prompts: PromptDrift, runs: int, engine: Engine | None = None) -> None:
    """Compares the runs with text with a recording, in their order; an ``engine``'s workers read the prompts."""
    share = 1.0 if runs <= MOST_PROMPTS else MOST_PROMPTS / runs
    below, values = _below(share)
    prompt = period.dialect.prompt
    columns = f"r.policy, r.started, {prompt}"
    rows = _rows(period, columns, "", f"{below} AND {prompt} IS NOT NULL", (), values)
    prompts.add_all(((policy, started, json.loads(text)) for policy, started, text in rows), engine)
