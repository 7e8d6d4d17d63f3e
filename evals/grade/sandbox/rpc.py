"""Calls between two processes over a pair of pipes: one side calls and waits, the other may call back before it replies.

A frame is four bytes of length and JSON. A request has an unpredictable number, which its reply must repeat. After a call,
the containers that were passed are updated to what the other side made of them.
"""

import builtins
import json
import os
import secrets
import sys
import threading
from collections.abc import Callable
from typing import Any, Protocol

from .wire import CannotCarryError, Decoder, Encoder, Node, WireError, is_builtin_exception, snapshot, unchanged

MOST = 32 << 20  # bytes of one frame
_EXCEPTION_TEXT = 10_000


class BrokenError(BaseException):
    """The other side is gone or violates the protocol; no test may take this for an error of the program."""


class Side(Protocol):
    """What each of the two sides does in its own way."""

    def carry(self, value: Any) -> Node:
        """A node for a value that the format cannot express. Raises CannotCarryError."""
        ...

    def receive(self, node: list[Any]) -> Any:
        """The value of such a node. Raises WireError."""
        ...

    def raised(self, error: BaseException) -> Node:
        """The identifier of an exception's class for the other side."""
        ...

    def exception(self, node: Node) -> type[BaseException]:
        """The class for such an identifier. Raises WireError."""
        ...

    def describe(self, error: BaseException, node: Node) -> None:
        """Sets the attributes that an exception has in addition to its arguments."""
        ...

    def printed(self) -> str:
        """The text printed since the last call of this method."""
        ...


class Channel:
    """One end of the pipes. ``broken``: the other end has violated the protocol, which ends the session."""

    def __init__(self, read_from: int, write_to: int, side: Side) -> None:
        self._in, self._out = read_from, write_to
        self._side = side
        self._lock = threading.RLock()
        self.broken = ""

    def send(self, message: Node) -> None:
        """Raises BrokenError."""
        data = json.dumps(message, separators=(",", ":")).encode()
        if len(data) > MOST:
            raise CannotCarryError(f"a value of {len(data) >> 20} MB")
        view = memoryview(len(data).to_bytes(4, "big") + data)
        try:
            while view:
                view = view[os.write(self._out, view) :]
        except OSError:
            raise self._break("it has ended") from None

    def receive(self) -> list[Any]:
        """The next frame. Raises BrokenError."""
        length = int.from_bytes(self._exactly(4), "big")
        if length > MOST:
            raise self._break("a frame of more than may be sent")
        try:
            message = json.loads(self._exactly(length))
        except (ValueError, RecursionError):
            raise self._break("a frame that is not JSON") from None
        if not isinstance(message, list) or not message:
            raise self._break("a frame that is not a message")
        return message

    def _exactly(self, length: int) -> bytes:
        parts = bytearray()
        while len(parts) < length:
            try:
                part = os.read(self._in, min(length - len(parts), 1 << 20))
            except OSError:
                part = b""
            if not part:
                raise self._break("it has ended")
            parts += part
        return bytes(parts)

    def _break(self, why: str) -> BrokenError:
        self.broken = self.broken or why
        return BrokenError(why)

    def call(self, what: Node, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Calls an object of the other side and returns its result.

        Raises:
            CannotCarryError: An argument cannot be sent.
            BrokenError: The other side is gone or violates the protocol.
            BaseException: What the call raised, by its class and arguments.
        """
        encoder = Encoder(self._side.carry)
        try:
            request = [what, [encoder.node(a) for a in args], [[k, encoder.node(v)] for k, v in named.items()]]
        except RecursionError:
            raise CannotCarryError("a value nested too deeply") from None
        with self._lock:
            if self.broken:
                raise BrokenError(self.broken)
            token = secrets.token_hex(8)
            self.send(["?", token, *request])
            while (reply := self.receive())[0] == "?":
                self.send(self.answer(reply, self.handed))
            try:
                return self._returned(reply, token, encoder.containers)
            except (WireError, ValueError, TypeError, LookupError, AttributeError) as error:
                raise self._break(f"an invalid reply: {error}") from None

    def _returned(self, reply: list[Any], token: str, containers: dict[int, Any]) -> Any:
        kind, repeated, outcome, node, changes, printed = reply
        if kind != "!" or repeated != token or not isinstance(printed, str):
            raise WireError("another request's")
        decoder = Decoder(self._side.receive, containers)
        handed = len(containers)
        identity = node if outcome != "raised" else node[0]
        value = decoder.value(node) if outcome != "raised" else decoder.value(node[1])
        for number, content in changes:
            if not 0 <= number < handed:
                raise WireError("a change of what was not handed over")
            decoder.fill(containers[number], content)
        if printed:
            sys.stdout.write(printed)
        if outcome == "returned":
            return value
        if outcome != "raised" or not isinstance(value, tuple):
            raise WireError("no outcome")
        raised = _Raise(self._side.exception(identity), value)
        self._side.describe(raised.error, identity)
        return raised

    def answer(self, request: list[Any], run: Callable[[Node, list[Any], dict[str, Any]], Any]) -> Node:
        """The reply to a request, which ``run`` carries out. Raises BrokenError."""
        try:
            _, token, what, args, named = request
            decoder = Decoder(self._side.receive)
            arguments = [decoder.value(node) for node in args]
            by_name = {str(key): decoder.value(node) for key, node in named}
        except (WireError, ValueError, TypeError) as error:
            raise self._break(f"an invalid request: {error}") from None
        containers = decoder.containers
        before = {number: snapshot(one) for number, one in containers.items()}
        encoder = Encoder(self._side.carry, dict(containers))
        try:
            outcome, node = "returned", encoder.node(run(what, arguments, by_name))
        except BrokenError:
            raise
        except BaseException as error:
            outcome, node = "raised", [self._side.raised(error), _arguments(encoder, error)]
        changes = [
            [number, encoder.content(one)] for number, one in containers.items() if not unchanged(one, before[number])
        ]
        return ["!", token, outcome, node, changes, self._side.printed()]

    def handed(self, what: Node, args: list[Any], named: dict[str, Any]) -> Any:
        """The reply to a request that arrives while this side waits for a reply of its own; the checker replaces it."""
        raise WireError("asked back")


class _Raise:
    """An exception to be raised, apart from errors while it is rebuilt."""

    def __init__(self, kind: type[BaseException], args: tuple[Any, ...]) -> None:
        try:
            # Only Python's own ``__init__``: another one may need other arguments.
            self.error = kind(*args) if kind.__module__ == "builtins" else kind.__new__(kind, *args)
        except (TypeError, ValueError):
            self.error = Exception(*args)


def result_of(returned: Any) -> Any:
    """The result of a call. Raises what the call raised."""
    if type(returned) is _Raise:
        raise returned.error
    return returned


def builtin_of(error: type[BaseException]) -> str:
    """The nearest of Python's own exceptions from which a class is derived."""
    for one in error.__mro__:
        if one.__module__ == "builtins" and is_builtin_exception(one.__name__):
            return one.__name__
    return "Exception"


def builtin_exception(name: Any) -> type[BaseException]:
    """The exception of this name. Raises WireError."""
    if not isinstance(name, str) or not is_builtin_exception(name):
        raise WireError("no exception of Python's")
    class_: type[BaseException] = getattr(builtins, name)
    return class_


def _arguments(encoder: Encoder, error: BaseException) -> Node:
    try:
        return encoder.node(tuple(error.args))
    except Exception:
        return ["t", [str(type(error).__name__)[:_EXCEPTION_TEXT]]]
