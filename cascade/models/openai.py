"""OpenAI's chat completions, by the real SDK: OpenAI itself or any compatible server (vLLM, llama.cpp, Ollama, ...)."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from judges import Answer, Prompt, TokenLogprob, Usage

from .model import ModelError, Request
from .wire import count, fault, malformed, read_json, schema_of, transport

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
        max_tokens: int | None = None,
        temperature: float | None = None,
        logprobs: bool = False,
        n: bool = True,
        structured: Literal["json_schema", "json_object", "off"] = "json_schema",
        options: Mapping[str, Any] | None = None,
        http_client: Any = None,
    ) -> None:
        self.name, self.model = name, model
        self._api_key, self._base_url, self._headers = api_key, base_url, dict(headers or {})
        self._timeout_s, self._max_tokens, self._temperature = timeout_s, max_tokens, temperature
        self._logprobs, self._n, self._structured = logprobs, n, structured
        self._options, self._http_client = dict(options or {}), http_client
        # OpenAI has renamed the field and refuses the old one for newer models; other servers know the old one only.
        self._max_tokens_field = "max_completion_tokens" if base_url is None else "max_tokens"
        self._client: Any = None
        self._sdk: Any = None
        self._response: Any = None

    def __repr__(self) -> str:
        return f"OpenAIModel(name={self.name!r}, model={self.model!r})"

    async def answer(self, prompt: Prompt, request: Request) -> Sequence[Answer]:
        """``request.n`` answers; the first carries the whole request's usage. Raises ModelError."""
        if request.n > 1 and not self._n:
            return await self._side_by_side(prompt, request)
        client = self._client or self._connect()
        timeout = request.timeout_s or self._timeout_s
        try:
            response = await client.post(
                "/chat/completions",
                cast_to=self._response,
                body=self._body(prompt, request),
                options={"timeout": min(timeout, self._timeout_s)},
            )
        except Exception as error:  # the transport raises errors of its own beside the SDK's
            raise fault(self._sdk, error, self.name, self._api_key, *self._headers.values()) from None
        return self._answers(read_json(response.content, self.name))

    async def _side_by_side(self, prompt: Prompt, request: Request) -> Sequence[Answer]:
        from dataclasses import replace

        single = replace(request, n=1)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._one(prompt, single)) for _ in range(request.n)]
        found = [task.result() for task in tasks]
        answers = [a for a in found if isinstance(a, Answer)]
        if not answers:
            raise next(e for e in found if isinstance(e, ModelError))
        return answers

    async def _one(self, prompt: Prompt, request: Request) -> Answer | ModelError:
        """A fault as a value: one failed sample must not throw away those that were paid for."""
        try:
            return (await self.answer(prompt, request))[0]
        except ModelError as error:
            return error

    def _connect(self) -> Any:
        import httpx2
        import openai

        self._sdk, self._response = openai, httpx2.Response
        self._client = openai.AsyncOpenAI(
            api_key=self._api_key or "none",  # a server of one's own needs none, the SDK insists on one
            base_url=self._base_url or "https://api.openai.com/v1",
            default_headers=self._headers,
            timeout=self._timeout_s,
            max_retries=0,
            http_client=self._http_client or transport(openai, self._base_url, self._timeout_s),
        )
        return self._client

    def _body(self, prompt: Prompt, request: Request) -> dict[str, Any]:
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
        if self._structured != "off" and (schema := schema_of(prompt)) is not None:
            body["response_format"] = (
                {"type": "json_object"}
                if self._structured == "json_object"
                else {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
            )
        return body

    def _answers(self, body: Mapping[str, Any]) -> list[Answer]:
        choices = body.get("choices")
        if not isinstance(choices, list) or not choices:
            raise malformed(self.name, "no choices")
        usage = _usage(body.get("usage"))
        try:
            # The request's tokens are counted once, with its first answer.
            return [self._answer(c, usage if i == 0 or usage is None else Usage()) for i, c in enumerate(choices)]
        except (TypeError, KeyError, AttributeError, ValueError, IndexError) as error:
            raise malformed(self.name, f"an unexpected choice ({type(error).__name__})") from None

    def _answer(self, choice: Mapping[str, Any], usage: Usage | None) -> Answer:
        message = choice["message"]
        text = message.get("content") or message.get("refusal") or ""
        if not isinstance(text, str):
            raise TypeError("content is not text")
        tokens = (choice.get("logprobs") or {}).get("content")
        top = tokens[0].get("top_logprobs") if tokens else None
        return Answer(
            text,
            tool_calls=tuple(message.get("tool_calls") or ()),
            finish_reason=choice.get("finish_reason"),
            logprobs=tuple([TokenLogprob(t["token"], t["logprob"]) for t in tokens]) if tokens else None,
            first_token_top={t["token"]: t["logprob"] for t in top} if top else None,
            usage=usage,
            model=self.model,
        )

    async def close(self) -> None:
        """Closes the connections."""
        if self._client is not None:
            await self._client.close()


def _usage(usage: Any) -> Usage | None:
    """OpenAI's usage; None where the server gives none, since then nothing is known of the cost."""
    if not isinstance(usage, Mapping):
        return None
    read = usage.get("prompt_tokens_details") or {}
    wrote = usage.get("completion_tokens_details") or {}
    return Usage(
        count(usage.get("prompt_tokens")),
        count(usage.get("completion_tokens")),
        cached_tokens=count(read.get("cached_tokens")),
        reasoning_tokens=count(wrote.get("reasoning_tokens")),
    )
