"""Keywords that a function takes as ``**options`` and passes on: shown by name, refused when they are wrong."""

from collections.abc import Callable, Iterable
from inspect import Parameter, signature
from typing import Any, TypeVar

from .suggestions import nearest

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def keywords_of(form: Callable[..., Any], *, without: tuple[str, ...] = ()) -> Callable[[FunctionT], FunctionT]:
    """Shows, in place of a function's ``**options``, the keywords of the function that receives them.

    ``help()``, notebooks and ``inspect.signature`` read it; type checkers read ``Unpack`` in the function's own signature.

    Args:
        form: The function that names every keyword.
        without: Keywords of ``form`` that the decorated function does not take.

    Returns:
        A decorator, which returns the function itself.
    """
    passed_on = {name: p for name, p in _keywords(form).items() if name not in without}

    def decorate(function: FunctionT) -> FunctionT:
        own = signature(function)
        positional = [p for p in own.parameters.values() if p.kind is Parameter.POSITIONAL_OR_KEYWORD]
        keywords = passed_on | _keywords(function)
        function.__signature__ = own.replace(parameters=[*positional, *keywords.values()])  # type: ignore[attr-defined]
        return function

    return decorate


def _keywords(function: Callable[..., Any]) -> dict[str, Parameter]:
    return {name: p for name, p in signature(function).parameters.items() if p.kind is Parameter.KEYWORD_ONLY}


def check_keywords(function: str, options: Iterable[str], known_names: Iterable[str]) -> None:
    """Refuses unknown keywords where the function that receives them is called only later.

    Args:
        function: The function's name, for the error.
        options: The keywords that were passed.
        known_names: Those that exist.

    Raises:
        TypeError: One of them does not exist.
    """
    names = frozenset(known_names)
    for name in options:
        if name not in names:
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}{nearest(name, sorted(names))}")
