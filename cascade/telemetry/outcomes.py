"""How a call, a verdict and a run ended, each as one word of a small fixed set: what a metric may be labelled with."""

import asyncio
from collections.abc import Sequence
from typing import Literal

from cascade.errors import DeadlineError, RunError, UnsureError
from cascade.result import Attempt, CallRecord, Result
from judges import Judge, Verdict

Label = Literal["score", "veto", "pass", "unknown", "error"]

# Statuses that say something of their own; others are told by their hundred, since a server may make up any.
_STATUSES = frozenset((400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529))
# The words with which the models begin, after their name, what they say of a fault.
_FAULTS = (
    ("timed out", "timeout"),
    ("no connection", "connection"),
    ("connection lost", "connection"),
    ("malformed reply", "malformed"),
)


def failure(record: CallRecord) -> str | None:
    """Why a request gave no answer: its HTTP status, "timeout", "connection", "malformed", "cancelled" or "_OTHER".

    None where it gave one. Statuses that are not well known are "4xx", "5xx" and the like.
    """
    if record.fault is None:
        return None
    if record.status is not None:
        return str(record.status) if record.status in _STATUSES else f"{record.status // 100}xx"
    said = record.fault.removeprefix(f"{record.model}: ")
    if said == "cancelled":
        return said
    return next((kind for words, kind in _FAULTS if said.startswith(words)), "_OTHER")


def label(judge: Judge, said: Verdict | BaseException) -> Label:
    """What a judge said: "veto", "score", "pass" (a judge that only vetoes did not), "unknown" (it cannot tell), "error"."""
    if isinstance(said, BaseException):
        return "error"
    if said.veto:
        return "veto"
    if said.score is not None:
        return "score"
    return "pass" if judge.only_vetoes else "unknown"


def reason(outcome: Result | BaseException | None) -> str:
    """Why a run ended: a result's reason, for a run that raised its last attempt's, "cancelled" or "raised"."""
    if isinstance(outcome, UnsureError):
        return outcome.result.reason
    if isinstance(outcome, Result):
        return outcome.reason
    if isinstance(outcome, asyncio.CancelledError):
        return "cancelled"
    if not isinstance(outcome, RunError):
        return "raised"
    return "deadline" if isinstance(outcome, DeadlineError) or not outcome.attempts else outcome.attempts[-1].reason


def result_of(outcome: Result | BaseException | None) -> Result | None:
    """The result of a run, also where it was raised for not being sure enough."""
    if isinstance(outcome, UnsureError):
        return outcome.result
    return outcome if isinstance(outcome, Result) else None


def attempts_of(outcome: Result | BaseException | None) -> Sequence[Attempt]:
    """What was tried, as far as the outcome says it."""
    return outcome.attempts if isinstance(outcome, Result | RunError) else ()


def total_usd(attempts: Sequence[Attempt]) -> float | None:
    """What the attempts cost together; None where any part is unknown."""
    costs = [a.cost_usd for a in attempts]
    return None if None in costs else sum(c for c in costs if c is not None)
