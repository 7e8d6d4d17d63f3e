"""OpenAI's chat completions, by the real SDK: OpenAI itself or any compatible server (vLLM, llama.cpp, Ollama, ...)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from judges import Answer, Prompt, TokenLogprob, Usage
from judges.reading import is_error, read_finish_reason, read_tool_calls, separate_reasoning

from .http import finite, malformed, mapping, schema_of, with_schema_text
from .logprobs import logged_tokens
from .message_parts import calls_in, counts_logprobs, default_max_tokens_field, options_for, outgoing, reasoning_in, text_in
from .protocol import Request
from .sdk_model import SdkModel
from .sse import Reader
from .stream_assembly import ChatReader
from .usage import chat_usage, stated_cost

_ALTERNATIVES = 5
_KEY_HEADERS = frozenset(("api-key", "x-api-key", "ocp-apim-subscription-key", "cf-aig-authorization"))


@dataclass(kw_only=True, eq=False, repr=False)
class OpenAIModel(SdkModel):
    """Implements Model and StreamingModel; see SdkModel for the settings that both SDKs share.

    Args:
        max_tokens: The most tokens of an answer; None: the provider's default.
        logprobs: Always ask for token log-probabilities.
        n: The server gives several samples in one request; else they are several requests at once.
        max_tokens_field: The name of the field for ``max_tokens``; None: the one that the server at ``base_url`` knows.
    """

    sdk: ClassVar[str] = "openai"
    path: ClassVar[str] = "/chat/completions"
    max_tokens: int | None = None
    logprobs: bool = False
    n: bool = True
    max_tokens_field: str | None = None

    @property
    def gives_several(self) -> bool:
        """See SdkModel."""
        return self.n

    def __post_init__(self) -> None:
        super().__post_init__()
        self._adaptation.max_tokens_field = self.max_tokens_field or default_max_tokens_field(self.base_url)

    def _reader(self, prompt: Prompt) -> Reader:
        return ChatReader(self.name, lambda body: self.answers(body)[0], self._usage, self._split(), prompt.tools)

    def _new_client(self, sdk: Any, base_url: str | None, basic: str | None, settings: dict[str, Any]) -> Any:
        headers, api_key = dict[str, Any](self.headers), self.api_key
        if base_url is not None:
            api_key = api_key or "none"  # a self-hosted server needs none, the SDK requires one
            # Another server has no business with the organization that the environment names for OpenAI.
            headers = {"OpenAI-Organization": sdk.Omit(), "OpenAI-Project": sdk.Omit(), **headers}
            if basic is not None:
                headers = {"Authorization": basic, **headers}
        address = base_url or "https://api.openai.com/v1"
        return sdk.AsyncOpenAI(api_key=api_key, base_url=address, default_headers=headers, **settings)

    def _headers(self, request: Request) -> Mapping[str, Any]:
        if self.api_key is None and any(name.lower() in _KEY_HEADERS for name in self.headers):
            return {"Authorization": self._sdk().Omit()}  # the key is in a header of its own, as at Azure
        return {}

    def body(self, prompt: Prompt, request: Request) -> dict[str, Any]:
        """See SdkModel."""
        messages = outgoing(prompt.messages, self.base_url)
        options = options_for(request.options, "openai") if request.options else request.options
        body: dict[str, Any] = {"model": self.model, "messages": messages, **self.options, **options}
        temperature = self.temperature if request.temperature is None else request.temperature
        if temperature is not None:
            body["temperature"] = temperature
        max_tokens = request.max_tokens or self.max_tokens
        if max_tokens is not None:
            body[self._adaptation.max_tokens_field or "max_tokens"] = max_tokens
        if request.n > 1:
            body["n"] = request.n
        if request.logprobs:
            body["logprobs"], body["top_logprobs"] = True, max(_ALTERNATIVES, options.get("top_logprobs") or 0)
        elif self.logprobs:
            body["logprobs"] = True
        elif "top_logprobs" in options:
            del body["top_logprobs"]
        if "logprobs" in body and counts_logprobs(self.base_url):
            body["logprobs"] = body.pop("top_logprobs", 1)
        if prompt.tools:
            body["tools"] = prompt.tools
            if prompt.tool_choice is not None:
                body.setdefault("tool_choice", prompt.tool_choice)
        # A format that the request itself names is kept; the judges check the schema anyway.
        wants_schema = self.structured != "off" and "response_format" not in options
        if wants_schema and (schema := schema_of(prompt)) is not None:
            if self.structured == "json_object":
                body["messages"] = with_schema_text(messages, schema)
                body["response_format"] = {"type": "json_object"}
            else:
                # Only strict schemas are enforced token by token; others would be refused. A client may say itself.
                is_enforced = is_strict(schema) if request.strict is None else request.strict
                strict = {} if not is_enforced and request.strict is None else {"strict": is_enforced}
                named_schema = {"name": "answer", "schema": schema, **strict}
                body["response_format"] = {"type": "json_schema", "json_schema": named_schema}
        return self._adaptation.apply(body)

    def _stream_body(self, prompt: Prompt, request: Request) -> dict[str, Any]:
        body = {**self.body(prompt, replace(request, n=1)), "stream": True}
        if body.setdefault("stream_options", {"include_usage": True}) is None:
            del body["stream_options"]  # for servers that refuse what they do not know
        return body

    def answers(self, body: Mapping[str, Any]) -> list[Answer]:
        """See SdkModel."""
        choices, usage = body.get("choices"), self._usage(body.get("usage"))
        if not isinstance(choices, list) or not choices:
            raise malformed(self.name, "no choices", usage)
        try:
            usage = _all_counted(usage, choices)
            # The request's tokens are counted once, with its first answer.
            answers = [self._answer(c, usage if i == 0 or usage is None else Usage()) for i, c in enumerate(choices)]
        except (TypeError, KeyError, AttributeError, ValueError, IndexError) as error:
            raise malformed(self.name, f"an unexpected choice ({type(error).__name__})", usage) from None
        cost = stated_cost(body.get("usage")) if self.cost_from_provider else None
        if cost is None:
            return answers
        return [replace(answer, cost_usd=cost if i == 0 else 0.0) for i, answer in enumerate(answers)]

    def _usage(self, usage: Any) -> Usage | None:
        return chat_usage(usage, self.name)

    def _answer(self, choice: Mapping[str, Any], usage: Usage | None) -> Answer:
        message = choice["message"]
        refusal = message.get("refusal") or None
        text = text_in(message.get("content")) or refusal or ""
        calls, finish = read_tool_calls(calls_in(message)), choice.get("finish_reason")
        # A router's words for a provider that broke off.
        if choice.get("error") or (isinstance(finish, str) and is_error(finish)):
            raise ValueError("an error instead of an answer")
        if not (isinstance(text, str) and isinstance(refusal, str | None) and isinstance(finish, str | None)):
            raise TypeError("an unexpected type")
        tokens = logged_tokens(choice.get("logprobs"), text)
        logprobs = tuple([TokenLogprob(t["token"], t["logprob"]) for t in tokens]) if tokens else None
        if logprobs and not all(finite(value) and isinstance(token, str) for token, value in logprobs):
            logprobs = None  # unknown, as where the server gives none: the answer itself is good

        def top_of(i: int) -> dict[str, float] | None:
            top = tokens[i].get("top_logprobs")
            return {t["token"]: t["logprob"] for t in top if finite(t["logprob"])} if top else None

        answer = Answer(
            text,
            tool_calls=calls,
            finish_reason=read_finish_reason(finish),
            logprobs=logprobs,
            first_token_top=top_of(0) if tokens else None,
            usage=usage,
            model=self.model,
            reasoning=reasoning_in(message) or None,
            refusal=refusal,
            extra=_extra(self._ignored(), choice, tokens),
        )
        return separate_reasoning(answer, top_of)


def _extra(extra: Mapping[str, Any], choice: Mapping[str, Any], tokens: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """``extra`` with the tokens with their alternatives, and vLLM's name of the stop sequence, where there are any."""
    stop = choice.get("stop_reason")
    if isinstance(stop, str):
        extra = {**extra, "stop_sequence": stop}
    if tokens and tokens[0].get("top_logprobs"):
        extra = {**extra, "top_logprobs": tokens}
    return extra


def _all_counted(usage: Usage | None, choices: Sequence[Mapping[str, Any]]) -> Usage | None:
    """The usage with the tokens of every choice: of several, llama.cpp's server counts the first only."""
    if usage is None or len(choices) < 2:
        return usage
    logged = sum(len(logged_tokens(choice.get("logprobs"))) for choice in choices)
    return replace(usage, output_tokens=max(usage.output_tokens, logged))


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
