"""The program as the tests' side sees it: which objects of each side the other side can refer to."""

import sys
from collections.abc import Iterator
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from .proxies import Proxy, number_of, program_of
from .rpc import Channel, builtin_exception, builtin_of, result_of
from .wire import TESTS, CannotCarryError, Node, WireError


def _at_home(error: BaseException, name: str) -> Any:
    home = error.__dict__.get("_at_home")
    if home is None or (name.startswith("__") and name.endswith("__")):
        raise AttributeError(name)
    return getattr(home, name)


def _message_of(error: BaseException) -> str:
    home = error.__dict__.get("_at_home")
    return super(type(error), error).__str__() if home is None else str(home)


_MIRROR: dict[str, Any] = {"__getattr__": _at_home, "__str__": _message_of}


class Program:
    """The tests' side: which objects of the program are known here, and which objects of the tests are known there.

    ``vouched`` says which results of the program's own methods were relied on, ``uncarried`` what could not be sent.
    """

    def __init__(self, read_from: int, write_to: int) -> None:
        self.channel = Channel(read_from, write_to, self)
        self.channel.handed = self._asked_back  # type: ignore[method-assign]
        self.vouched = ""
        self.uncarried = ""
        self.values: dict[int, Any] = {}
        self._proxies: dict[int, Proxy] = {}
        self._classes: dict[int, type[BaseException]] = {}
        self._handed: list[tuple[str, Any]] = []

    def use(self, what: Node, *args: Any, **named: Any) -> Any:
        """Calls an object of the program. Raises what the call raised, or BrokenError."""
        try:
            returned = self.channel.call(what, args, named)
        except CannotCarryError as error:
            self.uncarried = self.uncarried or str(error)
            raise TypeError(f"this cannot be handed to graded code: {error}") from None
        try:
            return result_of(returned)
        except (StopIteration, StopAsyncIteration, GeneratorExit) as error:
            # Raised by a function, it would end a loop in the tests as if everything had been tested.
            if what == ["op", "next"] and isinstance(error, StopIteration):
                raise
            raise RuntimeError(f"graded code raised {type(error).__name__}") from None

    def op(self, name: str, *args: Any) -> Any:
        """Applies a built-in function or operator in the program's process."""
        return self.use(["op", name], *args)

    def carry(self, value: Any) -> Node:
        """The node of a value of the tests: the number of a proxy, of a function, or of an object of a class of theirs."""
        kind = type(value)
        if kind is Proxy:
            return ["o", number_of(value)]
        for number, one in self._classes.items():
            if value is one:
                return ["o", number]
        if kind is BuiltinFunctionType and value.__module__ == "builtins" and value.__self__ is sys.modules["builtins"]:
            return ["B", value.__name__]
        if kind in (FunctionType, MethodType, BuiltinFunctionType) or kind.__name__ == "partial":
            return self._hand("f", value)
        if isinstance(value, type) and value.__module__ == TESTS:
            return self._hand("f", value)
        if kind.__module__ == TESTS:
            return self._hand("i", value)
        if isinstance(value, Iterator):
            return self._hand("g", value)
        if isinstance(value, type) and issubclass(value, BaseException) and value.__module__ == "builtins":
            return ["X", value.__name__]
        raise CannotCarryError(f"a {kind.__module__}.{kind.__qualname__}")

    def _hand(self, use: str, value: Any) -> Node:
        for number, (_, one) in enumerate(self._handed):
            if one is value:
                return ["h", number, use]
        self._handed.append((use, value))
        return ["h", len(self._handed) - 1, use]

    def receive(self, node: list[Any]) -> Any:
        """A proxy, an object of the tests that comes back, or a class of exceptions. Raises WireError."""
        tag = node[0]
        if tag == "o":
            if type(node[1]) is not int or node[1] < 0:
                raise WireError("no number")
            return self._handed[node[1]][1]
        if tag == "E":
            return self.exception(node)
        if tag != "h" or type(node[1]) is not int:
            raise WireError("an unknown form")
        proxy = self._proxies.get(node[1])
        if proxy is None:
            proxy = self._proxies[node[1]] = Proxy(self, node[1])
        return _awaited(proxy) if node[2] == "co" else proxy

    def raised(self, error: BaseException) -> Node:
        """The class that is sent for an exception in a function of the tests: the nearest of Python's own."""
        return builtin_of(type(error))

    def exception(self, node: Node) -> type[BaseException]:
        """The class, if it is one of Python or its standard library; otherwise a new one of the same name."""
        tag, chain, builtin, *_ = node
        if tag != "E":
            raise WireError("no class")
        base = builtin_exception(builtin)
        for number, home, name in reversed(chain):
            class_ = self._classes.get(number) or _of_library(str(home), str(name))
            if class_ is None:
                class_ = self._classes[number] = type(str(name), (base,), {"__module__": "program", **_MIRROR})
            base = class_
        return base

    def describe(self, error: BaseException, node: Node) -> None:
        """Lets an exception of a class of the program look up its attributes there."""
        if type(error).__module__ == "program":
            error.__dict__["_at_home"] = self.receive(["h", node[3], ""])

    def printed(self) -> str:
        """Nothing: what the tests print is not sent."""
        return ""

    def _asked_back(self, what: Node, args: list[Any], named: dict[str, Any]) -> Any:
        """Does what graded code may do with an argument: call a function, step an iterator, use public attributes."""
        use, number, *name = what
        if type(number) is not int or number < 0:
            raise AttributeError("no number")
        kind, one = self._handed[number]
        if use == "call" and kind in ("f", "i"):
            try:
                return one(*args, **named)
            except AssertionError as error:
                # Whatever the program does about it, the tests have failed.
                self.channel.broken = self.channel.broken or f"AssertionError: {error}"
                raise
        if use == "next" and kind == "g":
            return next(one)
        if use in ("get", "set") and kind == "i" and isinstance(name[0], str) and not name[0].startswith("_"):
            return getattr(one, name[0]) if use == "get" else setattr(one, name[0], args[0])
        raise AttributeError("this cannot be done with what the tests handed over")


_OF_TESTING = ("unittest", "doctest", "bdb", "pdb")  # the program must not be able to skip a test


def _of_library(home: str, name: str) -> type[BaseException] | None:
    """A class of the standard library, if the tests have imported its module: they cannot refer to others."""
    root = home.partition(".")[0]
    if root in sys.stdlib_module_names and root not in _OF_TESTING and home in sys.modules:
        value = vars(sys.modules[home]).get(name)
        if isinstance(value, type) and issubclass(value, BaseException):
            return value
    return None


async def _awaited(proxy: Proxy) -> Any:
    return program_of(proxy).op("await", proxy)
