"""Parts of the messages that people read: counts, and errors with the name of their file first."""


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """``1 row``, ``2 rows``, ``1,000 rows``; ``plural`` where it is not the noun with an s."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def error_text(error: BaseException) -> str:
    """``answers.jsonl: No such file or directory`` for an error of the operating system; the message of any other error."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def error_line(error: BaseException) -> str:
    """The same in one line: a validation error of several lines would hide what matters."""
    return " ".join(error_text(error).split())
