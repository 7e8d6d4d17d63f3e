"""Files that are replaced as a whole or not at all: a reader sees the old one or the new one, never half of one."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import IO


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A file to write into that takes the place of ``path`` when the block ends well; otherwise ``path`` stays as it was.

    It is on the disk before it takes the place. What a process that was killed left half written is taken away before.
    Raises OSError.
    """
    target = Path(path)
    _sweep(target)
    handle, temporary = _locked(target)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _locked(target: Path) -> tuple[int, str]:
    """A new file beside the target, locked for as long as it is open: so another process sees that it is in use."""
    while True:
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(handle).st_nlink:
            return handle, temporary
        os.close(handle)  # swept away between the two


def _sweep(target: Path) -> None:
    for left in target.parent.glob(f".{escape(target.name)}.*.part"):
        with suppress(OSError):  # in use, somebody else's, or on a file system without locks
            handle = os.open(left, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(left)
            finally:
                os.close(handle)
