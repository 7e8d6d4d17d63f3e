"""The Model protocol: whatever can answer a prompt, and the errors it may raise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from judges import Answer, Prompt


class ModelError(Exception):
    """A provider's fault, never a quality escalation. The message carries no key and no prompt.

    ``retryable`` is True for timeouts, connection errors, 408, 409, 429 and 5xx; ``status`` is the HTTP status if any.
    ``retry_after_s`` is how long the provider says to wait, in seconds, where it says so.
    """

    def __init__(
        self,
        message: str,
        *,
        model: str,
        retryable: bool = False,
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.model, self.retryable, self.status, self.retry_after_s = model, retryable, status, retry_after_s


@dataclass(frozen=True, slots=True)
class Request:
    """How to ask: everything beside the prompt. None leaves the provider's default."""

    n: int = 1
    temperature: float | None = None
    max_tokens: int | None = None
    logprobs: bool = False
    sample: bool = False
    """True for a judge's further sample of an answer that was already given (a recording serves its samples)."""
    sample_offset: int = 0
    """How many samples of the same answer were already drawn in this run."""
    timeout_s: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further provider parameters, passed through."""


class Model(Protocol):
    """Answers prompts. One instance serves many runs at once; ``name`` is its name in the policy."""

    @property
    def name(self) -> str: ...

    async def answer(self, prompt: Prompt, request: Request) -> Sequence[Answer]:
        """``request.n`` answers (fewer where the provider gave fewer), at least one; raises ModelError."""
        ...

    async def close(self) -> None:
        """Closes connections; the model must not be used afterwards."""
        ...
