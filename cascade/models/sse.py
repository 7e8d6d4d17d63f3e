"""Server-sent events by the SDKs' clients, each read as plain JSON the moment it arrives; a stream that is cut is a fault.

httpx2 has a reader of events, but it puts U+FFFD in the place of bytes that are not UTF-8, and a damaged answer would pass.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from judges import Answer, Usage

from .http import HttpRequest, load, malformed, read_json, send, timed_out
from .protocol import Chunk, ModelError

T = TypeVar("T")
Event = Mapping[str, Any]
DONE: Event = MappingProxyType({})
"""Stands for OpenAI's ``[DONE]``."""
_DRAIN_S = 0.05


class Reader(Protocol):
    """Puts one answer together from its events. The methods raise ModelError, or whatever odd data leads to."""

    @property
    def name(self) -> str:
        """The model's name in the policy."""
        ...

    @property
    def usage(self) -> Usage | None:
        """The provider's final counts; None: none have arrived yet."""
        ...

    def add(self, event: Event) -> Chunk | None:
        """The part of the answer that the event adds, if any."""
        ...

    def answer(self) -> Answer:
        """The whole answer, after the last event; raises ModelError where that was not the answer's end."""
        ...


async def chunks(events: AsyncGenerator[Event], reader: Reader) -> AsyncGenerator[Chunk]:
    """The events as chunks, the last of them with the whole answer. Raises ModelError, with the usage if known."""
    shown: list[str] = []
    try:
        async with aclosing(events):
            async for event in events:
                chunk = _checked(reader.name, reader.add, event)
                if chunk is not None:
                    if chunk.retracts:
                        shown.clear()
                    shown.append(chunk.text)
                    yield chunk
            answer = _checked(reader.name, reader.answer)
    except ModelError as error:
        error.usage = error.usage or reader.usage
        raise
    text = "".join(shown)
    retracts = not answer.text.startswith(text)
    yield Chunk(text=answer.text if retracts else answer.text[len(text) :], retracts=retracts, answer=answer)


def _checked(name: str, method: Callable[..., T], *args: Any) -> T:
    try:
        return method(*args)
    except (TypeError, KeyError, AttributeError, ValueError, IndexError) as error:
        raise malformed(name, f"an unexpected event ({type(error).__name__})") from None


def cut_off(name: str, how: str) -> ModelError:
    """A stream that ended before its answer did. What had arrived may have been billed."""
    return ModelError(f"{name}: the stream was cut ({how}); it may have been billed", model=name, retryable=True)


async def events(sdk: str, request: HttpRequest) -> AsyncGenerator[Event]:
    """Sends a request and reads the JSON objects that the server streams back.

    A server that answers with plain JSON all the same gives one event. ``request.timeout_s`` bounds the request and all its
    events. Closing the generator closes the connection, unless the stream was read to its end.

    Args:
        sdk: The name of the SDK's module.
        request: What to send.

    Yields:
        The events, DONE for OpenAI's last.

    Raises:
        ModelError: The provider refused, failed, took too long, or sent what is not JSON.
    """
    name = request.model
    deadline = asyncio.get_running_loop().time() + request.timeout_s
    response = await send(await load(sdk), request, stream=True)
    try:
        pieces = _pieces(response, deadline, name)
        async with aclosing(pieces):
            if "json" in response.headers.get("content-type", ""):
                yield read_json(b"".join([piece async for piece in pieces]), name, *request.secrets())
                return
            async for data in _data(pieces):
                if data.startswith(b"[DONE]"):
                    await _drain(pieces)
                    yield DONE
                    return
                yield read_json(data, name, *request.secrets())
    finally:
        await response.aclose()


async def _data(pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """The data of each event; lines end with LF or CRLF. Event names are skipped, since the data says them again."""
    partial_line: list[bytes] = []  # of a line that has not ended
    data: list[bytes] = []  # of an event that has not ended
    async for piece in pieces:
        if b"\n" not in piece:
            partial_line.append(piece)
            continue
        *lines, rest = b"".join((*partial_line, piece)).split(b"\n")
        partial_line = [rest]
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif not line and data:
                yield data[0] if len(data) == 1 else b"\n".join(data)
                data = []


async def _pieces(response: Any, deadline: float, name: str) -> AsyncGenerator[bytes]:
    """The body piece by piece, as far as it arrives in time. Raises ModelError."""
    async with aclosing(response.aiter_bytes()) as pieces:
        while True:
            try:
                # Set for each piece: a limit around a `yield` would also cancel what the consumer does in between.
                async with asyncio.timeout_at(deadline):
                    piece = await anext(pieces)
            except StopAsyncIteration:
                return
            except TimeoutError:
                error_of_stream = timed_out(name)
            except Exception as error:
                large = type(error).__name__ == "BodyTooLarge"
                error_of_stream = malformed(name, str(error)) if large else cut_off(name, type(error).__name__)
            else:
                yield piece
                continue
            # Raised out here so that the transport's error, which holds the request, is not kept as its context.
            raise error_of_stream


async def _drain(pieces: AsyncGenerator[bytes]) -> None:
    """Reads what follows the last event, mostly nothing: only a body read to its end leaves a connection to reuse."""
    try:
        async with asyncio.timeout(_DRAIN_S):
            async for _ in pieces:
                pass
    except (TimeoutError, ModelError):
        pass  # the answer is complete
