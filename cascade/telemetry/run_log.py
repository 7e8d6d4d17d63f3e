"""One line for each run, at INFO in the logger ``cascade.run``; nothing is computed while that level is off."""

import logging
from collections.abc import Awaitable
from time import perf_counter

from cascade.engine.outcome import attempts_of, result_of, run_reason
from cascade.result import Result
from cascade.util.log_events import Event
from cascade.util.totals import total

log = logging.getLogger("cascade.run")


async def log_run(kind: str, policy: str, work: Awaitable[Result]) -> Result:
    """Awaits a run and logs how it ended: names and figures, never a text.

    Args:
        kind: "run" or "gate".
        policy: The policy's name, as the caller wrote it.
        work: The run.

    Returns:
        The run's result; what the run raises is logged and raised.
    """
    started = perf_counter()
    try:
        result = await work
    except BaseException as error:
        _log(kind, policy, error, perf_counter() - started)
        raise
    _log(kind, policy, result, perf_counter() - started)
    return result


def _log(kind: str, policy: str, outcome: Result | BaseException, seconds: float) -> None:
    result, attempts = result_of(outcome), attempts_of(outcome)
    usd = result.cost_usd if result is not None else total(a.cost_usd for a in attempts) if attempts else None
    fields = {
        "run_id": getattr(outcome, "run_id", None) or None,
        "policy": policy,
        "reason": run_reason(outcome),
        "accepted": result is not None and result.accepted,
        "tier": result.tier if result is not None else "none",
        "model": result.model if result is not None else "none",
        "confidence": result.confidence if result is not None else None,
        "cost_usd": usd,
        "seconds": round(seconds, 6),
        "calls": sum(len(attempt.call_log) for attempt in attempts),
    }
    if isinstance(outcome, BaseException):
        fields["error"] = type(outcome).__name__
    log.info(Event(kind, **fields))
