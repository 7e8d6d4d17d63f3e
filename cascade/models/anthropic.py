"""Anthropic's Messages, by the real SDK. It gives no log-probabilities and one answer a request."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from judges import Answer, Prompt, Usage
from judges.reading import read_finish_reason, read_tool_calls, separate_reasoning
from judges.reading.tool_calls import arguments_object, arguments_text
from judges.types import content_text

from .http import load, malformed, mapping, post, schema_of, with_schema_text
from .message_parts import PART_OF_PREVIOUS, Translated, options_for, signed_thoughts
from .protocol import Request
from .sdk_model import SdkModel
from .sse import Reader
from .stream_assembly import MessageReader
from .usage import message_usage, stated_cost

_NO_ID_CHARS = re.compile(r"[^a-zA-Z0-9_-]")


@dataclass(kw_only=True, eq=False, repr=False)
class AnthropicModel(SdkModel):
    """Implements Model and StreamingModel; see SdkModel for the settings that both SDKs share.

    Messages, images and tools in OpenAI's shape are translated; a schema is asked for natively.

    Args:
        max_tokens: The most tokens of an answer; Anthropic requires a number.
    """

    sdk: ClassVar[str] = "anthropic"
    path: ClassVar[str] = "/v1/messages"
    max_tokens: int = 1024

    def _reader(self, prompt: Prompt) -> Reader:
        return MessageReader(self.name, self._answer, self._usage, self._split())

    def _new_client(self, sdk: Any, base_url: str | None, basic: str | None, settings: dict[str, Any]) -> Any:
        headers, api_key = self.headers, self.api_key
        if base_url is not None:
            api_key = api_key or "none"  # set, so that the SDK does not look for the user's own
            if basic is not None:
                headers = {"Authorization": basic, "X-Api-Key": api_key, **headers}
        address = base_url or "https://api.anthropic.com"
        return sdk.AsyncAnthropic(api_key=api_key, base_url=address, default_headers=headers, **settings)

    def _stream_body(self, prompt: Prompt, request: Request) -> dict[str, Any]:
        return {**self.body(prompt, request), "stream": True}

    def body(self, prompt: Prompt, request: Request) -> dict[str, Any]:
        """See SdkModel."""
        schema = schema_of(prompt) if self.structured != "off" else None
        messages = prompt.messages
        if schema is not None and self.structured == "json_object":
            messages = with_schema_text(messages, schema)
        system = _system(messages)
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": request.max_tokens or self.max_tokens,
            "messages": to_messages(messages),
            **self.options,
            **_native(request.options),
        }
        body.pop(BETAS, None)
        if system:
            body["system"] = system
        temperature = self.temperature if request.temperature is None else request.temperature
        if temperature is not None:
            body["temperature"] = min(temperature, 1.0)  # Anthropic's scale ends at 1
        if "thinking" in body:
            _fit_thinking(body, fixed=request.temperature is None or request.sample)
        if prompt.tools:
            body["tools"] = [_tool(t) for t in prompt.tools]
            if prompt.tool_choice is not None and "tool_choice" not in body:
                body.update(_native({"tool_choice": prompt.tool_choice}))
        if schema is not None and self.structured == "json_schema":
            # Anthropic refuses open objects and some keywords; its SDK closes the objects and describes the keywords.
            format = {"type": "json_schema", "schema": self._sdk().transform_schema(schema)}
            body["output_config"] = {**body.get("output_config", {}), "format": format}
        return self._adaptation.apply(body)

    def _headers(self, request: Request) -> Mapping[str, Any]:
        headers: dict[str, Any] = {}
        if self.api_key is None and any(name.lower() == "authorization" for name in self.headers):
            headers["X-Api-Key"] = self._sdk().Omit()  # the key is a bearer token, as at Bedrock
        betas = options_for(request.options, "anthropic").get(BETAS) if request.options else None
        if not betas:
            return headers
        own = next((value for name, value in self.headers.items() if name.lower() == "anthropic-beta"), None)
        return {**headers, "anthropic-beta": ",".join([own, *betas] if own else betas)}

    async def count_tokens(self, prompt: Prompt, request: Request) -> int | None:
        """How many tokens a prompt has, as the provider counts them; None where it says nothing that can be one.

        Raises:
            ModelError: The provider failed, or does not count tokens.
        """
        names = ("model", "messages", "system", "tools", "tool_choice", "thinking", "cache_control", "output_config")

        def body() -> dict[str, Any]:
            whole = self.body(prompt, request)
            return {name: whole[name] for name in names if name in whole}

        http_request = replace(self._request(body, request), path="/v1/messages/count_tokens")
        count = (await post(await load(self.sdk), http_request)).get("input_tokens")
        return count if type(count) is int and count >= 0 else None

    def answers(self, body: Mapping[str, Any]) -> list[Answer]:
        """See SdkModel."""
        return [self._answer(body)]

    def _usage(self, usage: Any) -> Usage | None:
        return message_usage(usage, self.name)

    def _answer(self, body: Mapping[str, Any]) -> Answer:
        content, usage = body.get("content"), self._usage(body.get("usage"))
        if not isinstance(content, list):
            raise malformed(self.name, "no content", usage)
        try:
            text = "".join(block["text"] for block in content if block["type"] == "text")
            reasoning = "\n\n".join(block["thinking"] for block in content if block["type"] == "thinking")
            thinking_blocks = signed_thoughts(content)
            calls = read_tool_calls([_tool_call(block) for block in content if block["type"] == "tool_use"])
        except (TypeError, KeyError, ValueError) as error:
            raise malformed(self.name, f"an unexpected block ({type(error).__name__})", usage) from None
        stop = body.get("stop_reason")
        if not isinstance(stop, str | None) or (not content and stop not in ("refusal", "end_turn")):
            raise malformed(self.name, "empty content", usage)
        answer = Answer(
            text,
            tool_calls=calls,
            finish_reason=read_finish_reason(stop),
            usage=usage,
            model=self.model,
            reasoning=reasoning or None,
            refusal=text or "refused" if stop == "refusal" else None,
            cost_usd=stated_cost(body.get("usage")) if self.cost_from_provider else None,
            extra={**_extra(body, content, thinking_blocks), **self._ignored()},
        )
        return separate_reasoning(answer)


BETAS = "betas"
"""The option with the names of Anthropic's betas that a request uses; they are sent as a header."""


def _extra(body: Mapping[str, Any], content: list[Any], thinking_blocks: list[dict[str, Any]]) -> dict[str, Any]:
    """``Answer.extra``: signed thoughts, a stop sequence, edits, and blocks whose order OpenAI's shape cannot hold."""
    extra: dict[str, Any] = {}
    if thinking_blocks:
        extra["thinking_blocks"] = thinking_blocks
    if (sequence := body.get("stop_sequence")) is not None and isinstance(sequence, str):
        extra["stop_sequence"] = sequence
    if isinstance(edits := body.get("context_management"), Mapping):
        extra["context_management"] = edits
    kinds = [block["type"] for block in content]
    if (len(kinds) > 2 and kinds != sorted(kinds, key=lambda kind: _BLOCK_ORDER.get(kind, 3))) or kinds.count("text") > 1:
        extra["blocks"] = content
    return extra


_BLOCK_ORDER = {"thinking": 0, "redacted_thinking": 0, "text": 1, "tool_use": 2}


def _fit_thinking(body: dict[str, Any], *, fixed: bool) -> None:
    """Removes what Anthropic rejects together with ``thinking``: a temperature that the client did not send, and a budget of
    thoughts for which the policy's lower ``max_tokens`` leaves no room."""
    thinking = mapping(body["thinking"])
    if thinking.get("type") not in ("enabled", "adaptive"):
        return
    if fixed:
        body.pop("temperature", None)
    budget, most = thinking.get("budget_tokens"), body["max_tokens"]
    if type(budget) is int and budget >= most > _LEAST_THINKING:
        body["thinking"] = {**thinking, "budget_tokens": most - 1}


_LEAST_THINKING = 1024


def _system(messages: Iterable[Mapping[str, Any]]) -> Any:
    """The system prompt: blocks as a client sent them, or text."""
    texts: list[str] = []
    blocks: list[Any] = []
    as_blocks = False
    for message in messages:
        if message.get("role") not in ("system", "developer"):
            continue
        original = message.original if isinstance(message, Translated) else None
        if isinstance(original, Mapping):
            continue  # it stays where it is among the messages
        content = message.get("content")
        if original is None and isinstance(content, list) and any(isinstance(part, Translated) for part in content):
            original = _blocks(content)
        texts.append(content_text(content))
        blocks += original if isinstance(original, list) else [{"type": "text", "text": texts[-1]}]
        as_blocks = as_blocks or isinstance(original, list)
    return blocks if as_blocks else "\n\n".join(texts)


def to_messages(messages: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Chat messages in OpenAI's shape as Anthropic's, without the system ones; neighbours of one role are joined.

    Messages that a client sent in Anthropic's shape stay as they were.
    """
    turns: list[dict[str, Any]] = []
    open_turn: dict[str, Any] | None = None  # one of ours, which further blocks may join
    for message in messages:
        role = message.get("role")
        original = message.original if isinstance(message, Translated) else None
        if original is PART_OF_PREVIOUS:
            continue
        if isinstance(original, dict):
            turns.append(original)
            open_turn = None
            continue
        if role in ("system", "developer"):
            continue
        if role == "tool":
            id, content = valid_id(message.get("tool_call_id")), message.get("content")
            blocks, role = [{"type": "tool_result", "tool_use_id": id, "content": content}], "user"
        else:
            blocks = [*(message.get("thinking_blocks") or ()), *_blocks(message.get("content"))]
            blocks += [_tool_use(call) for call in message.get("tool_calls") or ()]
        if open_turn is not None and open_turn["role"] == role:
            open_turn["content"] += blocks
        else:
            open_turn = {"role": role, "content": blocks}
            turns.append(open_turn)
    return turns


def _blocks(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return [_block(part) for part in content or ()]


def _block(part: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(part, Translated) and part.original is not None:
        original: dict[str, Any] = part.original
        return original
    return _image(part) if part.get("type") == "image_url" else dict(part)


def _image(part: Mapping[str, Any]) -> dict[str, Any]:
    url = part["image_url"]["url"] if isinstance(part["image_url"], Mapping) else str(part["image_url"])
    if not url.startswith("data:"):
        return {"type": "image", "source": {"type": "url", "url": url}}
    kind, _, data = url[5:].partition(";base64,")
    return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}


def _native(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options in OpenAI's words in Anthropic's; the others are passed through."""
    native = dict(options_for(options, "anthropic"))
    if (stop := native.pop("stop", None)) is not None:
        native["stop_sequences"] = [stop] if isinstance(stop, str) else list(stop)
    choice, parallel = native.pop("tool_choice", None), native.pop("parallel_tool_calls", None)
    if isinstance(choice, str):
        choice = {"type": "any" if choice == "required" else choice}
    elif isinstance(choice, Mapping) and isinstance(choice.get("function"), Mapping):
        choice = {"type": "tool", "name": choice["function"]["name"]}
    if parallel is False:
        choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    return native if choice is None else {**native, "tool_choice": choice}


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(tool, Translated) and tool.original is not None:
        original: dict[str, Any] = tool.original
        return original
    function = tool.get("function")
    if not isinstance(function, Mapping):
        return dict(tool)  # already in Anthropic's shape
    anthropic_tool = {"name": function["name"], "input_schema": function.get("parameters") or {"type": "object"}}
    return {**anthropic_tool, **{key: function[key] for key in ("description", "strict") if function.get(key)}}


def _tool_use(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    return {
        "type": "tool_use",
        "id": valid_id(call.get("id")),
        "name": function["name"],
        "input": arguments_object(function.get("arguments")),
    }


def valid_id(id: Any) -> Any:
    """A call's id of another server's in Anthropic's alphabet; its result has the same."""
    return _NO_ID_CHARS.sub("_", id) if isinstance(id, str) else id


def _tool_call(block: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": block["name"], "arguments": arguments_text(block.get("input"))}
    return {"id": block.get("id"), "type": "function", "function": function}
