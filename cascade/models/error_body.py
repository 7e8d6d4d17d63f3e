"""The message in an error's body, whichever shape a server gives it; what it repeats of the request is removed."""

from collections.abc import Iterator, Mapping
from typing import Any

_DEPTH = 5
_MOST = 3  # messages of a list that are quoted
_NAMES = ("message", "msg", "detail", "error", "errors", "error_message", "description", "title", "reason")


def error_message(body: Any) -> str:
    """The server's words: OpenAI's ``error.message``, FastAPI's list of ``detail``, a list, a text, or one in another.

    A router (OpenRouter) says "Provider returned error", and why beside it: then both.
    """
    messages = list(dict.fromkeys(_messages(body, _DEPTH)))
    return "; ".join(messages[:_MOST])


def error_code(body: Any) -> Any:
    """The first code that an error's body gives, a word or a number; None where it gives none."""
    for error in _errors(body, _DEPTH):
        code = error.get("code")
        if isinstance(code, str | int):
            return code
    return None


def _errors(body: Any, depth: int) -> Iterator[Mapping[str, Any]]:
    """The objects that may be the error, from the inside out."""
    if depth and isinstance(body, list):
        for inner in body[:_MOST]:
            yield from _errors(inner, depth - 1)
    if depth and isinstance(body, Mapping):
        for name in ("error", "errors"):
            if name in body:
                yield from _errors(body[name], depth - 1)
        yield body


def _messages(body: Any, depth: int) -> Iterator[str]:
    if isinstance(body, str):
        if body.strip():
            yield body.strip()
    elif depth and isinstance(body, list):
        for inner in body[:_MOST]:
            yield from _messages(inner, depth - 1)
    elif depth and isinstance(body, Mapping):
        name = next((name for name in _NAMES if body.get(name)), None)
        if name is not None:
            place = ".".join(map(str, loc)) if name == "msg" and isinstance(loc := body.get("loc"), list) else ""
            for message in _messages(body[name], depth - 1):
                yield f"{place}: {message}" if place else message
        metadata = body.get("metadata")
        if isinstance(metadata, Mapping) and metadata.get("raw"):
            yield from _messages(metadata["raw"], depth - 1)
