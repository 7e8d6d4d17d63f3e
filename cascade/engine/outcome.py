"""How a run ended, read from what it returned or raised."""

import asyncio
from collections.abc import Sequence

from cascade.errors import DeadlineError, RunError, UnsureError
from cascade.result import Attempt, Result

Outcome = Result | BaseException | None
"""The result or exception of a run; None where neither is known."""


def run_reason(outcome: Outcome, attempts: Sequence[Attempt] | None = None) -> str:
    """Why a run ended.

    Args:
        outcome: What the run returned or raised.
        attempts: The run's attempts; None: those that the outcome holds.

    Returns:
        A result's reason; for a run that raised RunError, its last attempt's; "cancelled" or "raised" for other exceptions.
    """
    result = result_of(outcome)
    if result is not None:
        return result.reason
    if isinstance(outcome, asyncio.CancelledError):
        return "cancelled"
    if not isinstance(outcome, RunError):
        return "raised"
    attempts = outcome.attempts if attempts is None else attempts
    return "deadline" if isinstance(outcome, DeadlineError) or not attempts else attempts[-1].reason


def result_of(outcome: Outcome) -> Result | None:
    """The result of a run, also where UnsureError carries it; None where the run has none."""
    if isinstance(outcome, UnsureError):
        return outcome.result
    return outcome if isinstance(outcome, Result) else None


def attempts_of(outcome: Outcome) -> Sequence[Attempt]:
    """The attempts that the outcome holds; empty where it holds none."""
    return outcome.attempts if isinstance(outcome, Result | RunError) else ()
