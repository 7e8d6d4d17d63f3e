"""The Judge protocol, Ask (how a judge may question a model again), and a plain function as a judge."""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from .types import Answer, Prompt, Verdict


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
class JudgeInput:
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

    def judge(self, case: JudgeInput) -> Verdict | Awaitable[Verdict]: ...


Opinion = float | bool | None | Verdict
JudgeFunction = Callable[[Prompt, Answer], Opinion | Awaitable[Opinion]]


@dataclass(frozen=True)
class FunctionJudge:
    """A plain or async function of (prompt, answer) as a judge: a float in [0, 1], a bool, None or a Verdict."""

    name: str
    function: JudgeFunction
    only_vetoes: bool = False

    def judge(self, case: JudgeInput) -> Verdict | Awaitable[Verdict]:
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
