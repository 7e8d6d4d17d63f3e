"""Values as JSON: those of built-in types and of a few types of the standard library, rebuilt as exactly these types.

Decoding runs no code of the other side and creates no object whose methods the other side chose; an object of any other
type stays where it is, and only its number is sent. A list, dict, set, bytearray or deque keeps its identity within one
call: it has a number, by which it may occur more than once and by which its changes are sent back.
"""

import builtins
import re
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable
from functools import lru_cache
from typing import Any

Node = Any  # what JSON can hold
TESTS = "graded"  # the module of the tests, and elsewhere of the program
TYPES = (
    int, float, complex, bool, str, bytes, bytearray,
    list, tuple, dict, set, frozenset, range, slice, object, type, type(None)
)  # fmt: skip
_TYPE_NAMES = {one: one.__name__ for one in TYPES}
_BY_NAME = {name: one for one, name in _TYPE_NAMES.items()}
_CONTAINERS: dict[Any, str] = {
    list: "l",
    dict: "d",
    set: "s",
    bytearray: "y",
    OrderedDict: "O",
    Counter: "C",
    defaultdict: "D",
    deque: "q",
}
_FACTORIES: dict[str, Callable[[], Any]] = {
    "l": list, "d": dict, "s": set, "y": bytearray, "O": OrderedDict, "C": Counter, "D": defaultdict, "q": deque
}  # fmt: skip
_DATES = ("date", "time", "datetime")
_ARRAYS = re.compile(r"[<>|=][biufcSUmM]\d*(\[\w+\])?")  # numpy's types of plain data
_WORD = 1 << 63


class WireError(Exception):
    """What was received is not in the format."""


class CannotCarryError(Exception):
    """A value that the format cannot express."""


class Encoder:
    """Turns values into nodes.

    Args:
        other: Returns the node of a value that this class cannot encode, or raises CannotCarryError.
        known: Containers that the receiver has, by their numbers.
    """

    def __init__(self, other: Callable[[Any], Node], containers: dict[int, Any] | None = None) -> None:
        self._other = other
        self.containers = containers if containers is not None else {}
        self._numbers = {id(one): number for number, one in self.containers.items()}

    def node(self, value: Any) -> Node:
        """The node of a value. Raises CannotCarryError, RecursionError."""
        kind = type(value)
        if value is None or kind is str or kind is float or kind is bool:
            return value
        if kind is int:
            return value if -_WORD < value < _WORD else ["i", hex(value)]
        if kind in _CONTAINERS:
            number = self._numbers.get(id(value))
            if number is not None:
                return ["@", number]
            number = len(self.containers)
            self.containers[number] = value
            self._numbers[id(value)] = number
            return [_CONTAINERS[kind], number, self.content(value)]
        if kind is tuple:
            return ["t", [self.node(item) for item in value]]
        return self._rarer(value, kind)

    def content(self, value: Any) -> Node:
        """The content of a container."""
        kind = type(value)
        if kind is bytearray:
            return value.decode("latin-1")
        if kind is deque:
            return [value.maxlen, [self.node(item) for item in value]]
        if kind in (list, set):
            return [self.node(item) for item in value]
        pairs = [[self.node(key), self.node(item)] for key, item in value.items()]
        if kind is defaultdict:
            return [_TYPE_NAMES.get(value.default_factory), pairs]
        return pairs

    def _rarer(self, value: Any, kind: type) -> Node:
        if kind is bytes:
            return ["b", value.decode("latin-1")]
        if kind is frozenset:
            return ["z", [self.node(item) for item in value]]
        if kind is complex:
            return ["c", value.real, value.imag]
        if kind in (range, slice):
            return ["r" if kind is range else "sl", *map(self.node, (value.start, value.stop, value.step))]
        if value is ...:
            return ["..."]
        if kind is type and value in _TYPE_NAMES:
            return ["T", _TYPE_NAMES[value]]
        home = kind.__module__
        if home in ("fractions", "decimal", "datetime") and kind.__name__ in _OF_LIBRARY[home]:
            return _library_node(self, value, home, kind.__name__)
        if home == "numpy" and (node := _array_node(value)) is not None:
            return node
        fields = getattr(kind, "_fields", None)
        if isinstance(value, tuple) and kind.__base__ is tuple and isinstance(fields, tuple):
            return ["n", kind.__name__, list(fields), [self.node(item) for item in tuple(value)]]
        return self._other(value)


_OF_LIBRARY = {"fractions": ("Fraction",), "decimal": ("Decimal",), "datetime": (*_DATES, "timedelta")}


def _library_node(encoder: Encoder, value: Any, home: str, name: str) -> Node:
    if home == "fractions":
        return ["F", encoder.node(value.numerator), encoder.node(value.denominator)]
    if home == "decimal":
        return ["m", str(value)]
    if name == "timedelta":
        return ["dt", name, [value.days, value.seconds, value.microseconds]]
    return ["dt", name, value.isoformat()]


def _array_node(value: Any) -> Node | None:
    kind = getattr(getattr(value, "dtype", None), "str", "")
    if not isinstance(kind, str) or not _ARRAYS.fullmatch(kind):
        return None
    return ["np", kind, list(value.shape), value.tobytes().decode("latin-1"), type(value).__name__ == "ndarray"]


class Decoder:
    """Turns nodes into values.

    Args:
        other: Returns the value of a node of another kind, or raises WireError.
        known: Containers that the sender has, by their numbers.
    """

    def __init__(self, other: Callable[[list[Any]], Any], containers: dict[int, Any] | None = None) -> None:
        self._other = other
        self.containers = containers if containers is not None else {}

    def value(self, node: Node) -> Any:
        """The value of a node. Raises WireError."""
        if not isinstance(node, list):
            if isinstance(node, dict):
                raise WireError("a JSON object")
            return node
        try:
            return self._value(node)
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, ImportError, RecursionError) as error:
            raise WireError(f"{type(error).__name__}: {error}") from None

    def _value(self, node: list[Any]) -> Any:
        tag = node[0]
        if tag == "@":
            return self.containers[node[1]]
        if tag in _FACTORIES:
            _, number, content = node
            if type(number) is not int or number in self.containers:
                raise WireError("a number twice")
            container = self.containers[number] = deque(maxlen=content[0]) if tag == "q" else _FACTORIES[tag]()
            self.fill(container, content)
            return container
        if tag == "t":
            return tuple(map(self.value, _list(node[1])))
        if tag in _SIMPLE:
            return _SIMPLE[tag](*map(self.value, node[1:]))
        if tag == "z":
            return frozenset(map(self.value, _list(node[1])))
        if tag in _OF_PLAIN_DATA:
            return _OF_PLAIN_DATA[tag](*node[1:])
        if tag == "n":
            return _named(str(node[1]), tuple(map(str, node[2])))(*map(self.value, _list(node[3])))
        return self._other(node)

    def fill(self, container: Any, content: Node) -> None:
        """Replaces a container's content by that of the sender's container. Raises WireError where it has another form."""
        kind = type(container)
        if kind is bytearray:
            container[:] = content.encode("latin-1")
            return
        if kind is defaultdict:
            container.default_factory = None if content[0] is None else _BY_NAME[content[0]]
            content = content[1]
        if kind in (list, set, deque):
            items = [self.value(item) for item in _list(content[1] if kind is deque else content)]
            container.clear()
            container.update(items) if kind is set else container.extend(items)
            return
        pairs = [(self.value(key), self.value(item)) for key, item in _list(content)]
        container.clear()
        for key, item in pairs:
            container[key] = item


def snapshot(container: Any) -> Any:
    """What ``unchanged`` compares a container with later."""
    kind = type(container)
    if kind is bytearray:
        return bytes(container)
    return [*container.keys(), *container.values()] if issubclass(kind, dict) else list(container)


def unchanged(container: Any, before: Any) -> bool:
    """Whether a container holds the same objects as at the time of the snapshot."""
    now = snapshot(container)
    if type(container) is bytearray:
        return bool(now == before)
    return len(now) == len(before) and all(a is b for a, b in zip(now, before, strict=True))


def _list(node: Node) -> list[Any]:
    if not isinstance(node, list):
        raise WireError("no list")
    return node


def _whole(text: str) -> int:
    return int(text, 16)


def _type(name: str) -> type:
    return _BY_NAME[name]


def _fraction(numerator: int, denominator: int) -> Any:
    from fractions import Fraction

    return Fraction(numerator, denominator)


def _decimal(text: str) -> Any:
    from decimal import Decimal

    return Decimal(str(text))


def _array(kind: str, shape: Any, data: str, whole: bool) -> Any:
    import numpy

    if not _ARRAYS.fullmatch(kind):
        raise WireError("an array of another type")
    array = numpy.frombuffer(data.encode("latin-1"), numpy.dtype(kind)).reshape(shape).copy()
    return array if whole else array[()]


def _date(kind: str, value: Any) -> Any:
    import datetime

    if kind == "timedelta":
        return datetime.timedelta(*value)
    if kind not in _DATES:
        raise WireError("no date")
    return getattr(datetime, kind).fromisoformat(value)


_SIMPLE: dict[str, Callable[..., Any]] = {
    "i": _whole, "b": lambda text: text.encode("latin-1"), "c": complex, "r": range, "sl": slice, "...": lambda: ...,
    "T": _type, "F": _fraction, "m": _decimal,
}  # fmt: skip

_OF_PLAIN_DATA: dict[str, Callable[..., Any]] = {"np": _array, "dt": _date}


@lru_cache(maxsize=256)
def _named(name: str, fields: tuple[str, ...]) -> Any:
    return namedtuple(name, fields)  # raises ValueError for invalid names


def is_builtin_exception(name: str) -> bool:
    """Whether a name is that of one of Python's own exceptions."""
    one = getattr(builtins, name, None)
    return isinstance(one, type) and issubclass(one, BaseException)
