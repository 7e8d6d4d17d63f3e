"""The Judge protocol, Ask (how a judge may question a model again), and the registry of judges.

A judge of your own is a function of five lines::

    @judge("brief")
    def brief(prompt, answer):
        '''Long answers are less trustworthy here.'''
        return 1.0 if len(answer.text) < 200 else 0.4
"""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from .answer import Answer, Prompt, Verdict


class Ask(Protocol):
    """How a judge may question a model again; whoever hands it out counts and pays every call."""

    def __call__(
        self,
        prompt: Prompt,
        *,
        model: str | None = None,
        n: int = 1,
        temperature: float | None = None,
        max_tokens: int | None = None,
        logprobs: bool = False,
    ) -> Awaitable[Sequence[Answer]]:
        """Up to ``n`` further answers, in one request where the provider can.

        ``model`` names a model of the policy; None is the model whose answer is being judged. ``logprobs`` asks for
        token log-probabilities with the first token's alternatives. May raise what the model raises.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """The one input of a judge: the prompt, the answer, and a way to ask again (None: no model can be asked)."""

    prompt: Prompt
    answer: Answer
    ask: Ask | None = None


@runtime_checkable
class Judge(Protocol):
    """Scores one answer. ``judge`` may be a plain or an async method; it returns a Verdict and keeps no state of a run.

    ``name`` is what policies, recordings and verdicts call it. ``only_vetoes`` says that it never gives a score and asks
    no model, so that it can be run again on an answer that a later judge put in place of the first. A judge may also say
    ``only_scores``: it never vetoes, never puts another answer in the place of the judged one, and asks no model.
    """

    @property
    def name(self) -> str: ...

    @property
    def only_vetoes(self) -> bool: ...

    def judge(self, case: Case) -> Verdict | Awaitable[Verdict]: ...


Opinion = float | bool | None | Verdict
JudgeFunction = Callable[[Prompt, Answer], Opinion | Awaitable[Opinion]]


@dataclass(frozen=True)
class FunctionJudge:
    """A plain or async function of (prompt, answer) as a judge: a float in [0, 1], a bool, None or a Verdict."""

    name: str
    function: JudgeFunction
    only_vetoes: bool = False

    def judge(self, case: Case) -> Verdict | Awaitable[Verdict]:
        opinion = self.function(case.prompt, case.answer)
        if inspect.isawaitable(opinion):
            return self._awaited(opinion)
        return self._verdict(opinion)

    async def _awaited(self, opinion: Awaitable[Opinion]) -> Verdict:
        return self._verdict(await opinion)

    def _verdict(self, opinion: Opinion) -> Verdict:
        if isinstance(opinion, Verdict):
            return opinion
        return Verdict(self.name, None if opinion is None else float(opinion))


class UnknownJudgeError(LookupError):
    """No judge of that name is built in, registered or installed."""


JudgeFactory = Callable[..., Judge]
_registered: dict[str, JudgeFactory] = {}


def judge(name: str, *, only_vetoes: bool = False) -> Callable[[JudgeFunction], FunctionJudge]:
    """Decorator: turns a function of (prompt, answer) into a Judge and registers it under ``name`` for policies."""

    def wrap(function: JudgeFunction) -> FunctionJudge:
        made = FunctionJudge(name, function, only_vetoes)
        register(name, lambda: made)
        return made

    return wrap


def register(name: str, factory: JudgeFactory) -> None:
    """Makes ``factory(**options) -> Judge`` known as ``name``; a later registration of the same name replaces it."""
    _registered[name] = factory


def _builtin() -> dict[str, JudgeFactory]:
    from .consistency import SelfConsistencyJudge
    from .logprob import LogprobJudge
    from .rules import RulesJudge
    from .schema import SchemaJudge
    from .verifier import VerifierJudge

    return {
        "schema": SchemaJudge,
        "rules": RulesJudge,
        "logprob": LogprobJudge,
        "self_consistency": SelfConsistencyJudge,
        "verifier": VerifierJudge,
    }


def _installed() -> dict[str, Any]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group="cascade.judges")}


def names() -> list[str]:
    """Every judge that a policy may name, sorted."""
    return sorted({*_builtin(), *_registered, *_installed()})


def factory(name: str) -> JudgeFactory:
    """What builds the judge ``name``: registered first, then built in, then by entry point ``cascade.judges``.

    Raises UnknownJudgeError with the known names.
    """
    found = _registered.get(name) or _builtin().get(name)
    if found is None:
        point = _installed().get(name)
        if point is None:
            raise UnknownJudgeError(f"unknown judge {name!r}; known: {', '.join(names())}")
        found = point.load()
    return found


def make(name: str, **options: Any) -> Judge:
    """The judge ``name`` built with ``options``.

    Raises UnknownJudgeError, TypeError for an option that the judge does not take, ValueError for a wrong value.
    """
    made: Judge = factory(name)(**options)
    return made
