"""What travels between the command and the processes that send its requests: calls, and their outcomes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cascade.models.protocol import ModelError, Request
from cascade.policy.schema import ModelSpec
from cascade.result import FaultKind
from judges import Answer, Prompt, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request to be sent: its number among all of the caller's, the model's name and entry, the request."""

    number: int
    name: str
    spec: ModelSpec
    prompt: Prompt
    request: Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """The fields of a ModelError, which cannot be pickled itself."""

    message: str
    model: str
    retryable: bool
    status: int | None
    usage: Usage | None
    retry_after_s: float | None
    kind: FaultKind

    @classmethod
    def of(cls, error: ModelError) -> "Fault":
        """The fields of an error."""
        return cls(
            message=str(error), model=error.model, retryable=error.retryable, status=error.status, usage=error.usage,
            retry_after_s=error.retry_after_s, kind=error.kind,
        )  # fmt: skip

    def to_error(self) -> ModelError:
        """The error."""
        return ModelError(
            self.message, model=self.model, retryable=self.retryable, status=self.status, usage=self.usage,
            retry_after_s=self.retry_after_s, kind=self.kind,
        )  # fmt: skip


Outcome = tuple[Answer, ...] | Fault
Outcomes = Mapping[int, bytes]
"""Pickled outcomes by the numbers of their calls: only the sender and the command read them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Custody:
    """What a sender says to a worker that is new to it.

    Attributes:
        sender: Identifies the sender's process.
        worker: The worker's number among those that were new to it.
        outcomes: The replies that it has, of those asked about.
        under_way: The numbers of the calls whose requests it has sent without a reply so far.
    """

    sender: str
    worker: int
    outcomes: Outcomes = field(default_factory=dict)
    under_way: Sequence[int] = ()
