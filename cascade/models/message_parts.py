"""The parts of a message in OpenAI's shape, as today's servers send them: text, and reasoning in fields of many names."""

from collections.abc import Mapping
from typing import Any

from judges.types import content_text

# DeepSeek, Qwen, vLLM, llama.cpp; OpenRouter, Groq, newer vLLM; Ollama.
_REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")


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


def _text(value: Any) -> str:
    """The text of a thought: a string, or an object or a list of objects with ``text``, ``summary`` or ``content``."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(map(_text, value))
    if isinstance(value, Mapping):
        return next((_text(value[name]) for name in ("text", "summary", "content", "thinking") if value.get(name)), "")
    return ""
