"""What the tests see of the program: proxies that pass every use on to the process where the object is.

Comparisons with a value are made here, on a value. Where only the program's own methods can answer what the tests judge by
(``==`` between two of its objects, ``-`` with an expected number), their word is taken and noted: a verdict that rests on
it is none.
"""

import operator
import sys
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from .rpc import Channel, builtin_exception, builtin_of, result_of
from .wire import TESTS, CannotCarryError, Node, WireError

_UNSEEN = object()
_UNARY = (
    "neg",
    "pos",
    "invert",
    "abs",
    "index",
    "int",
    "float",
    "complex",
    "round",
    "trunc",
    "floor",
    "ceil",
    "len",
    "bool",
)
_BINARY = (
    "add",
    "sub",
    "mul",
    "truediv",
    "floordiv",
    "mod",
    "pow",
    "matmul",
    "and",
    "or",
    "xor",
    "lshift",
    "rshift",
    "divmod",
)
_ITEMS = ("getitem", "setitem", "delitem", "iter", "next", "reversed", "str", "repr", "format", "enter", "bytes")
_ORDER = ("lt", "le", "gt", "ge")
_FIXED = (int, float, complex, bool, str, bytes, tuple, frozenset)
_SEEN = ("__name__", "__qualname__", "__dict__", "__annotations__", "__wrapped__", "__self__")
# Methods of built-in types by which tests judge; of an object of another class they would be the program's word.
_JUDGING = {name for kind in (str, bytes, int, float, set) for name in dir(kind) if name.startswith("is")} | {
    "startswith", "endswith", "difference", "symmetric_difference", "equals",
}  # fmt: skip


class Program:
    """The tests' side: which objects of the program are known here, and which of the tests' are known there.

    ``vouched`` says what the program's own word was taken for, ``uncarried`` what could not be handed over.
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
        """Calls what is the program's. Raises what it raised; BrokenError."""
        try:
            returned = self.channel.call(what, args, named)
        except CannotCarryError as error:
            self.uncarried = self.uncarried or str(error)
            raise TypeError(f"this cannot be handed to graded code: {error}") from None
        return result_of(returned)

    def op(self, name: str, *args: Any) -> Any:
        """Applies a built-in function or operator where the program is."""
        return self.use(["op", name], *args)

    def carry(self, value: Any) -> Node:
        """Of what the tests have: a proxy goes home, a function or an object of a class of the tests' can be used there."""
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
        """A proxy, an object of the tests' that comes back, or a class of exceptions. Raises WireError."""
        tag = node[0]
        if tag == "o":
            if type(node[1]) is not int or node[1] < 0:
                raise WireError("no number")
            return self._handed[node[1]][1]
        if tag == "E":
            return self.exception(node)
        if tag != "h" or type(node[1]) is not int:
            raise WireError("an unknown form")
        found = self._proxies.get(node[1])
        if found is None:
            found = self._proxies[node[1]] = Proxy(self, node[1])
        return _awaited(found) if node[2] == "co" else found

    def raised(self, error: BaseException) -> Node:
        """Of an exception in a function of the tests': the nearest of Python's."""
        return builtin_of(type(error))

    def exception(self, node: Node) -> type[BaseException]:
        """The class, of Python's or the standard library's where it is one, or else one of the same name."""
        tag, chain, builtin, *_ = node
        if tag != "E":
            raise WireError("no class")
        made = builtin_exception(builtin)
        for number, home, name in reversed(chain):
            known = self._classes.get(number) or _of_library(str(home), str(name))
            if known is None:
                known = self._classes[number] = type(str(name), (made,), {"__module__": "program", **_MIRROR})
            made = known
        return made

    def describe(self, error: BaseException, node: Node) -> None:
        """An exception of the program's own class has its attributes there."""
        if type(error).__module__ == "program":
            error.__dict__["_at_home"] = self.receive(["h", node[3], ""])

    def printed(self) -> str:
        """Nothing: what the tests print is theirs."""
        return ""

    def _asked_back(self, what: Node, args: list[Any], named: dict[str, Any]) -> Any:
        """What graded code may do with what it was handed: call a function, step an iterator, use public attributes."""
        use, number, *name = what
        kind, one = self._handed[number] if type(number) is int and number >= 0 else ("", None)
        if use == "call" and kind == "f":
            return one(*args, **named)
        if use == "call" and kind == "i":
            return one(*args, **named)
        if use == "next" and kind == "g":
            return next(one)
        if use in ("get", "set") and kind == "i" and isinstance(name[0], str) and not name[0].startswith("_"):
            return getattr(one, name[0]) if use == "get" else setattr(one, name[0], args[0])
        raise AttributeError("this cannot be done with what the tests handed over")


def _of_library(home: str, name: str) -> type[BaseException] | None:
    """A class of the standard library's that the tests have; those that they have not they cannot mean."""
    if home.partition(".")[0] in sys.stdlib_module_names and home in sys.modules:
        found = vars(sys.modules[home]).get(name)
        if isinstance(found, type) and issubclass(found, BaseException):
            return found
    return None


async def _awaited(proxy: "Proxy") -> Any:
    return program_of(proxy).op("await", proxy)


class Proxy:
    """An object of the program's."""

    __slots__ = ("_number", "_program")

    def __init__(self, program: Program, number: int) -> None:
        object.__setattr__(self, "_program", program)
        object.__setattr__(self, "_number", number)

    def __call__(self, *args: Any, **named: Any) -> Any:
        return program_of(self).use(["o", number_of(self)], *args, **named)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__") and name not in _SEEN:
            raise AttributeError(name)  # protocols of libraries' that would let the program judge
        if name in _JUDGING:
            plain = _plain(self)
            if plain is not _UNSEEN:
                return getattr(plain, name)
            _vouched(self, name, True)
        return program_of(self).op("getattr", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        program_of(self).op("setattr", self, name, value)

    def __delattr__(self, name: str) -> None:
        program_of(self).op("delattr", self, name)

    def __hash__(self) -> int:
        return hash(number_of(self))

    def __eq__(self, other: object) -> Any:
        if other is self:
            return True
        if type(other) is Proxy:
            return _vouched(self, "==", bool(program_of(self).op("eq", self, other)))
        plain = _plain(self)
        if plain is not _UNSEEN:
            return plain == other
        return False if type(other).__module__ == "builtins" else NotImplemented

    def __ne__(self, other: object) -> Any:
        if type(other) is Proxy:
            return _vouched(self, "!=", bool(program_of(self).op("ne", self, other)))
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else not equal

    def __contains__(self, item: object) -> bool:
        plain = _plain(self)
        if plain is not _UNSEEN:
            return item in plain
        try:
            steps: Any = program_of(self).op("iter", self)
        except TypeError:
            steps = ()
        if any(one is item or one == item for one in steps):
            return True
        return bool(_vouched(self, "in", program_of(self).op("contains", self, item) is True))

    def __exit__(self, kind: Any, error: Any, trace: Any) -> Any:
        return program_of(self).op("exit", self, kind, None, None)

    def __instancecheck__(self, one: object) -> bool:
        return type(one) is Proxy and program_of(self).op("isinstance", one, self) is True

    def __subclasscheck__(self, one: object) -> bool:
        return type(one) is Proxy and program_of(self).op("issubclass", one, self) is True


def program_of(proxy: Proxy) -> Program:
    """Whose it is."""
    found: Program = object.__getattribute__(proxy, "_program")
    return found


def number_of(proxy: Proxy) -> int:
    """Under which number the program's side has it."""
    found: int = object.__getattribute__(proxy, "_number")
    return found


def _plain(proxy: Proxy) -> Any:
    """The value that an object of a class derived from a built-in one has as one of these.

    One that cannot change is asked for once; one that has changed since it was last seen may have done so for the tests.
    """
    program, number = program_of(proxy), number_of(proxy)
    before = program.values.get(number, _UNSEEN)
    if type(before) in _FIXED:
        return before
    try:
        found = program.op("plain", proxy)
    except Exception:
        return _UNSEEN
    if type(found) is Proxy:
        return _UNSEEN
    if before is not _UNSEEN and before != found:
        program.vouched = "a value that changes"
    program.values[number] = found
    return found


def _vouched(proxy: Proxy, what: str, told: bool) -> bool:
    if told:
        program_of(proxy).vouched = what
    return told


def _passed_on(name: str) -> Callable[..., Any]:
    return lambda self, *args: program_of(self).op(name, self, *args)


def _binary(name: str, reflected: bool = False) -> Callable[..., Any]:
    def apply(self: Proxy, other: object) -> Any:
        plain: Any = _UNSEEN if type(other) is Proxy else _plain(self)
        if plain is not _UNSEEN:
            return _operator(name)(other, plain) if reflected else _operator(name)(plain, other)
        if type(other) is not Proxy:
            _vouched(self, name, True)
        return program_of(self).op(name, other, self) if reflected else program_of(self).op(name, self, other)

    return apply


def _operator(name: str) -> Callable[[Any, Any], Any]:
    found: Callable[[Any, Any], Any] = divmod if name == "divmod" else getattr(operator, f"__{name}__")
    return found


def _ordered(name: str) -> Callable[..., Any]:
    def compare(self: Proxy, other: object) -> Any:
        if type(other) is Proxy:
            return _vouched(self, name, bool(program_of(self).op(name, self, other)))
        plain = _plain(self)
        return NotImplemented if plain is _UNSEEN else _operator(name)(plain, other)

    return compare


for _name in (*_UNARY, *_ITEMS):
    setattr(Proxy, f"__{_name}__", _passed_on(_name))
for _name in _BINARY:
    setattr(Proxy, f"__{_name}__", _binary(_name))
    setattr(Proxy, f"__r{_name}__", _binary(_name, reflected=True))
    if _name != "divmod":
        setattr(Proxy, f"__i{_name}__", _binary(f"i{_name}"))
for _name in _ORDER:
    setattr(Proxy, f"__{_name}__", _ordered(_name))


def _at_home(error: BaseException, name: str) -> Any:
    home = error.__dict__.get("_at_home")
    if home is None or (name.startswith("__") and name.endswith("__")):
        raise AttributeError(name)
    return getattr(home, name)


def _told(error: BaseException) -> str:
    home = error.__dict__.get("_at_home")
    return super(type(error), error).__str__() if home is None else str(home)


_MIRROR: dict[str, Any] = {"__getattr__": _at_home, "__str__": _told}
