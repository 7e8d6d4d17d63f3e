"""Upper estimates of what a request costs, which budgets reserve before it is sent."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cascade.util.providers import DEFAULT_MAX_TOKENS
from judges import Prompt, Usage

from .prices import ModelSettings, Pricer
from .token_bound import IMAGE_TOKENS, options_tokens, prompt_tokens

MAX_OUTPUT = 4096
"""Tokens of an answer where a budget is set and nothing else bounds it; the request says so, so that the bound holds."""
_OUTPUT_FIELDS = ("max_tokens", "max_completion_tokens")
_CHOICE_FIELDS = ("n", "best_of")
_NO_OPTIONS: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds of a model's requests by its settings.

    Attributes:
        output: The most tokens of one answer; None: the settings set no limit.
        insists: Whether ``output`` may win over what a request says.
        choices: The least number of answers that are paid.
        image_tokens: The most tokens of an image.
        option_tokens: The most tokens of the settings' ``options``, which every request has.
        caches: Whether a request says how long the provider's cache keeps its input, as Anthropic's do.
    """

    output: int | None = None
    insists: bool = False
    choices: int = 1
    image_tokens: int = IMAGE_TOKENS
    option_tokens: int = 0
    caches: bool = False

    @classmethod
    def of(cls, spec: ModelSettings | None) -> "Bounds":
        """Those of a policy file, where ``options`` may say what has a key of its own."""
        if spec is None:
            return cls()
        optional = _most(spec.options, _OUTPUT_FIELDS)
        output = max(spec.max_tokens or 0, optional) or DEFAULT_MAX_TOKENS.get(spec.provider)
        choices = max(1, _most(spec.options, _CHOICE_FIELDS))
        caches = spec.provider == "anthropic"
        return cls(output, optional > 0, choices, spec.image_tokens, options_tokens(spec.options), caches)

    def usage(self, prompt: Prompt, *, n: int, max_tokens: int | None, options: Mapping[str, Any] = _NO_OPTIONS) -> Usage:
        """The most tokens that a request for ``n`` answers of at most ``max_tokens`` may use."""
        read = prompt_tokens(prompt, self.image_tokens) + self.option_tokens
        answer, choices = max_tokens or self.output or MAX_OUTPUT, max(n, self.choices)
        if self.insists:
            answer = max(answer, self.output or 0)
        if options:
            read += options_tokens(options)
            answer = max(answer, _most(options, _OUTPUT_FIELDS))
            choices = max(choices, _most(options, _CHOICE_FIELDS))
        if self.caches and writes_for_an_hour(prompt, options):
            return Usage(read, answer * choices, cache_write_1h_tokens=read)
        return Usage(read, answer * choices)


def writes_for_an_hour(prompt: Prompt, options: Mapping[str, Any]) -> bool:
    """Whether a part of a request is marked with ``cache_control`` to be kept for an hour."""
    todo: list[Any] = [prompt.messages, prompt.tools, options]
    while todo:
        value = todo.pop()
        if isinstance(value, Mapping):
            mark = value.get("cache_control")
            if isinstance(mark, Mapping) and mark.get("ttl") == "1h":
                return True
            todo += [inner for inner in value.values() if not isinstance(inner, str)]
            todo.append(getattr(value, "original", None))  # what a client sent in Anthropic's shape
        elif isinstance(value, list | tuple):
            todo += [inner for inner in value if not isinstance(inner, str)]
    return False


def sets_length(options: Mapping[str, Any]) -> bool:
    """Whether a request's further parameters limit its output in place of ``max_tokens``."""
    return bool(options) and any(options.get(name) is not None for name in _OUTPUT_FIELDS)


def _most(options: Mapping[str, Any], names: tuple[str, ...]) -> int:
    return max(value if type(value := options.get(name)) is int else 0 for name in names)


def estimate(
    pricer: Pricer,
    bounds: Bounds,
    prompt: Prompt,
    *,
    n: int,
    max_tokens: int | None,
    options: Mapping[str, Any] = _NO_OPTIONS,
) -> float | None:
    """An upper estimate in USD of a request for ``n`` answers; None where the price is unknown.

    Args:
        pricer: The model's price.
        bounds: What bounds the model's requests by its settings.
        prompt: What is sent.
        n: The number of answers that the request asks for.
        max_tokens: The most tokens of one answer that the request allows; None where it sets no limit.
        options: The request's further parameters.
    """
    return usage_cost(pricer, bounds.usage(prompt, n=n, max_tokens=max_tokens, options=options))


def usage_cost(pricer: Pricer, most: Usage) -> float | None:
    """The most that a usage can cost in USD, whether the provider caches its input or not; None: the price is unknown."""
    usd = pricer.cost(most)
    if usd is None or pricer.writes_cost_no_more:
        return usd
    read = most.input_tokens
    hour = read if most.cache_write_1h_tokens else 0
    cached = pricer.cost(Usage(read, most.output_tokens, cache_write_tokens=read, cache_write_1h_tokens=hour))
    return None if cached is None else max(usd, cached)
