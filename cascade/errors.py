"""Every exception that cascade raises.

CascadeError
├── PolicyError          the policy file or a policy object is wrong (also a ValueError)
├── JournalError         the journal cannot be opened, written or read
│   └── RunNotFoundError the journal does not contain the run
├── StateError           the store of shared budgets and key rates cannot be used
└── RunError             a run ended without an answer that may be returned; ``attempts`` says what was tried
    ├── ProviderError    every tier that was asked failed
    ├── BudgetError      the budget or the cap on calls allowed no answer
    ├── DeadlineError    the deadline passed before any answer
    └── UnsureError      no answer reached its threshold and the policy says ``when_unsure: raise``; carries ``result``
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .result import Attempt, Result


class CascadeError(Exception):
    """The root of the tree."""


class PolicyError(CascadeError, ValueError):
    """A policy that cannot be used; the message names file, line and key and, where one is near, the right name."""


class JournalError(CascadeError):
    """The journal failed.

    Attributes:
        result: The answer of the run whose record may be missing; None where the error is not about a run.
    """

    def __init__(self, message: str, result: "Result | None" = None) -> None:
        super().__init__(message)
        self.result = result


class RunNotFoundError(JournalError):
    """The journal does not contain the run: its id is wrong, or its record was deleted."""

    def __init__(self, run_id: str, remedy: str = "") -> None:
        super().__init__(f"run {run_id!r} is not in the journal{remedy}")
        self.run_id = run_id


class StateError(CascadeError):
    """The store of state that processes share cannot be used, and the limit of a request cannot be checked without it."""


class RunError(CascadeError):
    """A run without an answer.

    Attributes:
        attempts: What was tried, one Attempt for each tier that was asked.
        run_id: The run's id in the journal.
    """

    def __init__(self, message: str, attempts: "tuple[Attempt, ...]" = (), run_id: str = "") -> None:
        super().__init__(message)
        self.attempts, self.run_id = attempts, run_id

    def to_dict(self) -> dict[str, Any]:
        """The error as plain data, for logs and responses.

        Returns:
            A dict that ``json.dumps`` accepts: the class's name, the message, the run's id and the attempts.
        """
        return {
            "error": type(self).__name__,
            "message": str(self),
            "run_id": self.run_id,
            "attempts": [attempt.to_dict() for attempt in self.attempts],
        }


class ProviderError(RunError):
    """Every tier that was asked failed."""


class BudgetError(RunError):
    """The budget or the cap on calls was reached before any answer."""


class DeadlineError(RunError):
    """The deadline passed before any answer."""


class UnsureError(RunError):
    """No answer was good enough and the policy asks to raise.

    Attributes:
        result: The best answer, with ``accepted=False``.
    """

    def __init__(self, message: str, result: "Result") -> None:
        super().__init__(message, result.attempts, result.run_id)
        self.result = result

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.result)  # an exception is otherwise unpickled from its message alone

    def to_dict(self) -> dict[str, Any]:
        """The error as plain data, with ``result``: the best answer."""
        return {**super().to_dict(), "result": self.result.to_dict()}
