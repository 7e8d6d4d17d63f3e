"""Counts in words."""


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """``1 row``, ``2 rows``, ``1,000 rows``; ``plural`` where it is not the noun with an s."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"
