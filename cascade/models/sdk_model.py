"""The code that the models of real SDKs share: settings, connection, and requests by the SDK's HTTP client."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from typing import Any, ClassVar, Literal

from cascade.util.http_settings import MAX_BODY_BYTES, check_address
from cascade.util.redaction import secrets_of
from judges import Answer, Prompt
from judges.reading import ReasoningStream

from .adaptation import Adaptation
from .http import HttpRequest, load, post, split_userinfo
from .key_file import KeyFile
from .protocol import Chunk, Request
from .side_by_side import answers_with_usage
from .sse import Reader, chunks, events

_MOST_SECRETS = 32


@dataclass(kw_only=True, eq=False, repr=False)
class SdkModel(ABC):
    """A model that is called by its provider's SDK. Nothing is imported or connected before the first answer.

    Args:
        name: The model's name in the policy.
        model: The provider's name of the model.
        api_key: The provider's key; None: the SDK's own environment variable, or none with ``base_url``.
        base_url: Another server's address. Raises ValueError where it cannot be used.
        headers: HTTP headers sent in addition to the SDK's own.
        timeout_s: Seconds that a whole request may take.
        max_body_bytes: A larger response is a fault.
        temperature: The sampling temperature; None: the provider's default.
        structured: How a prompt's schema is asked for.
        options: Further parameters, passed through in the body.
        cost_from_provider: Whether an answer costs what the provider says in ``usage.cost``, where it says so.
        api_key_file: A file with the key, which is read again whenever it has changed.
        http_client: The caller's own HTTP client; it is not closed with the model.
    """

    sdk: ClassVar[str]
    path: ClassVar[str]
    name: str
    model: str
    api_key: str | None = None
    base_url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 60.0
    max_body_bytes: int = MAX_BODY_BYTES
    temperature: float | None = None
    structured: Literal["json_schema", "json_object", "off"] = "json_schema"
    options: Mapping[str, Any] = field(default_factory=dict)
    cost_from_provider: bool = False
    api_key_file: str | None = None
    http_client: Any = None
    _secrets: tuple[str, ...] = field(init=False)
    _client: Any = field(init=False, default=None)
    _sends_lone_ends: bool = field(init=False, default=False)
    _adaptation: Adaptation = field(init=False)
    _key_file: KeyFile | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.base_url is not None:
            check_address(self.base_url)
        if self.api_key_file is not None:
            self._key_file = KeyFile(self.api_key_file)
            self.api_key = self._key_file.read()
        self._secrets = secrets_of(self.api_key, self.base_url, self.headers)
        self._adaptation = Adaptation(self.name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, model={self.model!r})"

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that must not appear in an error: key, password, header values."""
        return self._secrets

    @abstractmethod
    def body(self, prompt: Prompt, request: Request) -> dict[str, Any]:
        """The body of the request, whether sent on its own or in a batch."""

    @abstractmethod
    def answers(self, body: Mapping[str, Any]) -> list[Answer]:
        """The answers in a response's body; the first carries the whole request's usage. Raises ModelError."""

    @property
    def gives_several(self) -> bool:
        """Whether the provider gives several answers in one request."""
        return False

    async def answer(self, prompt: Prompt, request: Request) -> Sequence[Answer]:
        """See Model. Several answers are one request where the provider can, else as many requests at once.

        Of those that fail at once the answers are left out, unless all fail. Raises ModelError.
        """
        if request.n > 1 and not self.gives_several:
            single = replace(request, n=1)
            return await answers_with_usage(lambda _: self.answer(prompt, single), request.n)
        body = await post(await load(self.sdk), self._request(partial(self.body, prompt, request), request))
        return self.answers(body)[: request.n]

    def stream(self, prompt: Prompt, request: Request) -> AsyncGenerator[Chunk]:
        """See StreamingModel."""
        http_request = self._request(partial(self._stream_body, prompt, request), request)
        return chunks(events(self.sdk, http_request), self._reader(prompt))

    def _ignored(self) -> dict[str, Any]:
        """What an answer's ``extra`` says of the request's fields that the server does not take."""
        return {"ignored": self._adaptation.ignored} if self._adaptation.fixed_temperature else {}

    @abstractmethod
    def _stream_body(self, prompt: Prompt, request: Request) -> dict[str, Any]:
        """The body of a request whose answer is streamed."""

    def _split(self) -> ReasoningStream:
        """A new splitter of a streamed answer; one that waits once an answer's thought came without its beginning."""
        return ReasoningStream(hold=self._sends_lone_ends, on_lone_end=self._note_lone_end)

    def _note_lone_end(self) -> None:
        self._sends_lone_ends = True

    @abstractmethod
    def _reader(self, prompt: Prompt) -> Reader:
        """Puts a streamed answer together."""

    @abstractmethod
    def _new_client(self, sdk: Any, base_url: str | None, basic: str | None, settings: dict[str, Any]) -> Any:
        """The SDK's client. ``base_url`` has no userinfo; ``basic`` is that as a value of the Authorization header."""

    def _request(self, body: Any, request: Request) -> HttpRequest:
        return HttpRequest(
            connect=self.connect,
            path=self.path,
            body=body,
            model=self.name,
            timeout_s=min(request.timeout_s or self.timeout_s, self.timeout_s),
            secrets=lambda: self.secrets,
            headers=self._headers(request),
            learn=self._adaptation.learn,
        )

    def _headers(self, request: Request) -> Mapping[str, Any]:
        """Headers that only this request has."""
        return {}

    def _sdk(self) -> Any:
        return import_module(self.sdk)

    def connect(self) -> Any:
        """The SDK's client, created on first use: one for each model, with its key, address and connections."""
        if self._client is None:
            from .transport import http_client

            sdk = self._sdk()
            base_url, basic = (None, None) if self.base_url is None else split_userinfo(self.base_url)
            client = self.http_client or http_client(sdk, self.timeout_s, self.max_body_bytes)
            settings = {"timeout": self.timeout_s, "max_retries": 0, "http_client": client}
            self._client = self._new_client(sdk, base_url, basic, settings)
            # The key may have come from the environment.
            tokens = (getattr(self._client, name, None) for name in ("api_key", "auth_token"))
            self._secrets = (*self._secrets, *filter(None, tokens))
        if self._key_file is not None:
            self._renew_key(self._key_file.read())
        return self._client

    def _renew_key(self, key: str) -> None:
        if key != self._client.api_key:
            self._client.api_key = key
            self._secrets = (*self._secrets[-_MOST_SECRETS:], key)  # the one before may still be in a late error

    async def close(self) -> None:
        """Closes the connections; an ``http_client`` of the caller's stays open."""
        if self._client is not None and self.http_client is None:
            await self._client.close()
