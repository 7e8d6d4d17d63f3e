"""Reserved disk space, so that answers under way when the disk fills up can still be stored."""

import errno
import os
from contextlib import suppress
from pathlib import Path

BYTES = 4 << 20


class DiskReserve:
    """A file next to ``path`` that occupies the space until it is released. Raises ``disk_full`` without enough space."""

    def __init__(self, path: Path) -> None:
        self.disk_full = False
        self._file = path.with_name(f".{path.name}.spare")

    def allocate(self) -> None:
        """Occupies the space."""
        try:
            fd = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                os.posix_fallocate(fd, 0, BYTES)
            finally:
                os.close(fd)
        except OSError as error:  # else one that cannot allocate
            self.disk_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            self.release()

    def release(self) -> None:
        """Frees the space."""
        with suppress(OSError):
            self._file.unlink()
