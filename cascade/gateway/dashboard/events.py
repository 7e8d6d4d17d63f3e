"""``/dashboard``: a snapshot of the figures a second to whoever watches, and one run in full."""

import asyncio
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cascade.errors import JournalError
from cascade.gateway.endpoint import Reply
from cascade.gateway.errors import ApiError
from cascade.gateway.response import dump
from cascade.journal.record import Record

from .snapshot import snapshot

if TYPE_CHECKING:
    from cascade.gateway.auth.keys import Caller
    from cascade.gateway.state import Gateway

EVERY_S = 1.0
MOST_WATCHERS = 50
_ID = re.compile(r"[0-9a-f]{32}")


class SseHub:
    """Works one snapshot out a second, for all who watch together, and none while nobody does."""

    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway
        self._next: asyncio.Future[bytes] | None = None
        self._ticking: asyncio.Task[None] | None = None
        self.watchers = 0

    async def next(self) -> bytes:
        """The next snapshot as an event."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        if self._ticking is None:
            self._ticking = asyncio.ensure_future(self._tick())
        return await asyncio.shield(self._next)

    async def event(self) -> bytes:
        """The figures of this moment as an event."""
        return b"event: snapshot\ndata: %s\n\n" % dump(await snapshot(self._gateway))

    async def _tick(self) -> None:
        try:
            while self.watchers:
                await asyncio.sleep(EVERY_S)
                waiting, self._next = self._next, None
                if waiting is not None and not waiting.done():
                    try:
                        waiting.set_result(await self.event())
                    except Exception as error:
                        waiting.set_exception(error)
                        waiting.exception()
        finally:
            self._ticking = None


async def events(gateway: "Gateway", caller: "Caller", _: Mapping[str, Any], reply: Reply) -> None:
    """``GET /dashboard/events``: server-sent events, the first at once, until the client leaves or the gateway stops."""
    broadcast = gateway.broadcast
    if broadcast.watchers >= MOST_WATCHERS:
        raise ApiError(503, f"{MOST_WATCHERS} watch already", code="overloaded", retry_after_s=30)
    broadcast.watchers += 1
    closing = asyncio.ensure_future(gateway.closing.wait())
    try:
        first = await broadcast.event()
        await reply.events()
        await reply.piece(first)
        while not closing.done():
            coming = asyncio.ensure_future(broadcast.next())
            try:
                await asyncio.wait((coming, closing), return_when=asyncio.FIRST_COMPLETED)
                if coming.done():
                    await reply.piece(coming.result())
            finally:
                coming.cancel()
        await reply.piece(b"", last=True)
    finally:
        broadcast.watchers -= 1
        closing.cancel()


async def run(gateway: "Gateway", caller: "Caller", body: Mapping[str, Any], reply: Reply) -> None:
    """``GET /dashboard/runs/{run_id}``: what the journal holds of it, else what is in memory."""
    run_id = body["path"]["run_id"]
    if not _ID.fullmatch(run_id):
        raise ApiError(404, "run_id: is none", param="run_id", code="run_not_found")
    record = await find(gateway, run_id)
    found = _told(record) if record is not None else gateway.figures.details(run_id)
    if found is None:
        raise ApiError(404, "run_id: there is no such run, or it is too long ago", param="run_id", code="run_not_found")
    await reply.json({"source": "memory" if record is None else "journal", **found})


def _told(record: Record) -> dict[str, Any]:
    made = record._asdict()
    made["at"] = record.ended
    return made


async def find(gateway: "Gateway", run_id: str) -> Record | None:
    """A run's record. Raises JournalError."""
    if gateway.journal_url is None:
        return None
    return await asyncio.to_thread(_find, gateway.journal_url, run_id)


def _find(url: str, run_id: str) -> Record | None:
    from cascade.journal.open_store import open_store

    store = open_store(url, create=False)
    try:
        return store.find(run_id)
    except Exception as error:
        # A driver's words may quote what it was given.
        raise JournalError(f"the journal cannot be read ({type(error).__name__})") from None
    finally:
        store.close()
