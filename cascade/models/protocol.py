"""The Model protocol: whatever can answer a prompt, whole or piece by piece, and the errors it may raise."""

import re
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from cascade.result import FaultKind
from judges import Answer, Prompt, Usage
from judges.quick_init import quick_init


class ModelError(Exception):
    """A provider's fault, never a quality escalation. The message carries no key and no prompt.

    ``retryable`` is True for timeouts, connection errors, 408, 409, 429 and 5xx; ``status`` is the HTTP status if any.
    ``usage`` is what the provider counted for the failed request: nothing where it refused it or was never reached, None
    where that is unknown, since an answer that was lost on its way may have been billed. ``retry_after_s`` is how long the
    provider asks to wait, in seconds. ``kind`` says in one word what failed.
    """

    def __init__(
        self,
        message: str,
        *,
        model: str,
        retryable: bool = False,
        status: int | None = None,
        usage: Usage | None = None,
        retry_after_s: float | None = None,
        kind: FaultKind = "other",
    ) -> None:
        super().__init__(message)
        self.model, self.retryable, self.status, self.usage = model, retryable, status, usage
        self.retry_after_s, self.kind = retry_after_s, kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The parameters of a request: everything except the prompt. None leaves the provider's default."""

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
    strict: bool | None = None
    """Whether the provider is to enforce the prompt's schema token by token; None: where the schema allows it."""


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of an answer that is under way: what was added to it since the last one.

    ``tool_calls`` are deltas in OpenAI's shape: ``index`` says which call, ``function.arguments`` is a piece of its JSON.
    ``reasoning`` is a piece of ``Answer.reasoning``, sent before the text that follows it; ``thinking_blocks`` are the
    thoughts that Anthropic signed or redacted, each once it is whole. ``refusal`` says that ``text`` is what the provider
    marks as a refusal. ``retracts`` voids the texts of all earlier chunks: they proved to be reasoning. ``answer`` is None
    but in the last chunk, where it is the whole answer; the texts of all chunks since the last retraction are its text.
    """

    text: str = ""
    reasoning: str = ""
    thinking_blocks: tuple[Mapping[str, Any], ...] = ()
    refusal: bool = False
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    retracts: bool = False
    answer: Answer | None = None


_WORD = re.compile(r"\S+\s*|\s+")


def chunk_by_word(answer: Answer) -> Iterator[Chunk]:
    """A whole answer as if it had been streamed, a word at a time."""
    blocks = tuple(answer.extra.get("thinking_blocks", ()))
    if answer.reasoning or blocks:
        yield Chunk(reasoning=answer.reasoning or "", thinking_blocks=blocks)
    refusal = answer.refusal is not None and answer.refusal == answer.text
    for word in _WORD.findall(answer.text):
        yield Chunk(text=word, refusal=refusal)
    yield Chunk(answer=answer)


class Model(Protocol):
    """Answers prompts. One instance serves many runs at once; ``name`` is its name in the policy.

    A model whose answers state their own ``cost_usd`` may have an attribute ``max_cost_usd``, the most that one of them
    costs: without it, and without a price in the policy file, it cannot be called under a budget.
    """

    @property
    def name(self) -> str: ...

    async def answer(self, prompt: Prompt, request: Request) -> Sequence[Answer]:
        """``request.n`` answers (fewer where the provider gave fewer), at least one; raises ModelError."""
        ...

    async def close(self) -> None:
        """Closes connections; the model must not be used afterwards."""
        ...


class StreamingModel(Model, Protocol):
    """A Model that can also give its answer piece by piece. A model without ``stream`` is asked for the whole answer."""

    def stream(self, prompt: Prompt, request: Request) -> AsyncGenerator[Chunk]:
        """One answer (``request.n`` is not read) as it arrives, the last chunk with the whole of it.

        That answer equals what ``answer`` would have given. Raises ModelError, also for a stream that ends early: half an
        answer is never a success. ``request.timeout_s`` bounds the whole stream. Closing the generator, or cancelling the
        task that waits for it, closes the connection.
        """
        ...
