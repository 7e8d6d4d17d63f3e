"""Any Python function as a grader: ``python:package.module:function``."""

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from .grader import Case, GraderError


@dataclass(frozen=True, slots=True)
class FunctionGrader:
    """Calls ``function(reference, text)`` or, where it takes one argument, ``function(case)``; it gives a number in [0, 1].

    The version is the function's own ``version`` attribute, or "1": change it when its grades change.
    """

    name: str
    function: Callable[..., Any]
    version: str
    needs_reference: bool = False
    waits: bool = False

    @classmethod
    def named(cls, where: str) -> "FunctionGrader":
        """The function at ``package.module:function``. Raises GraderError."""
        module, sign, attribute = where.partition(":")
        if not (module and sign and attribute):
            raise GraderError(f"python:{where}: write python:package.module:function")
        try:
            found = getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise GraderError(f"python:{where}: {error}") from None
        if not callable(found):
            raise GraderError(f"python:{where}: is no function")
        return cls(f"python:{where}", found, str(getattr(found, "version", "1")))

    def grade(self, case: Case) -> float | Awaitable[float | None] | None:
        """Raises GraderError where the function gives anything but a number in [0, 1], a bool or None."""
        one = len(inspect.signature(self.function).parameters) == 1
        try:
            given = self.function(case) if one else self.function(case.reference, case.text)
        except Exception as error:
            raise self._raised(error) from error
        return self._awaited(given) if inspect.isawaitable(given) else self._checked(given)

    async def _awaited(self, given: Awaitable[Any]) -> float | None:
        try:
            return self._checked(await given)
        except GraderError:
            raise
        except Exception as error:
            raise self._raised(error) from error

    def _raised(self, error: Exception) -> GraderError:
        return GraderError(f"{self.name} raised {type(error).__name__}: {error}")

    def _checked(self, given: Any) -> float | None:
        if given is None or (isinstance(given, int | float) and 0.0 <= given <= 1.0):
            return None if given is None else float(given)
        raise GraderError(f"{self.name} gave {given!r}; a grade is a number in [0, 1], a bool, or None for cannot tell")
