"""Reads files line by line or as a whole, gzipped or not, with a limit on the unpacked size.

A gzip file of a few megabytes can unpack to gigabytes. Every reader of recordings, datasets and logs goes through here, so
that such a file is an error with its place, and not the end of the process.
"""

import gzip
import os
import zlib
from collections.abc import Iterator
from functools import partial
from typing import IO, cast

MAX_LINE_BYTES = 64 << 20
MAX_DOCUMENT_BYTES = 512 << 20
GZIP_ERRORS = (EOFError, gzip.BadGzipFile, zlib.error)


class UnreadableFileError(ValueError):
    """A file that is damaged or too large when unpacked; the message names the file and the line, and says what to do."""


def open_bytes(path: str | os.PathLike[str]) -> IO[bytes]:
    """Opens a file for reading; unpacks it where its name ends in ``.gz``. Raises OSError."""
    return cast(IO[bytes], gzip.open(path, "rb")) if str(path).endswith(".gz") else open(path, "rb")


def read_lines(path: str | os.PathLike[str], max_bytes: int = MAX_LINE_BYTES) -> Iterator[bytes]:
    """The lines of a file with their line ends, streamed.

    Args:
        path: The file; unpacked where its name ends in ``.gz``.
        max_bytes: The largest line that is accepted.

    Yields:
        Each line.

    Raises:
        UnreadableFileError: A line is too long, or the gzip data is damaged.
        OSError: The file cannot be opened.
    """
    number = 0
    with open_bytes(path) as file:
        try:
            for line in iter(partial(file.readline, max_bytes + 1), b""):
                number += 1
                if len(line) > max_bytes:
                    raise UnreadableFileError(f"{path}:{number}: {too_large('the line', max_bytes)}")
                yield line
        except GZIP_ERRORS as error:
            raise UnreadableFileError(f"{path}:{number + 1}: {gzip_damage(error)}") from None


def read_document(path: str | os.PathLike[str], max_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
    """The whole content of a file.

    Args:
        path: The file; unpacked where its name ends in ``.gz``.
        max_bytes: The largest content that is accepted.

    Returns:
        The content.

    Raises:
        UnreadableFileError: The content is too large, or the gzip data is damaged.
        OSError: The file cannot be opened.
    """
    with open_bytes(path) as file:
        try:
            return read_at_most(file, max_bytes, f"{path}: {too_large('the file', max_bytes)}")
        except GZIP_ERRORS as error:
            raise UnreadableFileError(f"{path}: {gzip_damage(error)}") from None


def read_at_most(file: IO[bytes], max_bytes: int, message: str, block_bytes: int = 1 << 20) -> bytes:
    """Reads a stream to its end. Raises UnreadableFileError with ``message`` where it is longer than ``max_bytes``."""
    blocks: list[bytes] = []
    size = 0
    while block := file.read(block_bytes):
        size += len(block)
        if size > max_bytes:
            raise UnreadableFileError(message)
        blocks.append(block)
    return b"".join(blocks)


def too_large(what: str, max_bytes: int) -> str:
    """The text of an error about something that unpacks to too many bytes."""
    return f"{what} is larger than {max_bytes >> 20} MB when read; the file is damaged or no data file of this kind"


def gzip_damage(error: BaseException) -> str:
    """The text of an error about damaged gzip data."""
    why = "is cut off" if isinstance(error, EOFError) else "is not valid gzip"
    return f"the gzip data {why}; copy the file again"
