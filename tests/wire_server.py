"""A real local HTTP server that speaks OpenAI's and Anthropic's wire format, with programmable replies and faults."""

import asyncio
import json
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass(frozen=True)
class Received:
    """One request as the server saw it."""

    path: str
    headers: dict[str, str]  # names in lower case
    body: dict[str, Any]
    client: Any = None  # the connection's other end
    raw: bytes = b""


@dataclass(frozen=True)
class Reply:
    """What the server says: a JSON body or raw bytes."""

    body: Any = None
    status: int = 200
    raw: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    chunked: bool = False
    events: Sequence[bytes] | None = None  # a stream of these in place of a body
    gap_s: float = 0.0  # before each event
    reset_after: int | None = None  # the connection is torn down after so many events


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
    body = {"id": "m", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn", "usage": usage}
    return {**body, "content": content, **more}


def sse(*data: Any, event: str | None = None) -> list[bytes]:
    """Server-sent events with the data as JSON, or as it stands where it is text."""
    head = f"event: {event}\n" if event else ""
    return [f"{head}data: {d if isinstance(d, str) else json.dumps(d)}\n\n".encode() for d in data]


def words(text: str) -> list[str]:
    """The pieces in which the server sends a text."""
    return re.findall(r"\s*\S+\s*?|\s+$", text)


def chat_events(body: dict[str, Any]) -> list[bytes]:
    """A completion as a stream: a word at a time with its log-probability, tool calls in two pieces, then the usage."""
    (choice,) = body["choices"]
    message_body, logged = choice["message"], [*((choice.get("logprobs") or {}).get("content") or ())]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    for i, call in enumerate(message_body.get("tool_calls") or ()):
        arguments = call["function"]["arguments"]
        head, tail = arguments[: len(arguments) // 2], arguments[len(arguments) // 2 :]
        deltas.append({"tool_calls": [{**call, "index": i, "function": {**call["function"], "arguments": head}}]})
        deltas.append({"tool_calls": [{"index": i, "function": {"arguments": tail}}]})
    deltas += [
        {key: word} for key in ("reasoning_content", "content", "refusal") for word in words(message_body.get(key) or "")
    ]
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    if logged:
        for one in choices[1:]:
            one["logprobs"] = {"content": [logged.pop(0)]} if logged else None
        choices[-1]["logprobs"] = {"content": [*((choices[-1].get("logprobs") or {}).get("content") or ()), *logged]}
    choices.append({"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]})
    about = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    end = sse({**about, "choices": [], "usage": body["usage"]}) if body.get("usage") else []
    return [*sse(*({**about, "choices": [one]} for one in choices)), *end, *sse("[DONE]")]


def message_events(body: dict[str, Any]) -> list[bytes]:
    """An Anthropic message as a stream, a word at a time; the usage is counted at the start and again at the end."""
    started = {**body, "content": [], "stop_reason": None, "usage": {**body["usage"], "output_tokens": 1}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": started}, {"type": "ping"}]
    for i, block in enumerate(body["content"]):
        if block["type"] == "tool_use":
            empty, raw = {**block, "input": {}}, json.dumps(block["input"])
            pieces = [{"type": "input_json_delta", "partial_json": p} for p in (raw[: len(raw) // 2], raw[len(raw) // 2 :])]
        elif block["type"] == "thinking":
            empty = {**block, "thinking": "", "signature": ""}
            pieces = [{"type": "thinking_delta", "thinking": word} for word in words(block["thinking"])]
            pieces.append({"type": "signature_delta", "signature": block["signature"]})
        elif block["type"] == "redacted_thinking":
            empty, pieces = block, []  # whole at its start
        else:
            empty = {**block, "text": ""}
            pieces = [{"type": "text_delta", "text": word} for word in words(block["text"])]
        events.append({"type": "content_block_start", "index": i, "content_block": empty})
        events += [{"type": "content_block_delta", "index": i, "delta": piece} for piece in pieces]
        events.append({"type": "content_block_stop", "index": i})
    counted = {"output_tokens": body["usage"]["output_tokens"]}
    events.append({"type": "message_delta", "delta": {"stop_reason": body["stop_reason"]}, "usage": counted})
    events.append({"type": "message_stop"})
    return [event for one in events for event in sse(one, event=one["type"])]


class WireServer:
    """Runs in a thread of its own: ``with WireServer() as server``. ``reply`` may be changed between requests.

    ``left`` is set when a client has gone away in the middle of a stream.
    """

    def __init__(self) -> None:
        self.left = threading.Event()
        self.reply: Reply | Callable[[Received], Reply] = Reply(chat())
        self.received: list[Received] = []
        self.base_url = ""

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        received = Received(
            request.path,
            {k.lower(): v for k, v in request.headers.items()},
            json.loads(raw),
            request.transport.get_extra_info("peername") if request.transport is not None else None,
            raw,
        )
        self.received.append(received)
        reply = self.reply(received) if callable(self.reply) else self.reply
        if reply.delay_s:
            await asyncio.sleep(reply.delay_s)
        if reply.events is not None:
            return await self._stream(request, reply, reply.events)
        raw = reply.raw if reply.raw is not None else json.dumps(reply.body).encode()
        response = web.Response(body=raw, status=reply.status, headers={"content-type": "application/json", **reply.headers})
        if reply.chunked:
            response.enable_chunked_encoding()
        return response

    async def _stream(self, request: web.Request, reply: Reply, events: Sequence[bytes]) -> web.StreamResponse:
        response = web.StreamResponse(status=reply.status, headers={"content-type": "text/event-stream", **reply.headers})
        try:
            await response.prepare(request)
            for event in events[: reply.reset_after]:
                await asyncio.sleep(reply.gap_s)
                await response.write(event)
            if reply.reset_after is not None:
                await asyncio.sleep(0.02)  # what was written must be on its way
                assert request.transport is not None
                request.transport.abort()
            else:
                await response.write_eof()
        except (ConnectionError, asyncio.CancelledError):
            self.left.set()
            raise
        return response

    async def _start(self) -> None:
        app = web.Application(client_max_size=50_000_000)
        app.router.add_post("/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
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
