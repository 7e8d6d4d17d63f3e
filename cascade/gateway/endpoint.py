"""What every request goes through: load, key, body, and errors in the shape that its client reads."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from .errors import ApiError, api_error_of, log_fault, openai_shape
from .response import Headers, dump
from .validation import json_object

if TYPE_CHECKING:
    from cascade.gateway.auth.keys import Caller

    from .state import Gateway

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Handle = Callable[["Gateway", "Caller", dict[str, Any], "Reply"], Awaitable[None]]
Shape = Callable[[ApiError], dict[str, Any]]

_WATCH_AFTER_S = 0.05  # a client that leaves earlier is not worth a task to notice it
GONE = 499  # what a request is counted as whose client went away before it was answered
_JSON = (b"content-type", b"application/json")


class ClientGoneError(Exception):
    """Whoever asked is not there any more."""


class Reply:
    """The answer under way: whole, or a stream of bytes."""

    __slots__ = ("_send", "status")

    def __init__(self, send: Send) -> None:
        self._send, self.status = send, GONE

    @property
    def started(self) -> bool:
        """Whether its head was sent."""
        return self.status != GONE

    async def json(self, body: Any, headers: Headers = [], status: int = 200) -> None:  # noqa: B006 - never changed
        """One JSON answer."""
        await self.raw(dump(body), [_JSON, *headers], status)

    async def raw(self, content: bytes, headers: Headers, status: int = 200) -> None:
        """One answer of whatever kind."""
        self.status = status
        length = (b"content-length", b"%d" % len(content))
        await self._send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
        await self._send({"type": "http.response.body", "body": content})

    async def events(self) -> None:
        """Begins a stream of server-sent events."""
        self.status = 200
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
        ]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def piece(self, content: bytes, *, last: bool = False) -> None:
        """A piece of a stream."""
        await self._send({"type": "http.response.body", "body": content, "more_body": not last})


class Endpoint:
    """One route as an ASGI application.

    ``reads``: it takes a JSON body; ``open``: without a key; ``whole``: it shows what everybody does, so that a key of some
    policies does not open it.
    """

    def __init__(
        self,
        gateway: "Gateway",
        route: str,
        handle: Handle,
        shape: Shape = openai_shape,
        *,
        reads: bool = True,
        open: bool = False,
        whole: bool = False,
    ) -> None:
        self._gateway, self._route, self._handle, self._shape = gateway, route, handle, shape
        self._reads, self._open, self._whole = reads, open, whole

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gateway, reply, held = self._gateway, Reply(send), 0
        try:
            if self._reads:  # whoever looks after an overloaded gateway must get through
                gateway.load.enter()
        except ApiError as refusal:
            await self._refuse(reply, refusal)
            gateway.answered(self._route, reply.status)
            return
        watch: _Watch | None = None
        try:
            caller = gateway.keys.caller(scope, open=self._open, counts=self._reads)
            if self._whole and caller.policies is not None:
                raise ApiError(
                    403, "this key may use some policies only, and these are the figures of all", code="not_whole"
                )
            body: dict[str, Any] = {"path": scope.get("path_params", {})}
            if self._reads:
                raw = await _read(scope, receive, gateway)
                held = len(raw)
                body = json_object(raw)
            watch = _Watch(receive, gateway.limits.run_s if self._reads else None)
            await self._handle(gateway, caller, body, reply)
        except ClientGoneError:
            pass
        except asyncio.CancelledError:
            if watch is None or not (watch.gone or watch.late):
                raise
            watch.task.uncancel()
            if watch.late and not reply.started:
                await self._refuse(reply, ApiError(504, "the answer took too long", code="deadline"))
        except Exception as error:
            if reply.started:
                log_fault(error)  # the server closes the connection, so that half an answer is not taken for one
            else:
                await self._refuse(reply, api_error_of(error))
        finally:
            if watch is not None:
                watch.stop()
            if self._reads:
                gateway.load.leave(held)
            gateway.answered(self._route, reply.status)

    async def _refuse(self, reply: Reply, refusal: ApiError) -> None:
        await reply.json(self._shape(refusal), refusal.headers, refusal.status)


async def _read(scope: Scope, receive: Receive, gateway: "Gateway") -> bytes:
    """The body, held in the gateway's account. Raises Refusal, ClientGoneError."""
    limits, load = gateway.limits, gateway.load
    kind = length = b""
    for name, value in scope["headers"]:
        if name == b"content-length":
            length = value
        elif name == b"content-type":
            kind = value
        elif name == b"content-encoding" and value != b"identity":
            raise ApiError(415, "a body that is compressed is not read", code="unsupported_media_type")
    # Whatever a web page can send to another site without asking is of another type.
    if kind.partition(b";")[0].strip().lower() != b"application/json":
        raise ApiError(415, "content-type: must be application/json", code="unsupported_media_type")
    if length and int(length) > limits.body_bytes:
        raise _too_large(limits.body_bytes)
    first = await receive()
    if first["type"] == "http.disconnect":
        raise ClientGoneError
    body: bytes = first.get("body", b"")
    if not first.get("more_body"):
        if len(body) > limits.body_bytes:
            raise _too_large(limits.body_bytes)
        load.hold(len(body))
        return body
    load.hold(len(body))
    pieces, size = [body], len(body)
    try:
        async with asyncio.timeout(limits.body_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError
                piece = message.get("body", b"")
                if size + len(piece) > limits.body_bytes:
                    raise _too_large(limits.body_bytes)
                load.hold(len(piece))
                pieces.append(piece)
                size += len(piece)
                if not message.get("more_body"):
                    return b"".join(pieces)
    except TimeoutError:
        load.held_bytes -= size
        raise ApiError(408, f"the body was not there within {limits.body_s:g} s", code="body_timeout") from None
    except BaseException:
        load.held_bytes -= size
        raise


def _too_large(most: int) -> ApiError:
    return ApiError(413, f"the body has more than {most} bytes", code="body_too_large")


class _Watch:
    """Cancels the task that made it once its client goes away, or after ``most_s``."""

    __slots__ = ("_listener", "_most_s", "_receive", "_timer", "gone", "late", "task")

    def __init__(self, receive: Receive, most_s: float | None) -> None:
        self._most_s, self.late = most_s, False
        task = asyncio.current_task()
        assert task is not None
        self.task, self._receive, self.gone = task, receive, False
        self._listener: asyncio.Task[None] | None = None
        self._timer = task.get_loop().call_later(_WATCH_AFTER_S, self._begin)

    def _begin(self) -> None:
        self._listener = asyncio.ensure_future(self._listen())

    async def _listen(self) -> None:
        try:
            async with asyncio.timeout(self._most_s):
                while (await self._receive())["type"] != "http.disconnect":
                    pass
            self.gone = True
        except TimeoutError:
            self.late = True
        self.task.cancel()

    def stop(self) -> None:
        self._timer.cancel()
        if self._listener is not None:
            self._listener.cancel()
