"""Errors about a name that does not exist, with the name that was probably meant."""

from collections.abc import Iterable


def nearest(name: str, known_names: Iterable[str], *, likeness: float = 0.6) -> str:
    """``"; did you mean 'x'?"``, or nothing where no known name is near."""
    from difflib import get_close_matches

    if len(str(name)) > 100:  # comparing takes time in proportion to the length
        return ""
    close = get_close_matches(str(name), list(known_names), 1, likeness)
    return f"; did you mean {close[0]!r}?" if close else ""


def with_more(name: str, known_names: Iterable[str], more: str) -> str:
    """``nearest`` and ``more``, which follows the question as a sentence, and without one as ``"; more"``."""
    question = nearest(name, known_names)
    return f"{question} {more[0].upper()}{more[1:]}" if question else f"; {more}"


def unknown(kind: str, name: str, known_names: Iterable[str]) -> str:
    """``unknown policy 'x'; did you mean 'y'? Known: y, z``, or ``unknown policy 'x'; known: y, z``."""
    names = list(known_names)
    return f"unknown {kind} {name!r}{with_more(name, names, 'known: ' + ', '.join(names))}"
