"""A file of lines that only grows, locked against a second process; what was appended whole stays whole."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from .disk_reserve import DiskReserve

_READ = 1 << 14


class AppendLog:
    """An open file, made where there was none. Raises OSError, BlockingIOError where another process has it open.

    ``end`` is where the next line goes. ``full`` says that the disk is and only the reserve for what is under way is left,
    so that nothing new may be begun.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.end, self.full, self.reserve = path, 0, False, DiskReserve(path)
        self._dirty = False
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(self._fd)
            raise

    def cut(self) -> None:
        """Takes away what stands behind ``end``."""
        os.ftruncate(self._fd, self.end)

    def line(self, offset: int) -> bytes:
        """The line that begins there. Raises EOFError where it has no end."""
        block = os.pread(self._fd, _READ, offset)
        while (end := block.find(b"\n")) < 0:
            more = os.pread(self._fd, _READ + len(block), offset + len(block))
            if not more:
                raise EOFError
            block += more
        return block[:end]

    def append(self, line: bytes) -> int:
        """Appends a line; its offset. It is in the file when this returns, on the disk after the next ``sync``."""
        offset = self.end
        try:
            self._write(line)
        except OSError:
            if self.full:
                raise
            self.full = True
            self.reserve.give_up()
            self._write(line)
        return offset

    def _write(self, line: bytes) -> None:
        done = 0
        try:
            while done < len(line):
                done += os.pwrite(self._fd, line[done:] if done else line, self.end + done)
        except OSError:
            with suppress(OSError):
                self.cut()  # no half line before what may follow
            raise
        self.end += done
        self._dirty = True

    def sync(self) -> None:
        """Brings what was appended to the disk."""
        if self._dirty:
            self._dirty = False
            os.fsync(self._fd)

    def close(self) -> None:
        """Syncs and unlocks."""
        try:
            self.sync()
        finally:
            self.reserve.give_up()
            os.close(self._fd)
