"""Files that are replaced as a whole or not at all: a reader sees the old one or the new one, never half of one."""

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import IO


@contextmanager
def replacing(path: str | os.PathLike[str], *, private: bool = False) -> Iterator[IO[bytes]]:
    """A file to write into that takes the place of ``path`` when the block ends well; otherwise ``path`` stays as it was.

    It is on the disk before it takes the place. Who may read it stays as it was; a new file only its owner may where it is
    ``private``, else everyone whom the umask allows. A link keeps its target. What a killed process left
    half written is taken away before. Raises OSError: also where ``path`` is not a file but a folder, pipe or device, whose
    place no file must take.
    """
    target, mode = _place(path)
    _sweep(target)
    new = 0o600 if private else 0o666
    try:
        handle, temporary = _locked(target, new if mode is None else mode)
    except OSError as error:  # about the temporary file, which the caller did not name
        missing = "the directory of this file does not exist; make it first"
        raise OSError(error.errno, missing if error.errno == errno.ENOENT else error.strerror, str(path)) from None
    try:
        with os.fdopen(handle, "wb") as file:
            if mode is not None:
                os.chmod(temporary, mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _place(path: str | os.PathLike[str]) -> tuple[Path, int | None]:
    """Where the file is once all links are followed, and its mode; None where there is no file yet."""
    target = Path(os.path.realpath(path))
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return target, None
    if not stat.S_ISREG(mode):
        what = "a directory" if stat.S_ISDIR(mode) else "a pipe or device"
        raise OSError(errno.EINVAL, f"is {what}, which a file must not replace; give the name of a file", str(path))
    return target, stat.S_IMODE(mode)


def _locked(target: Path, mode: int) -> tuple[int, Path]:
    """A new file next to the target, locked while it is open, so that another process sees that it is in use."""
    while True:
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
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
