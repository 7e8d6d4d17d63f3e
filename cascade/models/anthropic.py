"""Anthropic's Messages, by the real SDK. It gives no log-probabilities and one answer a request."""

import json
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Any, Literal

from cascade.util.http_settings import MAX_BODY_BYTES, check_address
from cascade.util.redaction import secrets_of
from judges import Answer, Prompt, Usage
from judges.types import content_text

from .http import (
    count,
    counted,
    load,
    malformed,
    mapping,
    post,
    schema_of,
    side_by_side,
    split_userinfo,
    tell_schema,
)
from .protocol import Chunk, Request
from .sse import chunks, events
from .stream_assembly import MessageReader

_STOP = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class AnthropicModel:
    """Implements Model. Messages, images and tools in OpenAI's shape are translated; a schema is asked for natively."""

    def __init__(
        self,
        *,
        name: str,
        model: str,
        api_key: str | None = None,
        base_url: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
        max_body_bytes: int = MAX_BODY_BYTES,
        max_tokens: int = 1024,
        temperature: float | None = None,
        structured: Literal["json_schema", "json_object", "off"] = "json_schema",
        options: Mapping[str, Any] | None = None,
        http_client: Any = None,
    ) -> None:
        if base_url is not None:
            check_address(base_url)
        self.name, self.model = name, model
        self._api_key, self._base_url, self._headers = api_key, base_url, dict(headers or {})
        self._timeout_s, self._max_tokens, self._temperature = timeout_s, max_tokens, temperature
        self._structured, self._options, self._http_client = structured, dict(options or {}), http_client
        self._max_body_bytes = max_body_bytes
        self._secrets = secrets_of(api_key, base_url, self._headers)
        self._client: Any = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not appear in an error: key, password, header values."""
        return self._secrets

    def __repr__(self) -> str:
        return f"AnthropicModel(name={self.name!r}, model={self.model!r})"

    async def answer(self, prompt: Prompt, request: Request) -> Sequence[Answer]:
        """``request.n`` answers, asked for side by side; those that fail are left out unless all do. Raises ModelError."""
        if request.n == 1:
            return [await self._one(prompt, request)]
        return await side_by_side(lambda: self._one(prompt, request), request.n)

    def stream(self, prompt: Prompt, request: Request) -> AsyncGenerator[Chunk]:
        """See StreamingModel."""
        arriving = events(
            "anthropic",
            self.connect,
            "/v1/messages",
            lambda: {**self.body(prompt, request), "stream": True},
            name=self.name,
            timeout_s=min(request.timeout_s or self._timeout_s, self._timeout_s),
            secrets=lambda: self.secrets,
        )
        return chunks(arriving, MessageReader(self.name, self._answer, _usage), self.name)

    async def _one(self, prompt: Prompt, request: Request) -> Answer:
        body = await post(
            await load("anthropic"),
            self.connect,
            "/v1/messages",
            lambda: self.body(prompt, request),
            name=self.name,
            timeout_s=min(request.timeout_s or self._timeout_s, self._timeout_s),
            secrets=lambda: self.secrets,
        )
        return self._answer(body)

    @staticmethod
    def _sdk() -> Any:
        import anthropic

        return anthropic

    def connect(self) -> Any:
        """The SDK's client, made when it is first asked for: one for each model, with its key, address and connections."""
        if self._client is not None:
            return self._client
        from .transport import http_client

        sdk = self._sdk()
        base_url, headers, api_key = self._base_url, self._headers, self._api_key
        if base_url is not None:
            api_key = api_key or "none"  # given, so that the SDK does not look for the user's own
            base_url, basic = split_userinfo(base_url)
            if basic is not None:
                headers = {"Authorization": basic, "X-Api-Key": api_key, **headers}
        self._client = sdk.AsyncAnthropic(
            api_key=api_key,
            base_url=base_url or "https://api.anthropic.com",
            default_headers=headers,
            timeout=self._timeout_s,
            max_retries=0,
            http_client=self._http_client or http_client(sdk, self._timeout_s, self._max_body_bytes),
        )
        # The key may have come from the environment.
        self._secrets = (*self._secrets, *filter(None, (self._client.api_key, self._client.auth_token)))
        return self._client

    def body(self, prompt: Prompt, request: Request) -> dict[str, Any]:
        """What is sent, whether as a request of its own or in a batch."""
        schema = schema_of(prompt) if self._structured != "off" else None
        messages = prompt.messages
        if schema is not None and self._structured == "json_object":
            messages = tell_schema(messages, schema)
        system = [content_text(m.get("content")) for m in messages if m.get("role") in ("system", "developer")]
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": request.max_tokens or self._max_tokens,
            "messages": to_messages(messages),
            **self._options,
            **_native(request.options),
        }
        if system:
            body["system"] = "\n\n".join(system)
        temperature = self._temperature if request.temperature is None else request.temperature
        if temperature is not None:
            body["temperature"] = min(temperature, 1.0)  # Anthropic's scale ends at 1
        if prompt.tools:
            body["tools"] = [_tool(t) for t in prompt.tools]
        if schema is not None and self._structured == "json_schema":
            # Anthropic refuses open objects and some keywords; its SDK closes the ones and tells the others in words.
            wanted = {"type": "json_schema", "schema": self._sdk().transform_schema(schema)}
            body["output_config"] = {**body.get("output_config", {}), "format": wanted}
        return body

    def answers(self, body: Mapping[str, Any]) -> list[Answer]:
        """The answer of what came back, as a list. Raises ModelError."""
        return [self._answer(body)]

    def _answer(self, body: Mapping[str, Any]) -> Answer:
        content, usage = body.get("content"), _usage(body.get("usage"))
        if not isinstance(content, list):
            raise malformed(self.name, "no content", usage)
        try:
            text = "".join(block["text"] for block in content if block["type"] == "text")
            calls = tuple(_tool_call(block) for block in content if block["type"] == "tool_use")
        except (TypeError, KeyError, ValueError) as error:
            raise malformed(self.name, f"an unexpected block ({type(error).__name__})", usage) from None
        stop = body.get("stop_reason")
        if not isinstance(stop, str | None) or (not content and stop not in ("refusal", "end_turn")):
            raise malformed(self.name, "empty content", usage)
        return Answer(
            text,
            tool_calls=calls,
            finish_reason=_STOP.get(str(stop), stop),
            usage=usage,
            model=self.model,
        )

    async def close(self) -> None:
        """Closes the connections; an ``http_client`` of the caller's stays open."""
        if self._client is not None and self._http_client is None:
            await self._client.close()


def to_messages(messages: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Chat messages in OpenAI's shape as Anthropic's, without the system ones; neighbours of one role are joined."""
    made: list[dict[str, Any]] = []
    for message in messages:
        role = message.get("role")
        if role in ("system", "developer"):
            continue
        if role == "tool":
            result = {"type": "tool_result", "tool_use_id": message.get("tool_call_id"), "content": message.get("content")}
            blocks, role = [result], "user"
        else:
            blocks = _blocks(message.get("content"))
            blocks += [_tool_use(call) for call in message.get("tool_calls") or ()]
        if made and made[-1]["role"] == role:
            made[-1]["content"] += blocks
        else:
            made.append({"role": role, "content": blocks})
    return made


def _blocks(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return [_image(part) if part.get("type") == "image_url" else dict(part) for part in content or ()]


def _image(part: Mapping[str, Any]) -> dict[str, Any]:
    url = part["image_url"]["url"] if isinstance(part["image_url"], Mapping) else str(part["image_url"])
    if not url.startswith("data:"):
        return {"type": "image", "source": {"type": "url", "url": url}}
    kind, _, data = url[5:].partition(";base64,")
    return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}


def _native(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options in OpenAI's words in Anthropic's; the others are passed through."""
    made = dict(options)
    if (stop := made.pop("stop", None)) is not None:
        made["stop_sequences"] = [stop] if isinstance(stop, str) else list(stop)
    choice, parallel = made.pop("tool_choice", None), made.pop("parallel_tool_calls", None)
    if isinstance(choice, str):
        choice = {"type": "any" if choice == "required" else choice}
    elif isinstance(choice, Mapping) and isinstance(choice.get("function"), Mapping):
        choice = {"type": "tool", "name": choice["function"]["name"]}
    if parallel is False:
        choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    return made if choice is None else {**made, "tool_choice": choice}


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = tool.get("function")
    if not isinstance(function, Mapping):
        return dict(tool)  # already in Anthropic's shape
    made = {"name": function["name"], "input_schema": function.get("parameters") or {"type": "object"}}
    return {**made, **{key: function[key] for key in ("description", "strict") if function.get(key)}}


def _tool_use(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    return {
        "type": "tool_use",
        "id": call.get("id"),
        "name": function["name"],
        "input": json.loads(function.get("arguments") or "{}"),
    }


def _tool_call(block: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": block["name"], "arguments": json.dumps(block["input"])}
    return {"id": block["id"], "type": "function", "function": function}


def _usage(usage: Any) -> Usage | None:
    """Anthropic counts cached tokens beside ``input_tokens``; here they are part of it."""
    if not counted(usage, "input_tokens", "output_tokens"):
        return None
    read, wrote = count(usage.get("cache_read_input_tokens")), count(usage.get("cache_creation_input_tokens"))
    return Usage(
        count(usage.get("input_tokens")) + read + wrote,
        count(usage.get("output_tokens")),
        cached_tokens=read,
        cache_write_tokens=wrote,
        reasoning_tokens=count(mapping(usage.get("output_tokens_details")).get("thinking_tokens")),
    )
