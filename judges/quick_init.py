"""A faster ``__init__`` for the frozen dataclasses that every run makes."""

from dataclasses import MISSING, fields
from functools import update_wrapper
from inspect import Parameter, signature
from typing import Any, TypeVar

T = TypeVar("T")


def quick_init(cls: type[T]) -> type[T]:
    """Gives a frozen dataclass an ``__init__`` of the same signature that takes two thirds of the time.

    The one that ``dataclass`` writes passes each field's name to ``object.__setattr__``, which looks its slot up again; this
    one stores each value through its slot's descriptor. A run makes about ten such objects of five to seventeen fields.

    Args:
        cls: A class that ``dataclass(frozen=True, slots=True)`` has made.

    Returns:
        The same class.
    """
    factories = {field.name: field.default_factory for field in fields(cls)}  # type: ignore[arg-type]
    names: dict[str, Any] = {}
    arguments, lines = ["self"], []
    for name, parameter in signature(cls).parameters.items():
        names |= {f"set_{name}": cls.__dict__[name].__set__, f"default_{name}": parameter.default}
        if parameter.kind is Parameter.KEYWORD_ONLY and "*" not in arguments:
            arguments.append("*")
        arguments.append(name if parameter.default is Parameter.empty else f"{name}=default_{name}")
        value = name
        if factories[name] is not MISSING:
            names[f"make_{name}"] = factories[name]
            value = f"make_{name}() if {name} is default_{name} else {name}"
        lines.append(f"    set_{name}(self, {value})")
    if hasattr(cls, "__post_init__"):
        lines.append("    self.__post_init__()")
    exec("\n".join([f"def __init__({', '.join(arguments)}):", *lines]), names)
    init = update_wrapper(names["__init__"], cls.__init__)
    del init.__wrapped__
    cls.__init__ = init  # type: ignore[method-assign]
    return cls
