"""The text of an answer without its dress of Markdown and LaTeX."""

import re
import unicodedata
from collections import deque

from judges.reading.normal_form import compatible

_FRAC = re.compile(r"\\[dt]?frac\{(-?\d{1,18})\}\{(\d{1,18})\}")
_WRAPPED = re.compile(r"\\(?:text|mathrm|mathbf|textbf)\{([^{}]{0,200})\}")
_SPACES = re.compile(r"\s+")
_ARTICLES = frozenset({"a", "an", "the"})


def last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    last = deque(pattern.finditer(text), 1)
    return last[0] if last else None


def bare_text(text: str) -> str:
    """The answer without the dress of Markdown and LaTeX, NFKC normalised, spaces folded."""
    text = _WRAPPED.sub(r"\1", _FRAC.sub(r"\1/\2", text.replace("{,}", ",").replace("\\!", "")))
    text = _SPACES.sub(" ", compatible(text).replace("\u2212", "-")).strip()
    text = text.strip("*_`\"' ").removeprefix("\\(").removesuffix("\\)")
    for opening, closing in (("$$", "$$"), ("\\[", "\\]")):
        if text.startswith(opening) and text.endswith(closing) and len(text) > 4:
            text = text[2:-2]
    return text.strip("*_`\"' ")


def plain_text(text: str) -> str:
    lowered = compatible(compatible(text).casefold())
    characters = []
    for i, char in enumerate(lowered):
        if char in "'’`*_":
            continue
        of_figure = char in "-.,:/" and lowered[i + 1 : i + 2].isdigit()
        dropped = unicodedata.category(char)[0] == "P" and char not in "#%&@" and not of_figure
        characters.append(" " if dropped else char)
    words = "".join(characters).split()
    return " ".join([word for word in words if word not in _ARTICLES] or words or lowered.split())
