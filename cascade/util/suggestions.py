"""Errors about a name that does not exist, with the name that was probably meant."""

from collections.abc import Iterable


def nearest(name: str, known_names: Iterable[str], *, likeness: float = 0.6) -> str:
    """``"; did you mean 'x'?"``, or nothing where no known name is near."""
    from difflib import get_close_matches

    if len(str(name)) > 100:  # comparing takes time in proportion to the length
        return ""
    close = get_close_matches(str(name), list(known_names), 1, likeness)
    return f"; did you mean {close[0]!r}?" if close else ""


def unknown(kind: str, name: str, known_names: Iterable[str]) -> str:
    """``unknown policy 'x'; did you mean 'y'?; known: y, z``."""
    names = list(known_names)
    return f"unknown {kind} {name!r}{nearest(name, names)}; known: {', '.join(names)}"
