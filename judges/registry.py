"""The judges by name: built in, registered here, or installed under the entry point ``cascade.judges``.

A judge of your own is a function of five lines::

    @judge("brief")
    def brief(prompt, answer):
        '''Long answers are less trustworthy here.'''
        return 1.0 if len(answer.text) < 200 else 0.4
"""

from collections.abc import Callable
from inspect import signature
from typing import Any

from .protocol import FunctionJudge, Judge, JudgeFunction


class UnknownJudgeError(LookupError):
    """No judge of that name is built in, registered or installed."""


JudgeFactory = Callable[..., Judge]
_registered: dict[str, JudgeFactory] = {}


def judge(name: str, *, only_vetoes: bool = False) -> Callable[[JudgeFunction], FunctionJudge]:
    """Decorator: turns a function of (prompt, answer) into a Judge and registers it under ``name`` for policies.

    Raises TypeError for a function that cannot be called with a prompt and an answer.
    """

    def wrap(function: JudgeFunction) -> FunctionJudge:
        _check_parameters(name, function)
        function_judge = FunctionJudge(name, function, only_vetoes)
        register(name, lambda: function_judge)
        return function_judge

    return wrap


def _check_parameters(name: str, function: JudgeFunction) -> None:
    try:
        parameters = signature(function)
    except ValueError:  # some functions of C extensions have no signature that can be read
        return
    try:
        parameters.bind(None, None)
    except TypeError:
        raise TypeError(f"judge {name!r}: the function must take (prompt, answer), not {parameters}") from None


def register(name: str, factory: JudgeFactory) -> None:
    """Registers ``factory(**options) -> Judge`` under ``name``; a later registration of the same name replaces it."""
    _registered[name] = factory


def unregister(name: str) -> None:
    """Removes a registered judge; a built-in or installed judge of that name is available again."""
    _registered.pop(name, None)


def _builtin() -> dict[str, JudgeFactory]:
    from judges.schema import SchemaJudge

    from .consensus import ConsensusJudge
    from .logprob import LogprobJudge
    from .rules import RulesJudge
    from .self_consistency import SelfConsistencyJudge
    from .tools import ToolsJudge
    from .verifier import VerifierJudge

    return {
        "schema": SchemaJudge,
        "rules": RulesJudge,
        "logprob": LogprobJudge,
        "self_consistency": SelfConsistencyJudge,
        "verifier": VerifierJudge,
        "tools": ToolsJudge,
        "consensus": ConsensusJudge,
    }


def _installed() -> dict[str, Any]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group="cascade.judges")}


def names() -> list[str]:
    """Every judge that a policy may name, sorted."""
    return sorted({*_builtin(), *_registered, *_installed()})


def factory(name: str) -> JudgeFactory:
    """The factory of the judge ``name``: registered, else built in, else by entry point ``cascade.judges``.

    Raises UnknownJudgeError with the known names.
    """
    match = _registered.get(name) or _builtin().get(name)
    if match is None:
        point = _installed().get(name)
        if point is None:
            raise UnknownJudgeError(f"unknown judge {name!r}; known: {', '.join(names())}")
        match = point.load()
    return match


def make(name: str, **options: object) -> Judge:
    """Builds a judge.

    Args:
        name: Its name, as a policy gives it.
        **options: Its options, as a policy file gives them: each judge has its own, and checks them.

    Raises:
        UnknownJudgeError: There is no judge of that name.
        TypeError: The judge does not take an option.
        ValueError: An option's value is wrong.

    Example:
        ```python
        judges.make("self_consistency", samples=5)
        ```
    """
    return factory(name)(**options)
