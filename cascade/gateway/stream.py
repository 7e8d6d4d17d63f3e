"""A run as a stream: its text is sent as soon as nothing can take it back, and what is ready goes out together."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from cascade.engine.streaming import Event, Retracted, TierStarted, Token
from cascade.policy.schema import ModelSpec
from cascade.result import Result

from .errors import ApiError, api_error_of
from .request import GatewayRequest
from .run_request import options_of

if TYPE_CHECKING:
    from cascade.gateway.auth.keys import Caller

    from .endpoint import Reply
    from .state import Gateway

_BEAT_S = 10.0  # a proxy between gives up on a connection that says nothing for long


class Writer(Protocol):
    """Says a run in one interface's events."""

    def text(self, piece: str, model: str) -> bytes:
        """A piece of the answer; ``model`` is writing it."""
        ...

    def beat(self) -> bytes:
        """Says nothing, so that the connection stays."""
        ...

    def end(self, result: Result) -> bytes:
        """What follows the text: tool calls, why it ended, the run."""
        ...

    def error(self, refusal: ApiError) -> bytes:
        """That there is no answer, though the stream had begun."""
        ...


async def stream(gateway: "Gateway", caller: "Caller", asked: GatewayRequest, reply: "Reply", writer: Writer) -> None:
    """Sends a run's events. Until there is something to send an error is an answer with its status; afterwards an event."""
    serving = gateway.serving
    options = options_of(serving, caller, asked)
    pipe = _Pipe(writer, serving.models)
    with serving as cascade:
        running = asyncio.ensure_future(
            # Text cannot be taken back here, whatever the policy says.
            cascade.arun(asked.prompt, request=asked.request(), on_event=pipe.hear, stream="held", **options)
        )
        running.add_done_callback(lambda _: pipe.wake())
        try:
            while not running.done() or pipe.ready:
                content = await pipe.take()
                if pipe.retracted:
                    raise ApiError(502, "the answer broke off and cannot be taken back; ask again", code="retracted")
                if content:
                    if not reply.started:
                        await reply.events()
                    await reply.piece(content)
            result = await running
        except Exception as error:
            refusal = api_error_of(error)
            if not reply.started:
                raise
            await reply.piece(writer.error(refusal), last=True)
            return
        finally:
            if not running.done():
                running.cancel()
                await asyncio.wait([running])
            if not running.cancelled():
                running.exception()  # it was told already
    if not reply.started:
        await reply.events()
    await reply.piece(writer.end(result), last=True)


class _Pipe:
    """Events of a run, as bytes, until they are sent."""

    __slots__ = ("_awake", "_models", "_sent", "_specs", "_writer", "ready", "retracted")

    def __init__(self, writer: Writer, specs: Mapping[str, ModelSpec]) -> None:
        self._writer, self._specs, self._sent = writer, specs, False
        self._models: dict[str, str] = {}  # the providers' names by tier
        self._awake = asyncio.Event()
        self.ready: list[bytes] = []
        self.retracted = False

    def hear(self, event: Event) -> None:
        if isinstance(event, Token):
            self.ready.append(self._writer.text(event.text, self._models[event.tier]))
            self._awake.set()
        elif isinstance(event, TierStarted):
            spec = self._specs.get(event.model)
            self._models[event.tier] = (spec.model if spec is not None else None) or event.model
        elif isinstance(event, Retracted):
            self.ready.clear()
            self.retracted = self._sent
            self._awake.set()

    def wake(self) -> None:
        self._awake.set()

    async def take(self) -> bytes:
        """What is ready, or a sign of life where nothing is for long."""
        try:
            async with asyncio.timeout(_BEAT_S):
                await self._awake.wait()
        except TimeoutError:
            return self._writer.beat()
        self._awake.clear()
        ready, self.ready = self.ready, []
        self._sent = self._sent or bool(ready)
        return b"".join(ready)
