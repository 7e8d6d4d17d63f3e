"""A real local HTTP server that speaks OpenAI's and Anthropic's wire format, with programmable replies and faults."""

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass(frozen=True)
class Received:
    """One request as the server saw it."""

    path: str
    headers: dict[str, str]  # names in lower case
    body: dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """What the server says: a JSON body or raw bytes."""

    body: Any = None
    status: int = 200
    raw: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    chunked: bool = False


def chat(text: str | None = "hello", **more: Any) -> dict[str, Any]:
    """An OpenAI completion with one choice; ``message``, ``choice`` and ``usage`` add to it."""
    message = {"role": "assistant", "content": text, **more.get("message", {})}
    choice = {"index": 0, "message": message, "finish_reason": "stop", **more.get("choice", {})}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, **more.get("usage", {})}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}


def message(*blocks: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An Anthropic message of the given blocks (default: one text)."""
    content = list(blocks) or [{"type": "text", "text": "hello"}]
    usage = {"input_tokens": 10, "output_tokens": 5, **more.pop("usage", {})}
    made = {"id": "m", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn", "usage": usage}
    return {**made, "content": content, **more}


class WireServer:
    """Runs in a thread of its own: ``with WireServer() as server``. ``reply`` may be changed between requests."""

    def __init__(self) -> None:
        self.reply: Reply | Callable[[Received], Reply] = Reply(chat())
        self.received: list[Received] = []
        self.base_url = ""

    async def _handle(self, request: web.Request) -> web.Response:
        received = Received(
            request.path, {k.lower(): v for k, v in request.headers.items()}, json.loads(await request.read())
        )
        self.received.append(received)
        reply = self.reply(received) if callable(self.reply) else self.reply
        if reply.delay_s:
            await asyncio.sleep(reply.delay_s)
        raw = reply.raw if reply.raw is not None else json.dumps(reply.body).encode()
        made = web.Response(body=raw, status=reply.status, headers={"content-type": "application/json", **reply.headers})
        if reply.chunked:
            made.enable_chunked_encoding()
        return made

    async def _start(self) -> None:
        app = web.Application(client_max_size=50_000_000)
        app.router.add_post("/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        self.base_url = f"http://127.0.0.1:{port}"

    def __enter__(self) -> "WireServer":
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
