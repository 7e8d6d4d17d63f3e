"""The Grader protocol and its input."""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from judges import Prompt


class GraderError(ValueError):
    """A grader that cannot be created, or a reference that it cannot use; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GradingCase:
    """One answer to be graded.

    ``text`` is the answer, ``reference`` the example's right answer (None: there is none), ``prompt`` what was asked,
    ``tool_calls`` the tool calls with or without text, in OpenAI's shape. ``others`` maps the models of
    the example to their answers' texts, which pairwise comparison needs.
    """

    text: str
    reference: Any = None
    prompt: Prompt = field(default_factory=lambda: Prompt.of("-"))
    others: Mapping[str, str] = field(default_factory=dict)
    tool_calls: tuple[Mapping[str, Any], ...] = ()


class Grader(Protocol):
    """Grades one answer. ``version`` changes whenever the same answer could get another grade.

    ``needs_reference`` says that an example without a reference cannot be graded. ``waits`` says that grading waits for
    another process, so that several answers may be graded at once in threads.
    """

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def needs_reference(self) -> bool: ...

    @property
    def waits(self) -> bool: ...

    def check(self, reference: Any) -> None:
        """Raises GraderError for a reference that it cannot use; calls no model and runs nothing, so that all references
        can be checked before anything is paid for."""
        ...

    def grade(self, case: GradingCase) -> float | Awaitable[float | None] | None:
        """Quality in [0, 1], or None if it cannot decide. Raises GraderError for a reference that it cannot use."""
        ...
