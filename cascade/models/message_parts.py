"""The parts of a message in OpenAI's shape, as today's servers send them: text, and reasoning in fields of many names."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from judges.reading.tool_calls import sent_calls
from judges.types import content_text

# DeepSeek, Qwen, vLLM, llama.cpp; OpenRouter, Groq, newer vLLM; Ollama.
_REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")


# Fields of an assistant's message in a history that hold its thoughts; the last are signed blocks in Anthropic's shape.
_HISTORY_FIELDS = ("reasoning_content", "reasoning")
SIGNED_FIELD = "thinking_blocks"
# Their interfaces refuse a message with a field that they do not know. Other servers (vLLM, SGLang, llama.cpp, DeepSeek,
# OpenRouter ...) take thoughts back, some need them between tool calls, and the rest ignore them.
_STRICT_HOSTS = ("openai.com", "azure.com", "mistral.ai", "groq.com", "cerebras.ai", "googleapis.com", "x.ai")
_GEMINI_HOST = "googleapis.com"  # wants the thought signatures in a call's extra_content back
# Those that know the role 'developer' and max_completion_tokens; to others it is 'system' and max_tokens.
_DEVELOPER_HOSTS = ("openai.com", "azure.com")
_CALL_FIELDS = frozenset(("id", "type", "function", "custom"))
_FUNCTION_FIELDS = frozenset(("name", "arguments"))
_OF_CLIENTS = frozenset(("index", "parsed_arguments"))  # what SDKs add to a call; no server wants it back


class _Server(NamedTuple):
    """What a server accepts: message fields that it rejects, the role 'developer', foreign fields of calls."""

    dropped: frozenset[str]
    developer: bool
    foreign: bool


@lru_cache(maxsize=256)
def _server(base_url: str | None) -> _Server:
    signed = frozenset((SIGNED_FIELD,))
    return _Server(
        dropped=signed if takes_reasoning(base_url) else signed.union(_HISTORY_FIELDS),
        developer=base_url is None or _is_at(base_url, _DEVELOPER_HOSTS),
        foreign=takes_foreign_fields(base_url),
    )


class Translated(dict[str, Any]):
    """A message, a part of one, or a tool in OpenAI's shape that a client sent in Anthropic's.

    A copy of it is an ordinary dict: whoever changes the translation parts with the original.

    Args:
        value: The translation.
        original: What the client sent; None: nothing that can stand for the translation; ``PART_OF_PREVIOUS``: it is part
            of the original of the message before this one.
    """

    __slots__ = ("original",)

    def __init__(self, value: Mapping[str, Any] | Iterable[tuple[str, Any]], original: Any = None) -> None:
        super().__init__(value)
        self.original = original


PART_OF_PREVIOUS = ()


DIALECTS = ("openai", "anthropic")
"""Keys of a request's options that hold further options for the models of one provider only."""


def options_for(options: Mapping[str, Any], dialect: str) -> Mapping[str, Any]:
    """The options that models of one provider receive: those for all and those for it; themselves where none is special."""
    if not any(name in options for name in DIALECTS):
        return options
    general = {name: value for name, value in options.items() if name not in DIALECTS}
    return {**general, **options.get(dialect, {})}


def default_max_tokens_field(base_url: str | None) -> str:
    """The field for the most tokens of an answer: OpenAI renamed it, and newer models there refuse the old name.

    Other servers know the old one, and some of them that only.
    """
    return "max_completion_tokens" if base_url is None or _is_at(base_url, _DEVELOPER_HOSTS) else "max_tokens"


def counts_logprobs(base_url: str | None) -> bool:
    """Whether the server takes the number of log-probabilities as ``logprobs``, as Together does."""
    return base_url is not None and _is_at(base_url, ("together.xyz", "together.ai"))


def takes_reasoning(base_url: str | None) -> bool:
    """Whether the OpenAI-compatible server at ``base_url`` (None: OpenAI) takes reasoning in the messages of a history."""
    return base_url is not None and not _is_at(base_url, _STRICT_HOSTS)


def takes_foreign_fields(base_url: str | None) -> bool:
    """Whether the server takes fields of a tool call that OpenAI does not know, such as ``extra_content``."""
    return takes_reasoning(base_url) or (base_url is not None and _is_at(base_url, (_GEMINI_HOST,)))


def _is_at(base_url: str, hosts: Sequence[str]) -> bool:
    host = (urlsplit(base_url).hostname or "").lower()
    return any(host == name or host.endswith(f".{name}") for name in hosts)


def outgoing(messages: Sequence[Mapping[str, Any]], base_url: str | None) -> Sequence[Mapping[str, Any]]:
    """The messages as the OpenAI-compatible server at ``base_url`` takes them; themselves where nothing changes.

    Thoughts and foreign fields of tool calls are left out where they are refused, the role ``developer`` is ``system``
    where it is unknown, an empty list of calls is left out, and calls whose arguments are not a JSON object get one.
    """
    server = _server(base_url)
    dropped = server.dropped
    for message in messages:
        if "tool_calls" in message or message.get("role") == "developer" or not dropped.isdisjoint(message):
            return _changed(messages, server)
    return messages


def _changed(messages: Sequence[Mapping[str, Any]], server: _Server) -> Sequence[Mapping[str, Any]]:
    result: list[Mapping[str, Any]] = []
    for message in messages:
        clean = message
        if not server.dropped.isdisjoint(message):
            clean = {name: value for name, value in message.items() if name not in server.dropped}
        if "tool_calls" in clean:
            clean = _with_calls(clean, server)
        if clean.get("role") == "developer" and not server.developer:
            clean = {**clean, "role": "system"}
            if result and result[-1].get("role") == "system" and _both_text(result[-1], clean):
                # One system message, since many chat templates refuse a second one.
                clean = _joined(result.pop(), clean)
        result.append(clean)
    return tuple(result)


def _both_text(one: Mapping[str, Any], two: Mapping[str, Any]) -> bool:
    return isinstance(one.get("content"), str) and isinstance(two.get("content"), str)


def _joined(one: Mapping[str, Any], two: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**one, "content": f"{one['content']}\n\n{two['content']}"}


def _with_calls(message: Mapping[str, Any], server: _Server) -> Mapping[str, Any]:
    calls = message["tool_calls"]
    if not calls:
        return {name: value for name, value in message.items() if name != "tool_calls"}
    sent = sent_calls([call if isinstance(call, Mapping) else {} for call in calls])
    cleaned = [_call(call, foreign=server.foreign) for call in sent]
    return message if all(a is b for a, b in zip(calls, cleaned, strict=True)) else {**message, "tool_calls": cleaned}


def _call(call: Mapping[str, Any], *, foreign: bool) -> Mapping[str, Any]:
    function = call.get("function")
    outer = _CALL_FIELDS.issuperset(call)
    if outer and (not isinstance(function, Mapping) or _FUNCTION_FIELDS.issuperset(function)):
        return call
    clean = _only(call, _CALL_FIELDS, foreign=foreign)
    if isinstance(function, Mapping):
        clean["function"] = _only(function, _FUNCTION_FIELDS, foreign=foreign)
    return clean


def _only(fields: Mapping[str, Any], known_fields: frozenset[str], *, foreign: bool) -> dict[str, Any]:
    return {name: v for name, v in fields.items() if name in known_fields or (foreign and name not in _OF_CLIENTS)}


def text_in(content: Any) -> str:
    """The text of a message's ``content``: a string, or the text parts of a list. Raises TypeError for anything else."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise TypeError("content is not text")
    return content_text(content)


def calls_in(message: Mapping[str, Any]) -> Any:
    """The tool calls of a message, or of a delta of one, as the server sent them; the obsolete ``function_call`` is one."""
    calls = message.get("tool_calls")
    if calls or not isinstance(function := message.get("function_call"), Mapping):
        return calls
    return [{"type": "function", "function": function}]


def reasoning_in(message: Mapping[str, Any]) -> str:
    """The reasoning that a message, or a delta of one, holds in fields other than its text; empty where there is none.

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
