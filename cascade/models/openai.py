"""OpenAI's chat completions, by the real SDK: OpenAI itself or any compatible server (vLLM, llama.cpp, Ollama, ...)."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from cascade.util.http_settings import MAX_BODY_BYTES, check_address
from cascade.util.redaction import secrets_of
from judges import Answer, Prompt, TokenLogprob, Usage
from judges.types import content_text

from .http import (
    count,
    counted,
    finite,
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
from .stream_assembly import ChatReader

_ALTERNATIVES = 5


class OpenAIModel:
    """Implements Model. Nothing is imported or connected before the first answer; SDK retries are off.

    ``n``: the server gives several samples in one request (else they are asked for side by side). ``structured``: how a
    schema is asked for. ``logprobs``: always ask for token log-probabilities. ``options`` are passed through in the body.
    """

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
        max_tokens: int | None = None,
        temperature: float | None = None,
        logprobs: bool = False,
        n: bool = True,
        structured: Literal["json_schema", "json_object", "off"] = "json_schema",
        options: Mapping[str, Any] | None = None,
        http_client: Any = None,
    ) -> None:
        if base_url is not None:
            check_address(base_url)
        self.name, self.model = name, model
        self._api_key, self._base_url, self._headers = api_key, base_url, dict(headers or {})
        self._timeout_s, self._max_tokens, self._temperature = timeout_s, max_tokens, temperature
        self._logprobs, self._n, self._structured = logprobs, n, structured
        self._options, self._http_client = dict(options or {}), http_client
        # OpenAI has renamed the field and refuses the old one for newer models; other servers know the old one only.
        self._max_tokens_field = "max_completion_tokens" if base_url is None else "max_tokens"
        self._max_body_bytes = max_body_bytes
        self._secrets = secrets_of(api_key, base_url, self._headers)
        self._client: Any = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not appear in an error: key, password, header values."""
        return self._secrets

    def __repr__(self) -> str:
        return f"OpenAIModel(name={self.name!r}, model={self.model!r})"

    async def answer(self, prompt: Prompt, request: Request) -> Sequence[Answer]:
        """``request.n`` answers; the first carries the whole request's usage. Raises ModelError."""
        if request.n > 1 and not self._n:
            single = replace(request, n=1)
            return await side_by_side(lambda: self._first(prompt, single), request.n)
        body = await post(
            await load("openai"),
            self.connect,
            "/chat/completions",
            lambda: self.body(prompt, request),
            name=self.name,
            timeout_s=min(request.timeout_s or self._timeout_s, self._timeout_s),
            secrets=lambda: self.secrets,
        )
        return self.answers(body)[: request.n]

    def stream(self, prompt: Prompt, request: Request) -> AsyncGenerator[Chunk]:
        """See StreamingModel."""
        arriving = events(
            "openai",
            self.connect,
            "/chat/completions",
            lambda: self._streamed(prompt, request),
            name=self.name,
            timeout_s=min(request.timeout_s or self._timeout_s, self._timeout_s),
            secrets=lambda: self.secrets,
        )
        return chunks(arriving, ChatReader(self.name, lambda body: self.answers(body)[0], _usage), self.name)

    async def _first(self, prompt: Prompt, request: Request) -> Answer:
        return (await self.answer(prompt, request))[0]

    @staticmethod
    def _sdk() -> Any:
        import openai

        return openai

    def connect(self) -> Any:
        """The SDK's client, made when it is first asked for: one for each model, with its key, address and connections."""
        if self._client is not None:
            return self._client
        from .transport import http_client

        sdk = self._sdk()
        base_url, headers, api_key = self._base_url, dict[str, Any](self._headers), self._api_key
        if base_url is not None:
            api_key = api_key or "none"  # a server of one's own needs none, the SDK insists on one
            base_url, basic = split_userinfo(base_url)
            # Another server has no business with the organization that the environment names for OpenAI.
            headers = {"OpenAI-Organization": sdk.Omit(), "OpenAI-Project": sdk.Omit(), **headers}
            if basic is not None:
                headers = {"Authorization": basic, **headers}
        self._client = sdk.AsyncOpenAI(
            api_key=api_key,
            base_url=base_url or "https://api.openai.com/v1",
            default_headers=headers,
            timeout=self._timeout_s,
            max_retries=0,
            http_client=self._http_client or http_client(sdk, self._timeout_s, self._max_body_bytes),
        )
        self._secrets = (*self._secrets, self._client.api_key)  # it may have come from the environment
        return self._client

    def body(self, prompt: Prompt, request: Request) -> dict[str, Any]:
        """What is sent, whether as a request of its own or in a batch."""
        body: dict[str, Any] = {"model": self.model, "messages": prompt.messages, **self._options, **request.options}
        temperature = self._temperature if request.temperature is None else request.temperature
        if temperature is not None:
            body["temperature"] = temperature
        max_tokens = request.max_tokens or self._max_tokens
        if max_tokens is not None:
            body[self._max_tokens_field] = max_tokens
        if request.n > 1:
            body["n"] = request.n
        if request.logprobs:
            body["logprobs"], body["top_logprobs"] = True, _ALTERNATIVES
        elif self._logprobs:
            body["logprobs"] = True
        if prompt.tools:
            body["tools"] = prompt.tools
        # A format that the request names itself stands; the judges see the schema all the same.
        told = self._structured != "off" and "response_format" not in request.options
        if told and (schema := schema_of(prompt)) is not None:
            if self._structured == "json_object":
                body["messages"] = tell_schema(prompt.messages, schema)
                body["response_format"] = {"type": "json_object"}
            else:
                # Only strict schemas are enforced token by token; others would be refused as strict.
                strict = {"strict": True} if is_strict(schema) else {}
                wanted = {"name": "answer", "schema": schema, **strict}
                body["response_format"] = {"type": "json_schema", "json_schema": wanted}
        return body

    def _streamed(self, prompt: Prompt, request: Request) -> dict[str, Any]:
        body = {**self.body(prompt, replace(request, n=1)), "stream": True}
        if body.setdefault("stream_options", {"include_usage": True}) is None:
            del body["stream_options"]  # for servers that refuse what they do not know
        return body

    def answers(self, body: Mapping[str, Any]) -> list[Answer]:
        """The answers of what came back; the first carries the whole request's usage. Raises ModelError."""
        choices, usage = body.get("choices"), _usage(body.get("usage"))
        if not isinstance(choices, list) or not choices:
            raise malformed(self.name, "no choices", usage)
        try:
            usage = _all_counted(usage, choices)
            # The request's tokens are counted once, with its first answer.
            return [self._answer(c, usage if i == 0 or usage is None else Usage()) for i, c in enumerate(choices)]
        except (TypeError, KeyError, AttributeError, ValueError, IndexError) as error:
            raise malformed(self.name, f"an unexpected choice ({type(error).__name__})", usage) from None

    def _answer(self, choice: Mapping[str, Any], usage: Usage | None) -> Answer:
        message = choice["message"]
        content = message.get("content")
        if not isinstance(content, str | list | None):
            raise TypeError("content is not text")
        text = content_text(content) or message.get("refusal") or ""
        calls, finish = message.get("tool_calls") or [], choice.get("finish_reason")
        if finish == "error" or choice.get("error"):  # a router's word for a provider that broke off
            raise ValueError("an error instead of an answer")
        if not (isinstance(text, str) and isinstance(finish, str | None) and isinstance(calls, list)):
            raise TypeError("an unexpected type")
        if not all(isinstance(call, Mapping) for call in calls):
            raise TypeError("a tool call is not an object")
        tokens = (choice.get("logprobs") or {}).get("content")
        logprobs = tuple([TokenLogprob(t["token"], t["logprob"]) for t in tokens]) if tokens else None
        if logprobs and not all(finite(value) and isinstance(token, str) for token, value in logprobs):
            logprobs = None  # unknown, as where the server gives none: the answer itself is good
        top = tokens[0].get("top_logprobs") if tokens else None
        return Answer(
            text,
            tool_calls=tuple(calls),
            finish_reason=finish,
            logprobs=logprobs,
            first_token_top={t["token"]: t["logprob"] for t in top if finite(t["logprob"])} if top else None,
            usage=usage,
            model=self.model,
        )

    async def close(self) -> None:
        """Closes the connections; an ``http_client`` of the caller's stays open."""
        if self._client is not None and self._http_client is None:
            await self._client.close()


def _usage(usage: Any) -> Usage | None:
    """OpenAI's usage; None where the server gives none, since then nothing is known of the cost."""
    if not counted(usage, "prompt_tokens", "completion_tokens"):
        return None
    read, wrote = mapping(usage.get("prompt_tokens_details")), mapping(usage.get("completion_tokens_details"))
    return Usage(
        usage["prompt_tokens"],
        usage["completion_tokens"],
        cached_tokens=count(read.get("cached_tokens")),
        cache_write_tokens=count(read.get("cache_write_tokens")),
        reasoning_tokens=count(wrote.get("reasoning_tokens")),
    )


def _all_counted(usage: Usage | None, choices: Sequence[Mapping[str, Any]]) -> Usage | None:
    """The usage with the tokens of every choice: of several, llama.cpp's server counts the first only."""
    if usage is None or len(choices) < 2:
        return usage
    listed = sum(len((choice.get("logprobs") or {}).get("content") or ()) for choice in choices)
    return replace(usage, output_tokens=max(usage.output_tokens, listed))


_STRICT_WORDS = {
    *("type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf"),
    *("title", "description", "$defs", "$ref"),
}


def is_strict(schema: Any) -> bool:
    """Whether OpenAI takes the schema as strict: closed objects, every property required, plain keywords only."""
    if not isinstance(schema, Mapping) or not _STRICT_WORDS.issuperset(schema):
        return False
    properties = mapping(schema.get("properties"))
    closed = schema.get("additionalProperties") is False and set(schema.get("required") or ()) == set(properties)
    if not closed and ("properties" in schema or schema.get("type") == "object"):
        return False
    inner = [*properties.values(), *mapping(schema.get("$defs")).values(), *(schema.get("anyOf") or ())]
    return all(map(is_strict, [*inner, schema["items"]] if "items" in schema else inner))
