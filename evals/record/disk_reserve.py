"""Room on the disk that is kept free, so that answers under way when it fills can still be kept."""

import errno
import os
from contextlib import suppress
from pathlib import Path

BYTES = 4 << 20


class DiskReserve:
    """A file beside ``path`` that takes up the room until it is given up. ``lacks`` says that the disk has no such room."""

    def __init__(self, path: Path) -> None:
        self.lacks = False
        self._file = path.with_name(f".{path.name}.spare")

    def take(self) -> None:
        """Takes up the room."""
        try:
            fd = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                os.posix_fallocate(fd, 0, BYTES)
            finally:
                os.close(fd)
        except OSError as error:  # else one that cannot allocate
            self.lacks = error.errno in (errno.ENOSPC, errno.EDQUOT)
            self.give_up()

    def give_up(self) -> None:
        """Leaves the room to others."""
        with suppress(OSError):
            self._file.unlink()
