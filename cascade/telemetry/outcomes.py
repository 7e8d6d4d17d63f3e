"""How a call and a verdict ended, each as one word of a small fixed set, as labels of metrics must be."""

from typing import Literal

from cascade.result import CallRecord
from judges import Judge, Verdict

VerdictLabel = Literal["score", "veto", "pass", "unknown", "error"]

# Statuses that have a label of their own; others are labelled by their class, since a server may invent any number.
_STATUSES = frozenset((400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529))


def failure(record: CallRecord) -> str | None:
    """Labels a request that got no answer.

    Returns:
        The HTTP status, "timeout", "connection", "malformed", "cancelled" or "_OTHER"; "4xx", "5xx" and the like for
        statuses that are not well known; None where the request got an answer.
    """
    if record.fault is None:
        return None
    if record.status is not None:
        return str(record.status) if record.status in _STATUSES else f"{record.status // 100}xx"
    return "_OTHER" if record.fault_kind in (None, "other") else record.fault_kind


def verdict_label(judge: Judge, outcome: Verdict | BaseException) -> VerdictLabel:
    """Labels a judge's verdict: "veto", "score", "pass" (by a judge that only vetoes), "unknown" or "error" (it raised)."""
    if isinstance(outcome, BaseException):
        return "error"
    if outcome.veto:
        return "veto"
    if outcome.score is not None:
        return "score"
    return "pass" if judge.only_vetoes else "unknown"
