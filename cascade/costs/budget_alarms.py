"""Warnings where a budget that runs share is half, four fifths or wholly spent: once for each, per process and period."""

import logging

from cascade.util.log_events import Event

log = logging.getLogger("cascade.budget")

LEVELS = (1.0, 0.8, 0.5)
FIRST = LEVELS[-1]
_MAX_SCOPES = 10_000
_reached: dict[str, float] = {}  # the highest level of each scope that was logged


def check(scope: str, spent_usd: float, limit_usd: float, *, refused: bool = False) -> None:
    """Logs a warning where a scope has reached its next level.

    Args:
        scope: The scope with its period.
        spent_usd: What is spent in it, without what is only reserved.
        limit_usd: Its limit.
        refused: Whether a request was refused because it does not fit into what is left.
    """
    level = 1.0 if refused else next((one for one in LEVELS if spent_usd >= one * limit_usd), 0.0)
    if level <= _reached.get(scope, 0.0):
        return
    if len(_reached) >= _MAX_SCOPES:
        _reached.clear()
    _reached[scope] = level
    message = "a budget has no room left" if refused else "a budget is spent in part" if level < 1 else "a budget is spent"
    log.warning(Event(message, budget=scope, percent=round(100 * level), spent_usd=round(spent_usd, 9), limit_usd=limit_usd))
