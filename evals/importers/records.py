"""The records of a log, one by one: a damaged record is left out and counted, up to a limit."""

import os
from collections.abc import Callable, Iterable, Iterator

from cascade.util.bounded_read import UnreadableFileError, read_lines
from evals.recording import RecordingError

from .base import ImportedAnswer, Skipped
from .fields import Field, SeveralValuesError, document, parse_line

Item = ImportedAnswer | Skipped
_UNREADABLE = "the record cannot be read"
_MESSAGE_CHARS = 200


def read_each(
    records: Iterable[Field | RecordingError], convert: Callable[[Field], Iterable[Item]], max_bad: float
) -> Iterator[Item]:
    """Converts the records of one log.

    Args:
        records: The records, or the error of one that cannot be parsed.
        convert: Returns the answers of a record; raises RecordingError where a field is not as expected.
        max_bad: The share of records that may be left out; one may, unless the share is 0.

    Yields:
        The answers, and what was skipped.

    Raises:
        RecordingError: No record can be read, or too many cannot.
    """
    good = bad = 0
    first: RecordingError | None = None
    for record in records:
        try:
            if isinstance(record, RecordingError):
                raise record
            items = list(convert(record))
        except RecordingError as error:
            bad += 1
            first = first or error
            yield Skipped(str(error)[:_MESSAGE_CHARS], _UNREADABLE)
        else:
            good += 1
            yield from items
    if first is not None and not good:
        raise first
    if first is not None and bad > (max(1, max_bad * (good + bad)) if max_bad else 0):
        raise RecordingError(
            f"{first}; {bad:,} of {good + bad:,} records cannot be read, more than --max-bad {max_bad:g} allows"
        )


def lines(path: str | os.PathLike[str], reads: str) -> Iterator[Field | RecordingError]:
    """The records of a JSON Lines file, streamed; the error of a line that is not JSON. Raises RecordingError, OSError."""
    try:
        for number, line in enumerate(read_lines(path), 1):
            if line.strip():
                try:
                    record: Field | RecordingError = parse_line(line, f"{path}:{number}", reads)
                except RecordingError as error:
                    record = error
                yield record
    except UnreadableFileError as error:
        raise RecordingError(str(error)) from None


def records(path: str, reads: str, names: tuple[str, ...] = ("data",)) -> Iterator[Field | RecordingError]:
    """The records of a log in JSON or JSON Lines.

    Args:
        path: The file; JSON where its name ends in ``.json`` or ``.json.gz`` and it holds one value, else JSON Lines.
        reads: Which formats are read, for errors.
        names: The fields of a JSON object that may hold the list of records.

    Yields:
        Each record, or the error of a line that is not JSON.

    Raises:
        RecordingError: The file is damaged, or too large.
        OSError: The file cannot be opened.
    """
    if not path.removesuffix(".gz").endswith(".json"):
        yield from lines(path, reads)
        return
    try:
        whole = document(path, reads, lists=True)
    except SeveralValuesError:
        yield from lines(path, reads)  # exporters write JSON Lines under this name, too
        return
    if isinstance(whole.value, list):
        yield from whole.items()
        return
    for name in names:
        if isinstance(whole.value.get(name), list):
            yield from whole.need(name, list).items()
            return
    yield whole
