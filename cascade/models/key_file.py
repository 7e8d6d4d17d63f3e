"""A key in a file that someone else renews, such as a token that expires after an hour."""

from pathlib import Path

from cascade.errors import PolicyError

MAX_BYTES = 64 * 1024


class KeyFile:
    """Reads a key again whenever its file has changed; a look at the file takes a few microseconds.

    Args:
        path: The file; whitespace around the key is dropped.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self._stamp: tuple[int, int, int] | None = None
        self._key = ""

    def read(self) -> str:
        """The key as the file has it now; the previous one while the file cannot be read.

        Raises:
            PolicyError: There is no key, and never was; names the file.
        """
        try:
            stat = self.path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if stamp != self._stamp:
                key = self._content()
                if key:
                    self._stamp, self._key = stamp, key
        except (OSError, UnicodeDecodeError) as error:
            if not self._key:
                reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
                raise PolicyError(f"api_key_file: {self.path} cannot be read: {reason}") from None
        if not self._key:
            raise PolicyError(f"api_key_file: {self.path} holds no key: it must be one line of printable ASCII")
        return self._key

    def _content(self) -> str:
        with self.path.open(encoding="utf-8") as file:
            key = file.read(MAX_BYTES).strip()
        return key if key.isascii() and key.isprintable() else ""
