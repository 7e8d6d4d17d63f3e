"""The types that all packages share: Prompt, Answer, Usage, Verdict. Frozen, standard library only."""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, NamedTuple

from .quick_init import quick_init

Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request to a model: chat messages in OpenAI's shape, and what shapes the answer.

    ``schema`` is a JSON Schema (a mapping) or a pydantic model class; ``tools`` are in OpenAI's function shape. Images and
    other content parts inside a message pass through untouched. ``id`` names the example when a recording is replayed.
    ``tool_choice`` says which tools may or must be called, in OpenAI's shape; a request's own option goes before it.
    """

    messages: tuple[Message, ...]
    schema: Any = None
    tools: tuple[Mapping[str, Any], ...] = ()
    id: str | None = None
    tool_choice: Any = None

    @classmethod
    def of(
        cls,
        prompt: "str | Sequence[Message] | Prompt",
        *,
        system: str | None = None,
        schema: Any = None,
        tools: Sequence[Mapping[str, Any]] = (),
        id: str | None = None,
        tool_choice: Any = None,
    ) -> "Prompt":
        """A Prompt from text, from messages, or from a Prompt (returned unchanged). Raises TypeError or ValueError."""
        if isinstance(prompt, Prompt):
            if system is not None or schema is not None or tools or id is not None or tool_choice is not None:
                raise TypeError(
                    "a Prompt holds its own system message, schema, tools, tool_choice and id; set them in Prompt.of(...)"
                )
            return prompt
        if isinstance(prompt, str):
            messages: tuple[Message, ...] = ({"role": "user", "content": prompt},)
        else:
            messages = tuple(prompt)
            for i, message in enumerate(messages):
                if not isinstance(message, Mapping) or "role" not in message:
                    raise TypeError(f"messages[{i}] must be a mapping with a 'role', got {type(message).__name__}")
        if not messages:
            raise ValueError("a prompt needs at least one message")
        if system is not None:
            messages = ({"role": "system", "content": system}, *messages)
        return cls(messages, schema, tuple(tools), id, tool_choice)

    @property
    def text(self) -> str:
        """The text of the last user message; content parts that are not text are left out."""
        for message in reversed(self.messages):
            if message.get("role") == "user":
                return content_text(message.get("content"))
        return ""


def content_text(content: Any) -> str:
    """The text of a message's content: a string, or the text parts of a list joined by newlines."""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        return "\n".join(str(p.get("text", "")) for p in content if isinstance(p, Mapping) and p.get("type") == "text")
    return ""


@quick_init
@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one or more calls, normalised over providers.

    ``input_tokens`` counts every input token, including those read from (``cached_tokens``) and written to
    (``cache_write_tokens``) the provider's cache; ``cache_write_1h_tokens`` are those of the latter that are kept for an
    hour, which cost more. ``output_tokens`` includes ``reasoning_tokens``.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    _: KW_ONLY
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            cache_write_1h_tokens=self.cache_write_1h_tokens + other.cache_write_1h_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
        )


class TokenLogprob(NamedTuple):
    """One token of an answer with its natural log-probability (<= 0)."""

    token: str
    logprob: float


@dataclass(frozen=True)  # without slots, so that a copy is made in one step (with_parsed)
class Answer:
    """One model's answer.

    ``finish_reason`` is ``"stop"``, ``"length"``, ``"tool_calls"``, ``"content_filter"``, or the provider's own word where
    it is none that ``judges.reading`` knows.
    ``reasoning`` is what the model thought before it answered, which is not part of ``text``; ``refusal`` what the provider
    marked as a refusal (``text`` holds it, too, where there is no other text). ``logprobs`` are the answer's tokens (None
    where the provider gives none); ``mean_logprob`` stands in for them where only the mean is known. ``first_token_top``
    holds the first token's alternatives with their log-probabilities. ``cost_usd`` and ``latency_s`` are set by a model that
    knows them itself (a recording); otherwise the engine prices the
    usage and measures the time. ``verdicts`` are judges' scores that were recorded with the answer, None where a judge could
    not tell. ``extra`` carries what a recording adds (its ``quality``, the cost of recorded verdicts),
    and as ``thinking_blocks`` the signed thoughts that Anthropic takes back in a history.
    """

    text: str
    _: KW_ONLY
    parsed: Any = None
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    finish_reason: str | None = None
    logprobs: tuple[TokenLogprob, ...] | None = None
    mean_logprob: float | None = None
    first_token_top: Mapping[str, float] | None = None
    usage: Usage | None = None
    model: str = ""
    reasoning: str | None = None
    refusal: str | None = None
    cost_usd: float | None = None
    latency_s: float | None = None
    verdicts: Mapping[str, float | None] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def with_parsed(self, parsed: Any) -> "Answer":
        """The same answer with its JSON value: a tenth of the time of ``dataclasses.replace``."""
        answer = object.__new__(Answer)
        answer.__dict__.update(self.__dict__, parsed=parsed)
        return answer


@quick_init
@dataclass(frozen=True, slots=True)
class Verdict:
    """One judge's verdict on one answer.

    ``score`` lies in [0, 1] or is None: "cannot tell", which is never read as 0. ``veto`` means the answer must not be
    accepted whatever the scores say. ``answer`` replaces the judged answer (filled ``parsed``, or the representative of
    the largest cluster). ``details`` holds the judge's further figures. ``failed``: the judge raised an error, in
    whose place the engine gives this verdict. The engine counts what the judge's own calls used and cost.
    """

    judge: str
    score: float | None = None
    _: KW_ONLY
    veto: bool = False
    reason: str = ""
    answer: Answer | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    failed: bool = False

    def __post_init__(self) -> None:
        if self.score is not None and not 0.0 <= self.score <= 1.0:
            raise ValueError(f"judge {self.judge!r} gave the score {self.score!r}; a score lies in [0, 1] or is None")
