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
        """Builds a Prompt.

        Args:
            prompt: Text, chat messages in OpenAI's shape, or a Prompt, which is returned unchanged.
            system: A system message, placed before the messages.
            schema: The shape of the answer: a JSON Schema or a pydantic model class.
            tools: Tools that the model may call, in OpenAI's function shape.
            id: The example's id, when a recording is replayed.
            tool_choice: Which tools may or must be called, in OpenAI's shape.

        Raises:
            TypeError: A message is not a mapping with a role, or ``prompt`` is a Prompt and another argument is given.
            ValueError: There is no message.
        """
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

    Attributes:
        input_tokens: Every input token, including those read from and written to the provider's cache.
        output_tokens: Every output token, including reasoning.
        cached_tokens: Input tokens that were read from the cache.
        cache_write_tokens: Input tokens that were written to the cache.
        cache_write_1h_tokens: Those of ``cache_write_tokens`` that are kept for an hour, which cost more.
        reasoning_tokens: Output tokens that are reasoning.
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
    """One token of an answer.

    Attributes:
        token: Its text.
        logprob: Its natural log-probability, at most 0.
    """

    token: str
    logprob: float


@dataclass(frozen=True)  # without slots, so that a copy is made in one step (with_parsed)
class Answer:
    """One model's answer.

    Attributes:
        text: The answer's text, without reasoning.
        parsed: The text as a JSON value or an instance of the prompt's schema; None where no judge parsed it.
        tool_calls: The calls of tools, in OpenAI's shape.
        finish_reason: "stop", "length", "tool_calls", "content_filter", or the provider's own word for anything else.
        logprobs: The answer's tokens; None where the provider returns none.
        mean_logprob: The mean log-probability, in place of ``logprobs`` where only the mean is known.
        first_token_top: The first token's alternatives with their log-probabilities.
        usage: The tokens; None where unknown.
        model: The model as the provider names it.
        reasoning: The model's reasoning before its answer; None where there is none.
        refusal: What the provider marked as a refusal; ``text`` holds it too where there is no other text.
        cost_usd: Set by a model that knows its own cost (a recording); otherwise the engine prices ``usage``.
        latency_s: Set by a model that knows its own latency, in seconds; otherwise the engine measures it.
        verdicts: Judges' scores that were recorded with the answer; None where a judge could not tell.
        extra: What a recording adds (``quality``, the cost of recorded verdicts); ``thinking_blocks`` are the signed
            thoughts that Anthropic expects back in a conversation's history.
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
        """Returns a copy with ``parsed`` set, ten times as fast as ``dataclasses.replace``."""
        answer = object.__new__(Answer)
        answer.__dict__.update(self.__dict__, parsed=parsed)
        return answer


@quick_init
@dataclass(frozen=True, slots=True)
class Verdict:
    """One judge's verdict on one answer.

    The engine counts the tokens and the cost of the judge's own calls.

    Attributes:
        judge: The judge's name.
        score: In [0, 1]; None is "cannot tell", which is never read as 0.
        veto: Whether the answer must not be accepted, whatever the scores are.
        reason: Why, for people.
        answer: Replaces the judged answer: with ``parsed`` filled in, or by the representative of the largest cluster.
        details: The judge's further figures.
        failed: Whether the judge raised an error; the engine then makes this verdict.

    Raises:
        ValueError: ``score`` is not in [0, 1].
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
