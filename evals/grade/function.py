"""Any Python function as a grader: ``python:package.module:function``."""

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from .protocol import GraderError, GradingCase


@dataclass(frozen=True, slots=True)
class FunctionGrader:
    """Calls ``function(reference, text)`` or, if it needs one argument, ``function(case)``; it returns a number in [0, 1].

    Parameters named ``reference`` and ``text`` may be in any order.

    The version is the function's own ``version`` attribute, or "1": change it when its grades change.
    """

    name: str
    function: Callable[..., Any]
    version: str
    call: Callable[[GradingCase], Any]
    needs_reference: bool = False
    waits: bool = False

    @classmethod
    def named(cls, where: str) -> "FunctionGrader":
        """The function at ``package.module:function``. Raises GraderError."""
        module, sign, attribute = where.partition(":")
        if not (module and sign and attribute):
            raise GraderError(f"python:{where}: write python:package.module:function")
        try:
            function = getattr(import_module(module), attribute)
        except (Exception, SystemExit) as error:  # a module may raise anything while it is imported
            reason = (
                f"{error}" if isinstance(error, ImportError | AttributeError) else f"raised {type(error).__name__}: {error}"
            )
            raise GraderError(f"python:{where}: {reason}") from error
        if not callable(function):
            raise GraderError(f"python:{where}: is not a function")
        return cls(f"python:{where}", function, str(getattr(function, "version", "1")), _call_of(function, where))

    def check(self, reference: Any) -> None:
        """Accepts every reference: a user's function may use it in any way."""

    def grade(self, case: GradingCase) -> float | Awaitable[float | None] | None:
        """Raises GraderError if the function returns anything but a number in [0, 1], a bool or None."""
        try:
            result = self.call(case)
        except (Exception, SystemExit) as error:
            raise self._raised(error) from error
        return self._awaited(result) if inspect.isawaitable(result) else self._checked(result)

    async def _awaited(self, result: Awaitable[Any]) -> float | None:
        try:
            return self._checked(await result)
        except GraderError:
            raise
        except (Exception, SystemExit) as error:
            raise self._raised(error) from error

    def _raised(self, error: BaseException) -> GraderError:
        return GraderError(f"{self.name} raised {type(error).__name__}: {error}")

    def _checked(self, result: Any) -> float | None:
        if result is None or (isinstance(result, int | float) and 0.0 <= result <= 1.0):
            return None if result is None else float(result)
        raise GraderError(f"{self.name} gave {result!r}; a grade is a number in [0, 1], a bool, or None for cannot tell")


def _call_of(function: Callable[..., Any], where: str) -> Callable[[GradingCase], Any]:
    try:
        parameters = inspect.signature(function).parameters
    except (ValueError, TypeError):  # some built-in ones have none
        return lambda case: function(case.reference, case.text)
    kinds = inspect.Parameter
    needed = [p for p in parameters.values() if p.default is kinds.empty and p.kind in _PLACED]
    placed = [p for p in parameters.values() if p.kind in _PLACED]
    more = any(p.kind is kinds.VAR_POSITIONAL for p in parameters.values())
    keyed = [p.name for p in parameters.values() if p.default is kinds.empty and p.kind is kinds.KEYWORD_ONLY]
    if {"reference", "text"} <= parameters.keys() and all(parameters[n].kind in _NAMED for n in ("reference", "text")):
        if {p.name for p in needed} | {*keyed} <= {"reference", "text"}:
            return lambda case: function(reference=case.reference, text=case.text)
    elif len(needed) <= 2 and not keyed:
        if len(needed) == 1 or (len(placed) == 1 and not more):
            return function
        if len(placed) >= 2 or more:
            return lambda case: function(case.reference, case.text)
    raise GraderError(f"python:{where}: a grader takes (reference, text) or (case), this one {inspect.signature(function)}")


_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_PLACED = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
