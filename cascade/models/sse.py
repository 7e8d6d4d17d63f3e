"""Server-sent events by the SDKs' clients, each read as plain JSON the moment it arrives; a stream that is cut is a fault.

httpx2 has a reader of events, but it puts U+FFFD in the place of bytes that are not UTF-8, and a damaged answer would pass.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, closing
from types import MappingProxyType
from typing import Any, Protocol

from cascade.util.shared_timeout import SharedTimeout
from judges import Answer, Usage

from .http import HttpRequest, load, malformed, read_json, send, timed_out
from .protocol import Chunk, ModelError

Event = Mapping[str, Any]
DONE: Event = MappingProxyType({})
"""Stands for OpenAI's ``[DONE]``."""
_DRAIN_S = 0.05
_BLANK = (b"", b"\r")
_ODD_DATA = (TypeError, KeyError, AttributeError, ValueError, IndexError)  # what a reader of events raises at odd data


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
    passed_lines: list[str] = []
    try:
        async with aclosing(events):
            async for event in events:
                try:
                    chunk = reader.add(event)
                except _ODD_DATA as error:
                    raise _unexpected(reader.name, error) from None
                if chunk is not None:
                    if chunk.retracts:
                        passed_lines.clear()
                    passed_lines.append(chunk.text)
                    yield chunk
            try:
                answer = reader.answer()
            except _ODD_DATA as error:
                raise _unexpected(reader.name, error) from None
    except ModelError as error:
        error.usage = error.usage or reader.usage
        raise
    text = "".join(passed_lines)
    retracts = not answer.text.startswith(text)
    yield Chunk(text=answer.text if retracts else answer.text[len(text) :], retracts=retracts, answer=answer)


def _unexpected(name: str, error: Exception) -> ModelError:
    return malformed(name, f"an unexpected event ({type(error).__name__})")


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
    module = await load(sdk)
    from jiter import from_json  # here, since an import for each event costs as much as reading it

    response = await send(module, request, stream=True)
    try:
        pieces, decoder = _pieces(response, deadline, name), EventDecoder()
        async with aclosing(pieces):
            if "json" in response.headers.get("content-type", ""):
                yield read_json(b"".join([piece async for piece in pieces]), name, *request.secrets())
                return
            async for piece in pieces:
                for data in decoder.feed(piece):
                    if data.startswith(b"[DONE]"):
                        await _drain(pieces)
                        yield DONE
                        return
                    try:
                        event = from_json(data, catch_duplicate_keys=True)
                    except ValueError:
                        event = None
                    if type(event) is not dict or event.get("error"):
                        event = read_json(data, name, *request.secrets())  # raises, and says what is wrong
                    yield event
    finally:
        await response.aclose()


class EventDecoder:
    """Cuts a stream's bytes into the data of its events. Event names are skipped, since the data says them again."""

    def __init__(self) -> None:
        self._partial_line: list[bytes] = []  # of a line that has not ended
        self._data: list[bytes] = []  # of an event that has not ended

    def feed(self, piece: bytes) -> list[bytes]:
        """Adds a piece of the stream.

        Returns:
            The data of each event that has ended with it; lines end with LF or CRLF.
        """
        if b"\n" not in piece:
            self._partial_line.append(piece)
            return []
        *lines, rest = b"".join((*self._partial_line, piece)).split(b"\n")
        self._partial_line = [rest]
        ended = []
        data = self._data
        for line in lines:
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" ").removesuffix(b"\r"))
            elif data and line in _BLANK:
                ended.append(data[0] if len(data) == 1 else b"\n".join(data))
                data.clear()
        return ended


async def _pieces(response: Any, deadline: float, name: str) -> AsyncGenerator[bytes]:
    """The body piece by piece, as far as it arrives in time. Raises ModelError."""
    async with aclosing(response.aiter_bytes()) as pieces:
        with closing(SharedTimeout(deadline)) as timeout:
            while True:
                try:
                    # Entered for each piece: a limit around a `yield` would also cancel what the consumer does in between.
                    with timeout:
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
