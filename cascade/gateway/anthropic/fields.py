"""Fields that several of Anthropic's objects have, and which of its objects the gateway refuses."""

from collections.abc import Collection, Mapping
from typing import Any

from cascade.gateway.errors import ApiError, bad_request
from cascade.gateway.validation import check_cache_control, not_deep, object_of, shorten

_PASSED_ON = ("citations", "caller", "transformations", "context")


def check_block(
    block: Mapping[str, Any], where: str, fields: Collection[str], required: Collection[str], uses: set[str]
) -> None:
    """Checks that a block has known fields only, and notes those that only Anthropic's models take.

    Args:
        block: The block.
        where: Its name for errors.
        fields: The fields of its type, except those that only Anthropic's models take.
        required: The fields that it must have.
        uses: Receives the names of fields that not every provider supports.

    Raises:
        ApiError: A field is unknown or missing.
    """
    if len(block) == len(required) + 1 and block.keys() == {"type", *required}:
        return
    object_of(block, where, (*fields, "type", "cache_control", *_PASSED_ON), required)
    if block.get("cache_control") is not None:
        check_cache_control(block["cache_control"], f"{where}.cache_control")
        uses.add("cache_control")
    for name in _PASSED_ON:
        if name not in fields and block.get(name) is not None:
            not_deep(block[name], f"{where}.{name}")
            uses.add(f"messages.content.{name}")


def not_here(kind: str, where: str) -> ApiError:
    """The error for what would run at Anthropic, in the middle of an answer that is still to be judged."""
    message = f"{shorten(kind)!r} runs at Anthropic; the gateway supports the tools that the client runs, not the provider's"
    return bad_request(message, f"{where}.type", "unsupported")
