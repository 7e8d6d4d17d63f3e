"""An append-only file of lines, locked against other processes; a line is written whole or not at all."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from .disk_reserve import DiskReserve

_READ = 1 << 14


class AppendLog:
    """An open log file, created if it does not exist.

    Attributes:
        end: The offset of the next line.
        full: Whether the disk is full and only the reserve for the requests under way is left: send no new requests.

    Raises:
        BlockingIOError: Another process has the file open.
        OSError: The file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.end, self.full, self.reserve = path, 0, False, DiskReserve(path)
        self._dirty = False
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(self._fd)
            raise

    def truncate(self) -> None:
        """Removes what follows ``end``."""
        os.ftruncate(self._fd, self.end)

    def line_at(self, offset: int) -> bytes:
        """The line at an offset. Raises EOFError where it is not terminated."""
        block = os.pread(self._fd, _READ, offset)
        while (end := block.find(b"\n")) < 0:
            more = os.pread(self._fd, _READ + len(block), offset + len(block))
            if not more:
                raise EOFError
            block += more
        return block[:end]

    def append(self, line_at: bytes) -> int:
        """Appends a line and returns its offset. The line is in the file now, and on the disk after the next ``sync``."""
        offset = self.end
        try:
            self._write(line_at)
        except OSError:
            if self.full:
                raise
            self.full = True
            self.reserve.release()
            self._write(line_at)
        return offset

    def _write(self, line_at: bytes) -> None:
        done = 0
        try:
            while done < len(line_at):
                done += os.pwrite(self._fd, line_at[done:] if done else line_at, self.end + done)
        except OSError:
            with suppress(OSError):
                self.truncate()  # no half line before what may follow
            raise
        self.end += done
        self._dirty = True

    def sync(self) -> None:
        """Flushes the appended lines to the disk."""
        if self._dirty:
            self._dirty = False
            os.fsync(self._fd)

    def close(self) -> None:
        """Syncs and unlocks."""
        try:
            self.sync()
        finally:
            self.reserve.release()
            os.close(self._fd)
