"""The Judge protocol, Ask (how a judge sends its own requests), and a plain function as a judge."""

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol, TypedDict, Unpack, runtime_checkable

from .quick_init import quick_init
from .types import Answer, Prompt, Verdict


class AskOptions(TypedDict, total=False):
    """How a judge's request is sent; None is the provider's default.

    Attributes:
        n: The number of answers, 1 by default.
        temperature: The sampling temperature.
        max_tokens: The most tokens of each answer.
        logprobs: Whether to request token log-probabilities, with the first token's alternatives.
    """

    n: int
    temperature: float | None
    max_tokens: int | None
    logprobs: bool


class Ask(Protocol):
    """Sends a judge's own request to a model; an implementation counts and prices every call."""

    def __call__(
        self, prompt: Prompt, *, model: str | None = None, **options: Unpack[AskOptions]
    ) -> Awaitable[Sequence[Answer]]:
        """Asks for further answers, in one request where the provider can.

        Args:
            prompt: The request; the judged answer's own prompt asks for a further sample of it.
            model: A model of the policy; None: the one whose answer is being judged.
            **options: See AskOptions.

        Returns:
            Up to ``n`` answers.

        Raises:
            LookupError: The policy has no such model.
            Exception: What the model raises.
        """
        ...


@runtime_checkable
class AskEach(Protocol):
    """An ``Ask`` that can put the judged prompt to several models at once, as the judged answer's model was asked."""

    def each(self, prompt: Prompt, models: Sequence[str]) -> Awaitable[Sequence[Answer | None]]:
        """Asks each model once.

        Args:
            prompt: The request.
            models: Models of the policy.

        Returns:
            The answers in the order of ``models``; None for a model that failed.

        Raises:
            LookupError: The policy has no such model.
        """
        ...


_NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


def _no_options() -> Mapping[str, Any]:
    return _NO_OPTIONS


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeInput:
    """The one input of a judge.

    Attributes:
        prompt: The prompt.
        answer: The answer to judge.
        ask: Sends requests to models; None: no model is available.
        options: The provider's parameters of the answer's request, such as ``tool_choice``.
    """

    prompt: Prompt
    answer: Answer
    ask: Ask | None = None
    options: Mapping[str, Any] = field(default_factory=_no_options)


@runtime_checkable
class Judge(Protocol):
    """Scores one answer. It keeps no state of a run.

    A judge may also have an attribute ``only_scores``: it never vetoes, never replaces the judged answer, and sends no
    request.
    """

    @property
    def name(self) -> str:
        """The judge's name in policies, recordings and verdicts."""
        ...

    @property
    def only_vetoes(self) -> bool:
        """Whether it never gives a score and sends no request, so that it runs again on an answer of a later judge."""
        ...

    def judge(self, case: JudgeInput) -> Verdict | Awaitable[Verdict]:
        """Judges one answer; a plain or an async method.

        Args:
            case: The prompt, the answer, and a way to send requests.

        Returns:
            A score, a veto, or "cannot tell".

        Raises:
            Exception: The judge failed; the policy's ``on_judge_error`` says what happens then.
        """
        ...


Opinion = float | bool | None | Verdict
JudgeFunction = Callable[[Prompt, Answer], Opinion | Awaitable[Opinion]]


@dataclass(frozen=True)
class FunctionJudge:
    """A plain or async function of (prompt, answer) as a judge.

    Attributes:
        name: The judge's name.
        function: Returns a float in [0, 1], a bool, None ("cannot tell") or a Verdict.
        only_vetoes: Whether it never gives a score.
    """

    name: str
    function: JudgeFunction
    only_vetoes: bool = False

    def judge(self, case: JudgeInput) -> Verdict | Awaitable[Verdict]:
        """See Judge: calls the function with the prompt and the answer of ``case``."""
        opinion = self.function(case.prompt, case.answer)
        if inspect.isawaitable(opinion):
            return self._verdict_later(opinion)
        return self._verdict(opinion)

    async def _verdict_later(self, opinion: Awaitable[Opinion]) -> Verdict:
        return self._verdict(await opinion)

    def _verdict(self, opinion: Opinion) -> Verdict:
        if isinstance(opinion, Verdict):
            return opinion
        return Verdict(self.name, None if opinion is None else float(opinion))
