"""Regular expressions that others wrote, under a limit of CPU time that a busy machine or a busy process does not change."""

from functools import lru_cache
from time import thread_time
from typing import Any

_MOST_TRIES = 8


@lru_cache(maxsize=256)
def compiled(pattern: str) -> Any:
    """The pattern, compiled by ``regex``: unlike ``re`` it can be stopped. Raises ValueError where it is not a pattern."""
    import regex

    try:
        return regex.compile(pattern)
    except (regex.error, OverflowError, RecursionError) as error:
        raise ValueError(f"not a regular expression: {pattern[:80]!r}: {str(error)[:120]}") from None


def is_found(pattern: str, text: str, limit_s: float) -> bool:
    """Whether a pattern is found in a text.

    The clock of ``regex`` counts what all threads of the process do meanwhile (on Windows: the wall clock). So a search that
    was stopped before this thread spent its time on it is repeated, with more time.

    Args:
        pattern: The pattern.
        text: Where to search.
        limit_s: The CPU time of this thread that one search may take.

    Raises:
        ValueError: It is not a pattern.
        TimeoutError: The search takes longer.
    """
    matcher, timeout, spent = compiled(pattern), limit_s, 0.0
    if limit_s <= 0:
        raise TimeoutError
    for _ in range(_MOST_TRIES):
        began = thread_time()
        try:
            return matcher.search(text, timeout=timeout) is not None
        except TimeoutError:
            used = thread_time() - began
        spent += used
        if used >= 0.9 * limit_s or spent >= 2 * limit_s:
            break
        timeout *= 2
    raise TimeoutError
