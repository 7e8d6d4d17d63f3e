"""A cache bounded by the bytes of its entries, since a few large schemas take more memory than many small ones."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

ValueT = TypeVar("ValueT")


class ByteBoundedCache(Generic[ValueT]):
    """Keeps the most recently used entries. Safe in threads.

    Args:
        max_entries: Most entries.
        max_bytes: Most bytes of all entries together; a larger entry is not kept.
    """

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self._max_entries, self._max_bytes, self._bytes = max_entries, max_bytes, 0
        self._entries: OrderedDict[Hashable, tuple[ValueT, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> ValueT | None:
        """The value of ``key``; None where it is not kept."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def put(self, key: Hashable, value: ValueT, size: int) -> None:
        """Stores a value that counts as ``size`` bytes, in place of the least recently used ones."""
        if size > self._max_bytes:
            return
        with self._lock:
            _, previous = self._entries.pop(key, (None, 0))
            self._entries[key] = value, size
            self._bytes += size - previous
            while self._bytes > self._max_bytes or len(self._entries) > self._max_entries:
                _, (_, evicted) = self._entries.popitem(last=False)
                self._bytes -= evicted

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size(self) -> int:
        """Bytes of all entries together."""
        return self._bytes
