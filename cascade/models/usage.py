"""A provider's counts: the tokens of a request, and their cost where it states one.

A count that is not a plain number of tokens is unknown, never 0, and so is a usage whose parts exceed the whole: a price for
it would be invented. A budget then counts the upper estimate.
"""

import logging
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from judges import Usage

MAX_TOKENS = 10**9
"""The most tokens of one request; a larger count cannot be right."""
_MAX_USD = 1e6  # of one request
log = logging.getLogger("cascade.models")


# Where a server does not count its cache in prompt_tokens_details: DeepSeek, Moonshot, LiteLLM.
_CACHE_READS = ("prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens")
_CACHE_WRITES = ("cache_creation_input_tokens",)


_RESPONSE_NAMES = {
    "prompt_tokens": "input_tokens",
    "completion_tokens": "output_tokens",
    "prompt_tokens_details": "input_tokens_details",
    "completion_tokens_details": "output_tokens_details",
}


class _UnusableError(ValueError):
    """A count that cannot be used."""


def chat_usage(usage: Any, name: str) -> Usage | None:
    """OpenAI's usage.

    Some servers count reasoning apart from ``completion_tokens`` (xAI, Gemini): the tokens by which
    ``total_tokens`` exceeds its parts are output, which is billed.

    Args:
        usage: The ``usage`` of a response.
        name: The model's name in the policy, for the log.

    Returns:
        The usage; None where it is missing or cannot be used.
    """
    return _usable(usage, name, _chat_usage)


def message_usage(usage: Any, name: str) -> Usage | None:
    """Anthropic's usage, which counts cached tokens apart from ``input_tokens``; here they are part of it.

    Args:
        usage: The ``usage`` of a message.
        name: The model's name in the policy, for the log.

    Returns:
        The usage; None where it is missing or cannot be used.
    """
    return _usable(usage, name, _message_usage)


def stated_cost(usage: Any) -> float | None:
    """The provider's own ``usage.cost`` in USD (OpenRouter, LiteLLM); None where it gives none that can be one.

    Perplexity's is an object. Where OpenRouter used the caller's own key, ``cost`` is its fee; the model is billed apart.
    """
    if not isinstance(usage, Mapping):
        return None
    cost = usage.get("cost")
    cost = _usd(cost.get("total_cost") if isinstance(cost, Mapping) else cost)
    if cost is None or not usage.get("is_byok"):
        return cost
    details = usage.get("cost_details")
    upstream = _usd(details.get("upstream_inference_cost")) if isinstance(details, Mapping) else None
    return None if upstream is None else cost + upstream


def _usd(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MAX_USD:
        return None
    return float(value)


def _usable(usage: Any, name: str, read: Callable[[Mapping[str, Any]], Usage]) -> Usage | None:
    if not isinstance(usage, Mapping):
        return None
    try:
        return read(usage)
    except _UnusableError as error:
        _warn_once(name, str(error))
        return None


def _chat_usage(usage: Mapping[str, Any]) -> Usage:
    if "prompt_tokens" not in usage and "input_tokens" in usage:  # some servers count as the Responses API does
        usage = {**usage, **{ours: usage.get(theirs) for ours, theirs in _RESPONSE_NAMES.items()}}
    read, total = _needed(usage, "prompt_tokens"), _count(usage, "total_tokens")
    # Some servers leave out the part that follows from the others.
    follows = usage.get("completion_tokens") is None and total > read
    written = total - read if follows else _needed(usage, "completion_tokens")
    details = _details(usage, "prompt_tokens_details")
    cached = _count(details, "cached_tokens") or _first(usage, _CACHE_READS)
    cache_write = _count(details, "cache_write_tokens") or _count(details, "cache_creation_tokens")
    cache_write = cache_write or _first(usage, _CACHE_WRITES)
    if cached + cache_write > read:
        raise _UnusableError("more cached tokens than prompt_tokens")
    reasoning = _reasoning(usage.get("completion_tokens_details"), "reasoning_tokens") or _reasoning(
        usage, "reasoning_tokens"
    )
    if total > read + written:
        written = total - read
    elif reasoning > written:
        written += reasoning  # more than the whole, so that it is not part of it
    return _with_cache(usage, read, written, cached, cache_write, reasoning)


def _message_usage(usage: Mapping[str, Any]) -> Usage:
    read, written = _needed(usage, "input_tokens"), _needed(usage, "output_tokens")
    cached, cache_write = _count(usage, "cache_read_input_tokens"), _count(usage, "cache_creation_input_tokens")
    reasoning = _reasoning(usage.get("output_tokens_details"), "thinking_tokens")
    return _with_cache(usage, read + cached + cache_write, written, cached, cache_write, reasoning)


def _with_cache(usage: Mapping[str, Any], read: int, written: int, cached: int, cache_write: int, reasoning: int) -> Usage:
    hour_writes = _hour_writes(usage, cache_write)
    return Usage(
        read,
        written,
        cached_tokens=cached,
        cache_write_tokens=cache_write,
        cache_write_1h_tokens=hour_writes,
        reasoning_tokens=reasoning,
    )


def _needed(usage: Mapping[str, Any], name: str) -> int:
    if usage.get(name) is None:
        raise _UnusableError(f"no {name}")
    return _count(usage, name)


def _count(usage: Mapping[str, Any], name: str) -> int:
    value = usage.get(name)
    if value is None:
        return 0
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not 0 <= value <= MAX_TOKENS:
        raise _UnusableError(f"{name} is not a number of tokens")
    return value


def _first(usage: Mapping[str, Any], names: tuple[str, ...]) -> int:
    return next((count for name in names if (count := _count(usage, name))), 0)


def _hour_writes(usage: Mapping[str, Any], cache_write: int) -> int:
    """Of the tokens written to the cache, those that Anthropic keeps for an hour."""
    kinds = usage.get("cache_creation")
    count = kinds.get("ephemeral_1h_input_tokens") if isinstance(kinds, Mapping) else None
    return min(count, cache_write) if type(count) is int and count > 0 else 0


def _details(usage: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    details = usage.get(name)
    if details is None:
        return {}
    if not isinstance(details, Mapping):
        raise _UnusableError(f"{name} is not an object")
    return details


def _reasoning(details: Any, name: str) -> int:
    """Part of the output, so that its price does not depend on it."""
    value = details.get(name) if isinstance(details, Mapping) else None
    return value if type(value) is int and 0 < value <= MAX_TOKENS else 0


@lru_cache(maxsize=1024)
def _warn_once(name: str, why: str) -> None:
    log.warning("%s: its usage cannot be used (%s), so that its cost is unknown", name, why)
