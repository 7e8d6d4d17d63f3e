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
    """Turns a function of (prompt, answer) into a judge and registers it for policies; a decorator.

    Args:
        name: The judge's name in policies.
        only_vetoes: Whether it never gives a score.

    Returns:
        The decorator, which returns the judge.

    Raises:
        TypeError: The function cannot be called with a prompt and an answer.

    Example:
        ```python
        @judge("brief")
        def brief(prompt, answer):
            return 1.0 if len(answer.text) < 200 else 0.4
        ```
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
    """Registers a judge with options; a later registration of the same name replaces it.

    Args:
        name: The judge's name in policies.
        factory: Called with the options of the policy file as keywords; returns the judge.
    """
    _registered[name] = factory


def unregister(name: str) -> None:
    """Removes a registered judge; a built-in or installed judge of that name is available again.

    Args:
        name: The judge's name.
    """
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
    """Lists the judges that a policy may name.

    Returns:
        The names of built-in, registered and installed judges, sorted.
    """
    return sorted({*_builtin(), *_registered, *_installed()})


def factory(name: str) -> JudgeFactory:
    """Finds what makes a judge: registered here, else built in, else installed under the entry point ``cascade.judges``.

    Args:
        name: The judge's name.

    Returns:
        A function of the judge's options.

    Raises:
        UnknownJudgeError: There is no such judge; the message lists those that exist.
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
