"""The parts of a message in OpenAI's shape, as today's servers send them: text, and reasoning in fields of many names."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from judges.types import content_text

# DeepSeek, Qwen, vLLM, llama.cpp; OpenRouter, Groq, newer vLLM; Ollama.
_REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")


# Fields of an assistant's message in a history that hold its thoughts; the last are signed blocks in Anthropic's shape.
_HISTORY_FIELDS = ("reasoning_content", "reasoning")
SIGNED_FIELD = "thinking_blocks"
# Their interfaces refuse a message with a field that they do not know. Other servers (vLLM, SGLang, llama.cpp, DeepSeek,
# OpenRouter ...) take thoughts back, some need them between tool calls, and the rest ignore them.
_STRICT_HOSTS = ("openai.com", "azure.com", "mistral.ai", "groq.com", "cerebras.ai", "googleapis.com", "x.ai")


class Translated(dict[str, Any]):
    """A message, a part of one, or a tool in OpenAI's shape that a client sent in Anthropic's.

    A copy of it is an ordinary dict: whoever changes the translation parts with the original.

    Args:
        value: The translation.
        original: What the client sent; None: part of the original of the message before this one.
    """

    __slots__ = ("original",)

    def __init__(self, value: Mapping[str, Any], original: Any) -> None:
        super().__init__(value)
        self.original = original


DIALECTS = ("openai", "anthropic")
"""Keys of a request's options that hold further options for the models of one provider only."""


def options_for(options: Mapping[str, Any], dialect: str) -> Mapping[str, Any]:
    """The options that models of one provider receive: those for all and those for it; themselves where none is special."""
    if not any(name in options for name in DIALECTS):
        return options
    general = {name: value for name, value in options.items() if name not in DIALECTS}
    return {**general, **options.get(dialect, {})}


def takes_reasoning(base_url: str | None) -> bool:
    """Whether the OpenAI-compatible server at ``base_url`` (None: OpenAI) takes reasoning in the messages of a history."""
    if base_url is None:
        return False
    host = (urlsplit(base_url).hostname or "").lower()
    return not any(host == strict or host.endswith(f".{strict}") for strict in _STRICT_HOSTS)


def without_reasoning(messages: Sequence[Mapping[str, Any]], *, keep_text: bool) -> Sequence[Mapping[str, Any]]:
    """The messages without the thoughts that a server does not take; themselves where there are none.

    Args:
        messages: A history in OpenAI's shape.
        keep_text: Whether the server takes reasoning as text. Signed blocks never stay.
    """
    dropped = {SIGNED_FIELD} if keep_text else {SIGNED_FIELD, *_HISTORY_FIELDS}
    if all(dropped.isdisjoint(message) for message in messages):
        return messages
    return tuple([{name: value for name, value in m.items() if name not in dropped} for m in messages])


def text_in(content: Any) -> str:
    """The text of a message's ``content``: a string, or the text parts of a list. Raises TypeError for anything else."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise TypeError("content is not text")
    return content_text(content)


def reasoning_in(message: Mapping[str, Any]) -> str:
    """The reasoning that a message, or a delta of one, holds beside its text; empty where there is none.

    It is in a field of its own, or in parts of ``content`` of the type ``thinking`` (Mistral), or in OpenRouter's
    ``reasoning_details``. The same reasoning in several fields counts once.
    """
    for name in _REASONING_FIELDS:
        value = message.get(name)
        if value:
            return _text(value)
    content = message.get("content")
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, Mapping) and part.get("type") == "thinking"]
        if parts:
            return "".join(_text(part.get("thinking")) for part in parts)
    details = message.get("reasoning_details")
    return _text(details) if details else ""


def signed_thoughts(content: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The thoughts that Anthropic takes back, signed or redacted, in their order; other fields are left out."""
    blocks = []
    for block in content:
        if block["type"] == "thinking" and block.get("signature"):
            blocks.append({"type": "thinking", "thinking": block["thinking"], "signature": block["signature"]})
        elif block["type"] == "redacted_thinking":
            blocks.append({"type": "redacted_thinking", "data": block["data"]})
    return blocks


def _text(value: Any) -> str:
    """The text of a thought: a string, or an object or a list of objects with ``text``, ``summary`` or ``content``."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(map(_text, value))
    if isinstance(value, Mapping):
        return next((_text(value[name]) for name in ("text", "summary", "content", "thinking") if value.get(name)), "")
    return ""
