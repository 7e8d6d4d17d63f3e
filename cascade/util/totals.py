"""Sums of amounts that may be unknown: where any part is unknown (None), so is the sum. Unknown is never 0."""

from collections.abc import Iterable

from judges import Usage


def total(amounts: Iterable[float | None]) -> float | None:
    """Adds amounts up.

    Args:
        amounts: The amounts, such as costs in USD or latencies in seconds; None is an unknown one.

    Returns:
        The sum, 0.0 where there are no amounts; None where any amount is unknown.
    """
    parts = list(amounts)
    return None if None in parts else sum((amount for amount in parts if amount is not None), 0.0)


def plus(amount: float | None, more: float | None) -> float | None:
    """``amount + more``; None where either is unknown."""
    return None if amount is None or more is None else amount + more


def total_usage(usages: Iterable[Usage | None]) -> Usage | None:
    """Adds token counts up.

    Returns:
        The sum, an empty Usage where there are none; None where any usage is unknown.
    """
    parts = list(usages)
    return None if None in parts else sum((usage for usage in parts if usage is not None), Usage())
