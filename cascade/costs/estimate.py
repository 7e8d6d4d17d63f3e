"""What a request may cost at most, before it is made: what a budget holds back for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cascade.util.providers import DEFAULT_MAX_TOKENS
from judges import Prompt, Usage

from .prices import ModelSettings, Pricer

MAX_OUTPUT = 4096
"""Tokens of an answer where a budget is set and nothing else bounds it; the request says so, so that the bound holds."""
IMAGE_TOKENS = 5000
"""More than an image costs at most models' highest detail; ``image_tokens`` of a model replaces it."""
_STRUCTURE = 600  # tokens that providers put before tools or a schema, about twice what they say
_OUTPUT_FIELDS = ("max_tokens", "max_completion_tokens")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What bounds a model's requests by its settings, in tokens.

    ``output`` is the most of one answer (None: nothing says), ``insists`` that it may win over what a request says;
    ``choices`` the least number of answers that are paid.
    """

    output: int | None = None
    insists: bool = False
    choices: int = 1
    image_tokens: int = IMAGE_TOKENS

    @classmethod
    def of(cls, spec: ModelSettings | None) -> "Bounds":
        """Those of a policy file, where ``options`` may say what has a key of its own."""
        if spec is None:
            return cls()
        optional = max(_number(spec, field) for field in _OUTPUT_FIELDS)
        output = max(spec.max_tokens or 0, optional) or DEFAULT_MAX_TOKENS.get(spec.provider)
        return cls(output, optional > 0, max(1, _number(spec, "n")), spec.image_tokens)

    def usage(self, prompt: Prompt, *, n: int, max_tokens: int | None) -> Usage:
        """The most tokens that a request for ``n`` answers of at most ``max_tokens`` may use."""
        answer = max_tokens or self.output or MAX_OUTPUT
        if self.insists:
            answer = max(answer, self.output or 0)
        return Usage(prompt_tokens(prompt, self.image_tokens), answer * max(n, self.choices))


def _number(spec: ModelSettings, option: str) -> int:
    value = spec.options.get(option)
    return value if type(value) is int else 0


def estimate(pricer: Pricer, bounds: Bounds, prompt: Prompt, *, n: int, max_tokens: int | None) -> float | None:
    """An upper estimate in USD of a request for ``n`` answers; None where the price is unknown.

    Args:
        pricer: The model's price.
        bounds: What bounds the model's requests by its settings.
        prompt: What is sent.
        n: The number of answers that the request asks for.
        max_tokens: The most tokens of one answer that the request allows; None where it sets no limit.
    """
    most = bounds.usage(prompt, n=n, max_tokens=max_tokens)
    usd = pricer.cost(most)
    if usd is None or pricer.writes_cost_no_more:
        return usd
    read = most.input_tokens
    cached = pricer.cost(Usage(read, most.output_tokens, cache_write_tokens=read))
    return None if cached is None else max(usd, cached)


def prompt_tokens(prompt: Prompt, image_tokens: int = IMAGE_TOKENS) -> int:
    """An upper estimate of a prompt's tokens: one for every two bytes of text, of tool calls, tools and schema.

    English text has one for about four bytes. Parts that are neither text nor image count every byte.
    """
    total = 16
    for message in prompt.messages:
        content = message.get("content")
        if isinstance(content, str):
            total += 8 + (len(content) if content.isascii() else _bytes(content)) // 2
        else:
            total += 8 + sum(_part(part, image_tokens) for part in content or ())
        if message.get("tool_calls"):
            total += _bytes(repr(message["tool_calls"])) // 2
    if prompt.tools:
        total += _STRUCTURE + _bytes(repr(prompt.tools)) // 2
    if prompt.schema is not None:
        total += _STRUCTURE + _schema_bytes(prompt.schema) // 2
    return total


def _part(part: Any, image_tokens: int) -> int:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text":
        return _bytes(str(part.get("text", ""))) // 2
    return image_tokens if kind in ("image_url", "image") else _bytes(repr(part))


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def _schema_bytes(schema: Any) -> int:
    return _bytes(repr(schema)) if isinstance(schema, Mapping) else _model_bytes(schema)


@lru_cache(maxsize=256)
def _model_bytes(schema: Any) -> int:
    """Of a pydantic model class, whose schema takes far longer to make than a run does otherwise."""
    return _bytes(repr(schema.model_json_schema()))
