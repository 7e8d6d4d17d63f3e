"""What goes into a log: an event with fields, which a text log shows as ``name=value`` and a JSON log as members."""

import json
import logging
import threading
from collections.abc import Hashable
from time import monotonic

_MAX_KEYS = 1000


class Event:
    """A log message with fields; formatted only where a handler writes it.

    Args:
        message: What happened, a constant of the code.
        fields: Names, numbers and short words: no texts of prompts or answers, no keys. None is unknown.
    """

    def __init__(self, message: str, /, **fields: object) -> None:
        self.message, self.fields = message, fields

    def __str__(self) -> str:
        return " ".join((f"{self.message}:", *(f"{name}={_text(value)}" for name, value in self.fields.items())))


def _text(value: object) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if text and text.isprintable() and not set(text) & set(' "=') else json.dumps(text)


class LimitedLog:
    """Writes warnings of one kind at most once in ``every_s`` seconds, and says how many were suppressed.

    Safe for threads. Where warnings of the logger are off, a call costs next to nothing.

    Args:
        logger: The logger.
        every_s: The least seconds between two warnings with the same key.
    """

    def __init__(self, logger: logging.Logger, every_s: float = 60.0) -> None:
        self._logger, self._every_s = logger, every_s
        self._kinds: dict[Hashable, tuple[float, int]] = {}  # when one was written last, and how many were suppressed since
        self._lock = threading.Lock()

    def warning(self, key: Hashable, event: Event) -> None:
        """Logs a warning.

        Args:
            key: What counts as the same kind.
            event: What happened; the field ``suppressed`` is added where some were.
        """
        if not self._logger.isEnabledFor(logging.WARNING):
            return
        now = monotonic()
        with self._lock:
            last, suppressed = self._kinds.get(key, (None, 0))
            if last is not None and now - last < self._every_s:
                self._kinds[key] = last, suppressed + 1
                return
            if len(self._kinds) >= _MAX_KEYS:
                self._kinds.clear()
            self._kinds[key] = now, 0
        if suppressed:
            event.fields["suppressed"] = suppressed
        self._logger.warning(event)
