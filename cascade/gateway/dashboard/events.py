"""``/dashboard``: a snapshot of the statistics every second for all who watch, and the details of one run."""

import asyncio
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cascade.gateway.endpoint import Reply
from cascade.gateway.errors import ApiError
from cascade.gateway.response import dump

from .snapshot import snapshot

if TYPE_CHECKING:
    from cascade.gateway.auth.keys import Caller
    from cascade.gateway.state import Gateway

EVERY_S = 1.0
MAX_WATCHERS = 50
_RUN_ID = re.compile(r"[0-9a-f]{32}")


class SseHub:
    """Computes one snapshot a second for all watchers together, and none while there are no watchers."""

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

    async def current(self) -> bytes:
        """The statistics of this moment as an event."""
        return b"event: snapshot\ndata: %s\n\n" % dump(await snapshot(self._gateway))

    async def _tick(self) -> None:
        try:
            while self.watchers:
                await asyncio.sleep(EVERY_S)
                waiting, self._next = self._next, None
                if waiting is not None and not waiting.done():
                    try:
                        waiting.set_result(await self.current())
                    except Exception as error:
                        waiting.set_exception(error)
                        waiting.exception()
        finally:
            self._ticking = None


async def events(gateway: "Gateway", caller: "Caller", _: Mapping[str, Any], reply: Reply, hub: SseHub) -> None:
    """``GET /dashboard/events``: server-sent events, the first at once, until the client leaves or the gateway stops."""
    if hub.watchers >= MAX_WATCHERS:
        message = f"the dashboard already has {MAX_WATCHERS} watchers"
        raise ApiError(503, message, code="overloaded", retry_after_s=30)
    hub.watchers += 1
    closing = asyncio.ensure_future(gateway.closing.wait())
    try:
        first = await hub.current()
        await reply.start_events()
        await reply.send_chunk(first)
        while not closing.done():
            upcoming = asyncio.ensure_future(hub.next())
            try:
                await asyncio.wait((upcoming, closing), return_when=asyncio.FIRST_COMPLETED)
                if upcoming.done():
                    await reply.send_chunk(upcoming.result())
            finally:
                upcoming.cancel()
        await reply.send_chunk(b"", last=True)
    finally:
        hub.watchers -= 1
        closing.cancel()


async def run_details(gateway: "Gateway", caller: "Caller", body: Mapping[str, Any], reply: Reply) -> None:
    """``GET /dashboard/runs/{run_id}``: the run's journal record, or what is in memory where there is none."""
    run_id = body["path"]["run_id"]
    if not _RUN_ID.fullmatch(run_id):
        raise ApiError(404, "run_id: must be 32 hexadecimal digits", param="run_id", code="run_not_found")
    record = await gateway.find_record(run_id)
    if record is not None:
        await reply.json({"source": "journal", **record._asdict(), "at": record.ended})
        return
    details = gateway.stats.details(run_id)
    if details is None:
        message = "run_id: no such run, or it is no longer in memory"
        raise ApiError(404, message, param="run_id", code="run_not_found")
    await reply.json({"source": "memory", **details})
