"""What the tests see of the program: proxies that pass every use on to the process where the object is.

Comparisons with a value are made here, on a value. Where the tests depend on the result of one of the program's own methods
(``==`` between two of its objects, ``-`` with an expected number), that result is used and noted: a verdict that depends on
it is not given.
"""

import operator
from collections.abc import Callable
from typing import Any, Protocol


class Program(Protocol):
    """The program in the other process, as its proxies use it."""

    values: dict[int, Any]
    vouched: str

    def use(self, what: Any, *args: Any, **named: Any) -> Any:
        """Calls an object of the program."""

    def op(self, name: str, *args: Any) -> Any:
        """Applies an operator in the program's process."""


_UNSEEN = object()
_UNARY = [
    "neg", "pos", "invert", "abs", "index", "int", "float", "complex", "round", "trunc", "floor", "ceil", "len", "bool"
]  # fmt: skip
_BINARY = [
    "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift", "divmod"
]  # fmt: skip
_ITEMS = ["getitem", "setitem", "delitem", "iter", "next", "reversed", "str", "repr", "format", "enter", "bytes"]
_ORDER = ("lt", "le", "gt", "ge")
_FIXED = (int, float, complex, bool, str, bytes, tuple, frozenset)
_SEEN = ("__name__", "__qualname__", "__dict__", "__annotations__", "__wrapped__", "__self__")
# Methods of built-in types on which tests depend; for an object of another class the program would decide the result.
_JUDGING = {name for kind in (str, bytes, int, float, set) for name in dir(kind) if name.startswith("is")} | {
    "startswith", "endswith", "difference", "symmetric_difference", "equals",
}  # fmt: skip


class Proxy:
    """Stands for an object of the program."""

    __slots__ = ("_number", "_program")

    def __init__(self, program: Program, number: int) -> None:
        object.__setattr__(self, "_program", program)
        object.__setattr__(self, "_number", number)

    def __call__(self, *args: Any, **named: Any) -> Any:
        return program_of(self).use(["o", number_of(self)], *args, **named)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__") and name not in _SEEN:
            raise AttributeError(name)  # protocols of libraries by which the program could decide a comparison
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
        result = program_of(self).op("exit", self, kind, None, None)
        # The program may swallow an exception of the tests, but not the one that says they have failed.
        return kind is not None and result is True and not issubclass(kind, AssertionError) and _vouched(self, "with", True)

    def __instancecheck__(self, one: object) -> bool:
        return type(one) is Proxy and program_of(self).op("isinstance", one, self) is True

    def __subclasscheck__(self, one: object) -> bool:
        return type(one) is Proxy and program_of(self).op("issubclass", one, self) is True


def program_of(proxy: Proxy) -> Program:
    """The program that a proxy belongs to."""
    program: Program = object.__getattribute__(proxy, "_program")
    return program


def number_of(proxy: Proxy) -> int:
    """The number under which the program's side keeps the object."""
    number: int = object.__getattribute__(proxy, "_number")
    return number


def _plain(proxy: Proxy) -> Any:
    """The value of an object whose class is derived from a built-in one, as that built-in type.

    An immutable value is requested once; a mutable one that has changed since may have been changed for the tests.
    """
    program, number = program_of(proxy), number_of(proxy)
    before = program.values.get(number, _UNSEEN)
    if type(before) in _FIXED:
        return before
    try:
        value = program.op("plain", proxy)
    except Exception:
        return _UNSEEN
    if type(value) is Proxy:
        return _UNSEEN
    if before is not _UNSEEN and before != value:
        program.vouched = "a value that changes"
    program.values[number] = value
    return value


def _vouched(proxy: Proxy, what: str, result: bool) -> bool:
    if result:
        program_of(proxy).vouched = what
    return result


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
    function: Callable[[Any, Any], Any] = divmod if name == "divmod" else getattr(operator, f"__{name}__")
    return function


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
