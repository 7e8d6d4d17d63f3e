"""The audit's sums record by record, in plain Python: what the database adds up must be the same."""

from collections.abc import Iterable
from datetime import UTC, datetime

from cascade.journal.record import Record
from evals.audit.quality import Acceptance, PolicyQuality, QualityRow, acceptance_of
from evals.audit.traffic import Group, Traffic

_STOPPED = ("budget", "max_calls", "max_samples")


def group_of(record: Record) -> Group:
    """A run alone."""
    answered = record.tier is not None and (record.accepted or record.reason == "last_tier")
    n_tiers = sum(a["reason"] != "skipped" for a in record.attempts)
    group = Group(
        runs=1,
        answered=int(answered),
        escalated=int(n_tiers > 1),
        early=int(answered and n_tiers == 1),
        stopped=int(record.reason in _STOPPED),
        failed=int(record.tier is None and record.reason not in _STOPPED),
        unpriced=int(record.cost_usd is None),
        usd=record.cost_usd or 0.0,
        seconds=record.latency_s,
    )
    # What gave no answer to rely on has saved nothing, however cheap it was.
    if answered and record.cost_usd is not None and record.premium_usd is not None:
        measured = [s["cost_usd"] for s in record.shadows if s["state"] == "done" and s["tier"] == "premium"]
        premium_usd = measured[0] if measured else record.premium_usd
        saved = premium_usd - record.cost_usd
        group.compared, group.premium_usd, group.saved_usd, group.squares = 1, premium_usd, saved, saved * saved
        group.measured = len(measured)
    return group


def traffic(records: Iterable[Record]) -> Traffic:
    """The counts and sums of runs."""
    result = Traffic()
    for record in records:
        result.add(
            group_of(record),
            policy=record.policy,
            task=str(record.tags.get("task", "(none)")),
            key=str(record.tags.get("key", "(none)")),
            tier=record.tier or "(no answer)",
            day=datetime.fromtimestamp(record.started, UTC).date().isoformat(),
        )
    return result


def qualities(records: Iterable[Record], labels: dict[str, float], premium: str) -> dict[str, PolicyQuality]:
    """The labels of each policy's runs."""
    result: dict[str, PolicyQuality] = {}
    costly: dict[str, list[Acceptance]] = {}
    for record in records:
        quality = result.setdefault(record.policy, PolicyQuality())
        quality.add_escalation(record.attempts)
        shadows = {shadow["tier"]: shadow for shadow in record.shadows if shadow["state"] == "done"}
        loss = labels.get(record.run_id)
        row = QualityRow(
            run_id=record.run_id,
            tier=record.tier,
            confidence=record.confidence,
            premium_usd=record.premium_usd,
            probability=record.sampling_probability,
            loss=loss,
            measured_usd=shadows.get(premium, {}).get("cost_usd"),
        )
        quality.add(row, premium)
        if loss is not None and loss > 0 and record.tier not in (None, premium):
            costly.setdefault(record.policy, []).append(acceptance_of(record, loss, premium))
    for policy, acceptances in costly.items():
        result[policy].show(acceptances)
    return result
