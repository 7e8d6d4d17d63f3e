"""Files that are replaced as a whole or not at all: a reader sees the old one or the new one, never half of one."""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


@contextmanager
def replacing(path: str | os.PathLike[str], *, private: bool = False) -> Iterator[IO[bytes]]:
    """A file to write into that takes the place of ``path`` when the block ends well; otherwise ``path`` stays as it was.

    It is on the disk before it takes the place. Who may read it stays as it was; a new file only its owner may where it is
    ``private``, else whom the umask lets. A link goes on pointing to where it points. Raises OSError: also where ``path``
    is no file but a folder, pipe or device, whose place no file must take.
    """
    target, mode = _place(path)
    new = 0o600 if private else 0o666
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, new if mode is None else mode)
    except OSError as error:  # of the temporary file, which nobody has asked for
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
    """Where the file stands, behind all links, and the mode it has; None where there is none yet."""
    target = Path(os.path.realpath(path))
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return target, None
    if not stat.S_ISREG(mode):
        what = "a directory" if stat.S_ISDIR(mode) else "a pipe or device"
        raise OSError(errno.EINVAL, f"is {what}, which a file must not replace; give the name of a file", str(path))
    return target, stat.S_IMODE(mode)
