"""The steps of every request: load, API key, body, and errors in the shape that its client reads."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from cascade.util.log_events import Event
from judges.schema.offload import offload

from .errors import ApiError, anthropic_shape, api_error_of, log_unexpected, openai_shape
from .response import Headers, dump
from .validation import json_object

if TYPE_CHECKING:
    from .auth.keys import Caller
    from .state import Gateway

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Handler = Callable[["Gateway", "Caller", dict[str, Any], "Reply"], Awaitable[None]]
ErrorShape = Callable[[ApiError], dict[str, Any]]

_WATCH_AFTER_S = 0.05  # a task that watches for an earlier disconnect would cost more than it saves
CLIENT_CLOSED = 499  # the status counted for a request whose client left before the response
access_log = logging.getLogger("cascade.access")
_JSON = (b"content-type", b"application/json")


class ClientGoneError(Exception):
    """The client closed the connection."""


@dataclass(slots=True)
class Reply:
    """The response to one request: whole, or a stream of chunks.

    Attributes:
        status: The HTTP status; 499 until the response starts.
        key: The name of the caller's key; None: no key, or not checked yet.
    """

    _send: Send
    _scope: Scope
    status: int = CLIENT_CLOSED
    key: str | None = None

    def header(self, name: bytes) -> str:
        """A header of the request by its name in lower case; several of one name are joined, and a missing one is empty."""
        return ",".join(value.decode("latin-1") for key, value in self._scope["headers"] if key == name)

    @property
    def query(self) -> str:
        """The query of the request's address."""
        return str(self._scope["query_string"].decode("latin-1"))

    @property
    def started(self) -> bool:
        """Whether the status and the headers were sent."""
        return self.status != CLIENT_CLOSED

    async def json(self, body: Any, headers: Headers = [], status: int = 200) -> None:  # noqa: B006 - never changed
        """Sends a JSON response."""
        await self.send(dump(body), [_JSON, *headers], status)

    async def send(self, content: bytes, headers: Headers, status: int = 200) -> None:
        """Sends a response of any content type."""
        self.status = status
        length = (b"content-length", b"%d" % len(content))
        await self._send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
        await self._send({"type": "http.response.body", "body": content})

    async def start_events(self) -> None:
        """Starts a stream of server-sent events."""
        self.status = 200
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
        ]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def send_chunk(self, content: bytes, *, last: bool = False) -> None:
        """Sends a chunk of a stream."""
        await self._send({"type": "http.response.body", "body": content, "more_body": not last})


class Endpoint:
    """One route as an ASGI application.

    Args:
        gateway: What all requests share.
        route: The path, by its name in the metrics.
        handler: Answers the request.
        error_shape: The shape of an error's body.
        has_body: Whether it takes a JSON body. Such a request counts against the limits and the key's rate.
        public: Whether it needs no key.
        all_policies: Whether it shows the runs of all policies, so that a key for some of them is not enough.
    """

    def __init__(
        self,
        gateway: "Gateway",
        route: str,
        handler: Handler,
        error_shape: ErrorShape = openai_shape,
        *,
        has_body: bool = True,
        public: bool = False,
        all_policies: bool = False,
    ) -> None:
        self._gateway, self._route, self._handler, self._error_shape = gateway, route, handler, error_shape
        self._has_body, self._public, self._all_policies = has_body, public, all_policies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not access_log.isEnabledFor(logging.INFO):
            await self._answer(scope, receive, Reply(send, scope))
            return
        started, reply = perf_counter(), Reply(send, scope)
        try:
            await self._answer(scope, receive, reply)
        finally:
            client = scope.get("client")
            event = Event(
                "request",
                method=scope["method"],
                route=self._route,
                status=reply.status,
                ms=round((perf_counter() - started) * 1e3, 1),
                key=reply.key,
                client=client[0] if client else None,
            )
            access_log.info(event)

    async def _answer(self, scope: Scope, receive: Receive, reply: "Reply") -> None:
        gateway, held = self._gateway, 0
        try:
            if self._has_body:  # health checks and metrics must get through to an overloaded gateway
                gateway.load.enter()
        except ApiError as error:
            await self._send_error(reply, error)
            gateway.count_response(self._route, reply.status)
            return
        watch: _Watch | None = None
        try:
            caller = gateway.keys.caller(scope, public=self._public)
            reply.key = caller.name
            if self._has_body and caller.per_minute is not None:
                await gateway.keys.check_rate(caller, caller.per_minute, gateway.rates)
            if self._all_policies and caller.policies is not None:
                message = "this key is limited to some policies, and this route shows the runs of all of them"
                raise ApiError(403, message, code="not_whole")
            body: dict[str, Any] = {"path": scope.get("path_params", {})}
            task = asyncio.current_task()
            assert task is not None
            watch = _Watch(task, receive, gateway.limits.run_s if self._has_body else None)
            if self._has_body:
                watch.start(gateway.limits.body_s)
                raw = await _read(scope, receive, gateway, watch)
                held = len(raw)
                body = json_object(raw)
                offload.set(gateway.schemas.validate)  # for this request's task
            else:
                watch.start()
            await self._handler(gateway, caller, body, reply)
        except ClientGoneError:
            pass
        except asyncio.CancelledError:
            await self._cancelled(watch, reply)
        except Exception as error:
            if reply.started:
                log_unexpected(
                    error
                )  # the server closes the connection, so that no client takes half a response for a whole one
            else:
                await self._send_error(reply, api_error_of(error))
        finally:
            if watch is not None:
                watch.stop()
            if self._has_body:
                gateway.load.leave(held)
            gateway.count_response(self._route, reply.status)

    async def _cancelled(self, watch: "_Watch | None", reply: Reply) -> None:
        """Ends a cancelled request: its client left, it took too long, or the gateway is stopping."""
        task = asyncio.current_task()
        assert task is not None
        if watch is not None and (watch.gone or watch.late):
            task.uncancel()
            if watch.late and not reply.started:
                await self._send_error(reply, ApiError(504, "the response took too long", code="deadline"))
        elif self._gateway.closing.is_set():
            task.uncancel()
            if reply.started:
                return  # a stream ends with an error event
            message = "the gateway stopped before the run ended; try again"
            await self._send_error(reply, ApiError(503, message, code="shutting_down", retry_after_s=1))
        else:
            raise asyncio.CancelledError

    async def _send_error(self, reply: Reply, error: ApiError) -> None:
        shape = anthropic_shape if reply.header(b"anthropic-version") else self._error_shape
        await reply.json(shape(error), error.headers, error.status)


async def _read(scope: Scope, receive: Receive, gateway: "Gateway", watch: "_Watch") -> bytes:
    """The body, counted among the bytes that the gateway holds; ``watch`` has its deadline.

    Raises ApiError, ClientGoneError.
    """
    limits, load = gateway.limits, gateway.load
    content_type = length = b""
    for name, value in scope["headers"]:
        if name == b"content-length":
            length = value
        elif name == b"content-type":
            content_type = value
        elif name == b"content-encoding" and value != b"identity":
            raise ApiError(415, "content-encoding: compressed bodies are not supported", code="unsupported_media_type")
    # A web page can send any other type to another site without a preflight request.
    if content_type.partition(b";")[0].strip().lower() != b"application/json":
        raise ApiError(415, "content-type: must be application/json", code="unsupported_media_type")
    if length and int(length) > limits.body_bytes:
        raise _too_large(limits.body_bytes)
    chunks: list[bytes] = []
    size = 0
    try:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            chunk: bytes = message.get("body", b"")
            if size + len(chunk) > limits.body_bytes:
                raise _too_large(limits.body_bytes)
            load.hold(len(chunk))
            size += len(chunk)
            if not message.get("more_body"):
                watch.body_arrived()
                return b"".join((*chunks, chunk)) if chunks else chunk
            chunks.append(chunk)
    except BaseException as error:
        load.held_bytes -= size
        if isinstance(error, asyncio.CancelledError) and watch.is_body_late():
            message_text = f"the body did not arrive within {limits.body_s:g} s"
            raise ApiError(408, message_text, code="body_timeout") from None
        raise


def _too_large(limit: int) -> ApiError:
    return ApiError(413, f"the body has more than {limit} bytes", code="body_too_large")


@dataclass(slots=True)
class _Watch:
    """Cancels a task where its request's body is late, once its client leaves, or after ``limit_s`` seconds.

    One timer is used for both in turn: most requests end before it fires, and a second one would cost time.
    """

    _task: asyncio.Task[Any]
    _receive: Receive
    _limit_s: float | None
    gone: bool = False
    late: bool = False
    _body_s: float | None = None  # None: the body is there
    _times_body: bool = False  # the timer is the body's deadline
    _body_late: bool = False
    _listener: asyncio.Task[None] | None = None
    _timer: asyncio.TimerHandle | None = None

    def start(self, body_s: float | None = None) -> None:
        """Starts watching after a moment, since most responses are faster. ``body_s``: the deadline of the body to come."""
        self._body_s = body_s
        self._timer = self._task.get_loop().call_later(_WATCH_AFTER_S, self._start)

    def _start(self) -> None:
        if self._body_s is None:
            self._listener = asyncio.ensure_future(self._listen())
        else:
            rest_s, self._times_body = max(0.0, self._body_s - _WATCH_AFTER_S), True
            self._timer = self._task.get_loop().call_later(rest_s, self._end_body)

    def _end_body(self) -> None:
        self._body_late = True
        self._task.cancel()

    def body_arrived(self) -> None:
        """The body is there: from now on the client is watched."""
        self._body_s = None
        if self._times_body:
            self.stop()
            self.start()

    def is_body_late(self) -> bool:
        """Whether the task was cancelled for its body alone; it is no longer cancelled then."""
        return self._body_late and self._task.uncancel() == 0

    async def _listen(self) -> None:
        try:
            async with asyncio.timeout(self._limit_s):
                while (await self._receive())["type"] != "http.disconnect":
                    pass
            self.gone = True
        except TimeoutError:
            self.late = True
        self._task.cancel()

    def stop(self) -> None:
        """Stops watching."""
        if self._timer is not None:
            self._timer.cancel()
        if self._listener is not None:
            self._listener.cancel()
