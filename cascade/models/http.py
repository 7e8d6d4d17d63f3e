"""The code that both SDK models share: error mapping, reading a body.

The SDKs do what they are good at (addresses, authentication, connections, errors); the body is read as plain JSON,
because building the SDKs' objects for every token's log-probabilities costs more than the whole of a run.
"""

import asyncio
import json
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any
from urllib.parse import unquote, urlsplit

from cascade.util.redaction import redact
from judges import Prompt, Usage

from .error_body import error_code, error_message
from .protocol import ModelError
from .retry_delay import retry_delay

_RETRYABLE = frozenset((408, 409, 429))


def split_userinfo(base_url: str) -> tuple[str, str | None]:
    """An address without its ``user:password@``, and that as the value of an Authorization header.

    aiohttp refuses a request that has both, and an address without secrets can appear in any log.
    """
    parts = urlsplit(base_url)
    userinfo, at, host = parts.netloc.rpartition("@")
    if not at:
        return base_url, None
    basic = b64encode(unquote(userinfo).encode()).decode()
    return parts._replace(netloc=host).geturl(), f"Basic {basic}"


_loaded: dict[str, Any] = {}


async def load(sdk: str) -> Any:
    """The SDK's module. A thread imports it, since that takes a second, in which other runs could miss their deadlines."""
    if sdk not in _loaded:
        _loaded[sdk] = await asyncio.to_thread(import_module, sdk)
    return _loaded[sdk]


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """One request by an SDK's client.

    ``connect`` gives the client, ``body`` the JSON body (both may raise), ``secrets`` what an error must not quote.
    ``headers`` are added to the client's own. ``learn`` says of an error whether the body will be another one after it,
    so that the request is to be sent again. ``timeout_s`` bounds the whole request: the transports' own timeouts
    restart with every byte that arrives.
    """

    connect: Callable[[], Any]
    path: str
    body: Callable[[], Any]
    model: str
    timeout_s: float
    secrets: Callable[[], tuple[str, ...]]
    headers: Mapping[str, Any] = field(default_factory=dict)
    learn: Callable[[ModelError], bool] | None = None


async def post(sdk: Any, request: HttpRequest) -> Mapping[str, Any]:
    """Sends the request and reads the response's body as plain JSON. Raises ModelError."""
    response = await send(sdk, request)
    return read_json(response.content, request.model, *request.secrets())


async def send(sdk: Any, request: HttpRequest, *, stream: bool = False) -> Any:
    """Sends the request.

    Args:
        sdk: The SDK's module.
        request: What to send.
        stream: Return as soon as the headers are there, with the body unread.

    Returns:
        httpx2's response.

    Raises:
        ModelError: The provider refused, failed, or took too long.
    """
    import httpx2

    more = {"stream": True, "stream_cls": sdk.AsyncStream} if stream else {}
    try:
        client = request.connect()
        async with asyncio.timeout(request.timeout_s):
            return await client.post(
                request.path,
                cast_to=httpx2.Response,
                body=request.body(),
                # Some servers' keys travel in headers that a redirect to another host would take along.
                options={"timeout": request.timeout_s, "follow_redirects": False, "headers": request.headers},
                **more,
            )
    except TimeoutError:
        error_of_model = timed_out(request.model)
    except Exception as error:  # the transport raises its own errors besides the SDK's
        error_of_model = fault(sdk, error, request.model, *request.secrets())
    # Out here so that the SDK's error, which holds the request and its headers, is not kept as its context.
    if request.learn is not None and request.learn(error_of_model):
        return await send(sdk, request, stream=stream)
    raise error_of_model


def fault(sdk: Any, error: Exception, name: str, *secrets: str | None) -> ModelError:
    """An SDK's exception as a ModelError; the original is left out of it, since it holds headers and the request."""
    if type(_root(error)).__name__ == "BodyTooLarge":
        return malformed(name, str(_root(error)))
    if isinstance(error, sdk.APITimeoutError) and _is_timeout(error):
        return timed_out(name)
    if isinstance(error, sdk.APIConnectionError):
        cause = type(_root(error)).__name__
        if _unreached(error):
            return ModelError(
                f"{name}: no connection ({cause})", model=name, retryable=True, usage=Usage(), kind="connection"
            )
        lost = f"{name}: connection lost ({cause}); it may have been billed"
        return ModelError(lost, model=name, retryable=True, kind="connection")
    if isinstance(error, sdk.APIStatusError):
        status = int(error.status_code)
        message = redact(error_message(error.body), *secrets)
        return ModelError(
            f"{name}: HTTP {status}{f': {message}' if message else ''}",
            model=name,
            retryable=_worth_a_retry(error, status),
            status=status,
            usage=Usage(),
            retry_after_s=retry_delay(error.response.headers, error.body),
        )
    if type(error).__name__ in ("OpenAIError", "AnthropicError"):  # about the settings: a missing key
        return ModelError(f"{name}: {redact(str(error), *secrets)}", model=name, usage=Usage())
    # A ValueError or TypeError is about the request; a second try would meet it again.
    about_request = isinstance(error, ValueError | TypeError)
    billing = "" if about_request else "; it may have been billed"
    return ModelError(f"{name}: request failed ({type(error).__name__}){billing}", model=name, retryable=not about_request)


def _worth_a_retry(error: Any, status: int) -> bool:
    """Whether another try may succeed: as the provider says in ``x-should-retry``, else by the status."""
    advice = error.response.headers.get("x-should-retry")
    if advice in ("true", "false"):
        return bool(advice == "true")
    if error_code(error.body) == "insufficient_quota":
        return False  # a 429 that only a payment ends
    return status in _RETRYABLE or status >= 500


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _unreached(error: BaseException) -> bool:
    """Whether there never was a connection, so that nothing can have been billed.

    The aiohttp transport calls lost connections ConnectError, too; aiohttp's own word, which is its cause, is exact.
    """
    kinds: list[type] = []
    cause: BaseException | None = error
    while cause is not None:
        kinds += type(cause).__mro__
        cause = cause.__cause__
    word = "ClientConnectorError" if any(kind.__module__.startswith("aiohttp") for kind in kinds) else "ConnectError"
    return any(kind.__name__ == word for kind in kinds)


def _is_timeout(error: BaseException) -> bool:
    """The aiohttp transport calls every lost or refused connection a timeout; the first cause knows better."""
    root = _root(error)
    return isinstance(root, TimeoutError) or "Timeout" in type(root).__name__


def read_json(content: bytes, name: str, *secrets: str | None) -> Mapping[str, Any]:
    """The body as a mapping.

    Raises:
        ModelError: It is HTML, cut JSON, invalid UTF-8, or no JSON object at all; a name occurs twice in an object.
    """
    from jiter import from_json

    body = None
    try:
        # Of two values of one name, servers and proxies in between may each mean another.
        body = from_json(content, catch_duplicate_keys=True)
    except ValueError:
        with suppress(ValueError):
            from_json(content)
            raise malformed(name, "a name occurs twice in an object") from None
    if not isinstance(body, Mapping):
        raise malformed(name, "the body is not a JSON object")
    if body.get("error"):  # proxies report a failed upstream with status 200
        error = malformed(name, f"an error instead of an answer: {redact(error_message(body), *secrets)}")
        code = mapping(body["error"]).get("code")
        if type(code) is int and 400 <= code < 500:
            error.retryable = code in _RETRYABLE
        raise error
    return body


def timed_out(name: str) -> ModelError:
    """No answer in time. The provider may have made one, and billed it."""
    return ModelError(f"{name}: timed out; it may have been billed", model=name, retryable=True, kind="timeout")


def malformed(name: str, what: str, usage: Usage | None = None) -> ModelError:
    """A reply that is not what the protocol says: the provider's fault, worth one more try."""
    return ModelError(f"{name}: malformed reply: {what}", model=name, retryable=True, usage=usage, kind="malformed")


def schema_of(prompt: Prompt) -> dict[str, Any] | None:
    """The prompt's JSON Schema, or None."""
    if prompt.schema is None:
        return None
    from judges.schema import json_schema_of

    return json_schema_of(prompt.schema)


def with_schema_text(messages: Sequence[Mapping[str, Any]], schema: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """The messages with the schema as an instruction, for servers without schemas (some want the word JSON)."""
    instruction = f"Answer with JSON only, valid against this JSON Schema:\n{json.dumps(schema, ensure_ascii=False)}"
    first = messages[0]
    # One system message, and it first: many chat templates refuse any other.
    if first.get("role") in ("system", "developer"):
        content = first.get("content")
        whole: Any = [*(content or ()), {"type": "text", "text": instruction}]
        if isinstance(content, str):
            whole = f"{content}\n\n{instruction}"
        return ({**first, "content": whole}, *messages[1:])
    return ({"role": "system", "content": instruction}, *messages)


def mapping(value: Any) -> Mapping[str, Any]:
    """``value`` where it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def finite(value: Any) -> bool:
    """Whether ``value`` is a number that can be a log-probability."""
    # A whole number may be too large for isfinite().
    return type(value) in (float, int) and -1e300 < value < 1e300
