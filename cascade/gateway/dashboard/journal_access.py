"""Reads of the journal for the dashboard's pages, each on a connection of its own and off the event loop."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from cascade.errors import JournalError

if TYPE_CHECKING:
    from cascade.journal.store import SqlStore

T = TypeVar("T")


async def on_store(url: str, work: "Callable[[SqlStore], T]") -> T:
    """What ``work`` returns for the store at ``url``, which must exist.

    Raises:
        JournalError: the journal cannot be read; the driver's message is left out, since it may quote values.
    """
    return await asyncio.to_thread(_on_store, url, work)


def _on_store(url: str, work: "Callable[[SqlStore], T]") -> T:
    from cascade.journal.open_store import open_store

    store = open_store(url, create=False)
    try:
        return work(store)
    except Exception as error:
        raise JournalError(f"the journal cannot be read ({type(error).__name__})") from None
    finally:
        store.close()
