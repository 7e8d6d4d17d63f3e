"""Unicode's compatibility form (NFKC) in linear time and space, whatever the text."""

import unicodedata

_MOST_MARKS = 30  # combining marks in a row: Unicode's stream-safe format, as sorting long runs is quadratic
_MOST_GROWTH = 3  # one character can expand to eighteen
_PIECE = 1000


def compatible(text: str) -> str:
    """A text in NFKC, with long runs of combining marks broken up; unchanged where it would be three times as long."""
    if text.isascii():
        return text
    run, safe = 0, []
    for char in text:
        run = run + 1 if unicodedata.combining(char) else 0
        if run > _MOST_MARKS:
            safe.append("\u034f")
            run = 1
        safe.append(char)
    joined = "".join(safe)
    return text if _grows(joined) else unicodedata.normalize("NFKC", joined)


def _grows(text: str) -> bool:
    """Whether its compatibility form is much longer; examined piece by piece, so that most of it is never made."""
    size, most = 0, _MOST_GROWTH * len(text) + 1000
    for start in range(0, len(text), _PIECE):
        size += len(unicodedata.normalize("NFKC", text[start : start + _PIECE]))
        if size > most:
            return True
    return False
