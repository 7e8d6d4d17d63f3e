"""The process that runs the program: it executes requests on the program's objects and returns values.

Nothing here is trusted or secret: the program can change all of it. It holds no tests and no expected value.
"""

import builtins
import io
import math
import operator
import os
import sys
from collections.abc import Callable, Mapping
from types import CoroutineType, ModuleType
from typing import Any, NoReturn

from .rpc import BrokenError, Channel, builtin_exception, builtin_of, result_of
from .wire import CannotCarryError, Encoder, Node, WireError, is_builtin_exception

_MOST_PRINTED = 1 << 20
_PLAIN: tuple[Callable[[Any], Any], ...] = (int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset)


class Candidate:
    """The program's side of the channel."""

    def __init__(self, read_from: int, write_to: int) -> None:
        self.channel = Channel(read_from, write_to, self)
        self._objects: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._runner: Any = None
        self._out = io.StringIO()
        sys.stdout = self._out

    def number(self, value: Any) -> int:
        """The number under which the other side refers to an object; the object is kept alive from then on."""
        number = self._numbers.get(id(value))
        if number is None:
            number = self._numbers[id(value)] = len(self._objects)
            self._objects.append(value)
        return number

    def carry(self, value: Any) -> Node:
        """Keeps a value here and sends its number."""
        if isinstance(value, Handed):
            return ["o", value._number]
        if isinstance(value, type) and issubclass(value, BaseException):
            return self._class(value)
        return ["h", self.number(value), "co" if isinstance(value, CoroutineType) else ""]

    def _class(self, kind: type[BaseException]) -> Node:
        chain = []
        for one in kind.__mro__:
            if one.__module__ == "builtins" and is_builtin_exception(one.__name__):
                break
            if issubclass(one, BaseException):
                chain.append([self.number(one), one.__module__, one.__name__])
        return ["E", chain, builtin_of(kind)]

    def receive(self, node: list[Any]) -> Any:
        """An object of the program that comes back, or a proxy of what the tests passed."""
        if node[0] == "o":
            return self._objects[node[1]]
        if node[0] in ("B", "X"):
            return getattr(builtins, node[1])
        if node[0] == "h":
            return _HANDED[node[2]](self, node[1])
        raise WireError("an unknown form")

    def raised(self, error: BaseException) -> Node:
        """The class and the exception itself."""
        return [*self._class(type(error)), self.number(error)]

    def exception(self, node: Node) -> type[BaseException]:
        """The class of an exception that a function of the tests raised."""
        return builtin_exception(node)

    def describe(self, error: BaseException, node: Node) -> None:
        """Does nothing: an exception of the tests has no further attributes here."""

    def printed(self) -> str:
        """What the program has printed, up to a megabyte."""
        text = self._out.getvalue()[:_MOST_PRINTED]
        if text:
            self._out.seek(0)
            self._out.truncate()
        return text

    def ask(self, what: Node, *args: Any, **named: Any) -> Any:
        """Applies an operation to an object of the tests."""
        return result_of(self.channel.call(what, args, named))

    def run(self, what: Node, args: list[Any], named: dict[str, Any]) -> Any:
        """Carries out a request."""
        if what[0] == "o":
            return self._objects[what[1]](*args, **named)
        if what[1] == "await":
            import asyncio

            self._runner = self._runner or asyncio.Runner()
            return self._runner.run(args[0])
        return _OPERATIONS[what[1]](*args)


class Handed:
    """A proxy of a function or an object of the tests."""

    _side: Candidate
    _number: int

    def __init__(self, side: Candidate, number: int) -> None:
        self.__dict__.update(_side=side, _number=number)

    def __call__(self, *args: Any, **named: Any) -> Any:
        return self._side.ask(["call", self._number], *args, **named)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handed) and bool(other._number == self._number)

    def __hash__(self) -> int:
        return hash(self._number)


class _Instance(Handed):
    def __getattr__(self, name: str) -> Any:
        return self._side.ask(["get", self._number, name])

    def __setattr__(self, name: str, value: Any) -> None:
        self._side.ask(["set", self._number, name], value)


class _Steps(Handed):
    def __iter__(self) -> "_Steps":
        return self

    def __next__(self) -> Any:
        return self._side.ask(["next", self._number])


_HANDED: Mapping[str, type[Handed]] = {"f": Handed, "i": _Instance, "g": _Steps}


def _plain(value: Any) -> Any:
    for kind in _PLAIN:
        if isinstance(kind, type) and isinstance(value, kind):
            return kind(value)
    raise TypeError("no value")


def _operations() -> dict[str, Callable[..., Any]]:
    operations: dict[str, Callable[..., Any]] = {"plain": _plain, "contains": operator.contains}
    for name in (
        "getattr", "setattr", "delattr", "iter", "next", "len", "repr", "str", "bool", "format", "int", "float", "complex",
        "abs", "round", "divmod", "isinstance", "issubclass", "reversed", "bytes",
    ):  # fmt: skip
        operations[name] = getattr(builtins, name)
    for name in ("trunc", "floor", "ceil"):
        operations[name] = getattr(math, name)
    for name in (
        "eq", "ne", "lt", "le", "gt", "ge", "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or",
        "xor", "lshift", "rshift", "neg", "pos", "invert", "index", "getitem", "setitem", "delitem",
    ):  # fmt: skip
        operations[name] = getattr(operator, f"__{name}__")
        if hasattr(operator, f"__i{name}__"):
            operations[f"i{name}"] = getattr(operator, f"__i{name}__")
    operations["enter"] = lambda one: type(one).__enter__(one)
    operations["exit"] = lambda one, *why: type(one).__exit__(one, *why)
    return operations


_OPERATIONS = _operations()


def main(program: bytes, read_from: int, write_to: int, module: str) -> NoReturn:
    """Runs the program, sends the names it defines, then serves requests until the channel closes."""
    side = Candidate(read_from, write_to)
    here = ModuleType(module)
    sys.modules[module] = here
    sys.argv[:] = ["program.py"]
    try:
        exec(compile(program, "program.py", "exec"), here.__dict__)
        names = [[name, _node(side, value)] for name, value in list(vars(here).items()) if not name.startswith("__")]
        side.printed()
        side.channel.send(["names", names])
    except BaseException as error:
        side.channel.send(["failed", f"{type(error).__name__}: {error}"[:1000]])
        os._exit(0)
    try:
        while True:
            reply = side.channel.answer(side.channel.receive(), side.run)
            try:
                side.channel.send(reply)
            except (CannotCarryError, RecursionError) as error:
                identity = ["E", [], "ValueError", side.number(error)]
                side.channel.send(["!", reply[1], "raised", [identity, ["t", [str(error)]]], [], ""])
    except BrokenError:
        os._exit(0)


def _node(side: Candidate, value: Any) -> Node:
    if isinstance(value, ModuleType):
        return ["M", value.__name__, side.number(value)]
    try:
        return Encoder(side.carry).node(value)
    except (CannotCarryError, RecursionError):
        return ["h", side.number(value), ""]
