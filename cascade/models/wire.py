"""What both SDK models share: transport, error mapping, redaction, reading a body.

The SDKs do what they are good at (addresses, authentication, connections, errors); the body is read as plain JSON,
because building the SDKs' objects for every token's log-probabilities costs more than the whole of a run.
"""

import asyncio
import json
import math
import re
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from judges import Answer, Prompt

from .model import ModelError

_RETRYABLE = frozenset((408, 409, 429))
_SECRET = re.compile(r"(?i)\b(?:sk|pk|key|api)[-_][\w-]{6,}|\b(?:bearer|basic)\s+\S+|(?<=://)[^/\s@]+@|x-api-key\S*\s*\S+")
_MAX_TEXT = 200


def transport(sdk: Any, timeout_s: float) -> Any:
    """The SDK's HTTP client: on aiohttp where that is installed (several times the requests a second of the default)."""
    import httpx2

    limits = httpx2.Limits(max_connections=2000, max_keepalive_connections=1000)
    try:
        return sdk.DefaultAioHttpClient(timeout=timeout_s, limits=limits)
    except RuntimeError:  # the SDK's word for "aiohttp is not installed"
        return sdk.DefaultAsyncHttpxClient(timeout=timeout_s, limits=limits)


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


def secrets_of(api_key: str | None, base_url: str | None, headers: Mapping[str, str]) -> tuple[str, ...]:
    """Whatever a provider's error might echo and nobody may read: the key, headers' values, the address's password."""
    userinfo = urlsplit(base_url or "").netloc.rpartition("@")[0]
    password = userinfo.partition(":")[2]
    values = [value for value in headers.values() if len(value) >= 4]  # shorter ones are flags and numbers
    return tuple(filter(None, (api_key, *values, userinfo, password, unquote(password))))


async def post(
    sdk: Any,
    connect: Callable[[], Any],
    path: str,
    body: Callable[[], Any],
    *,
    name: str,
    timeout_s: float,
    secrets: Callable[[], tuple[str, ...]],
) -> Mapping[str, Any]:
    """One request by the SDK, its body as plain JSON. Raises ModelError.

    ``timeout_s`` bounds the whole request: the transports' own timeouts begin anew with every byte that arrives.
    """
    import httpx2

    try:
        client = connect()
        async with asyncio.timeout(timeout_s):
            response = await client.post(
                path,
                cast_to=httpx2.Response,
                body=body(),
                # Some servers' keys travel in headers that a redirect to another host would take along.
                options={"timeout": timeout_s, "follow_redirects": False},
            )
    except TimeoutError:
        failed = ModelError(f"{name}: timed out", model=name, retryable=True)
    except Exception as error:  # the transport raises errors of its own beside the SDK's
        failed = fault(sdk, error, name, *secrets())
    else:
        return read_json(response.content, name, *secrets())
    # Raised out here so that the SDK's error, which holds the request and its headers, is not kept as its context.
    raise failed


def redact(text: str, *secrets: str | None) -> str:
    """``text`` without the given secrets and without whatever looks like a key, cut to 200 characters."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[redacted]")
    return _SECRET.sub("[redacted]", text)[:_MAX_TEXT]


def fault(sdk: Any, error: Exception, name: str, *secrets: str | None) -> ModelError:
    """An SDK's exception as a ModelError; the original is left out of it, since it holds headers and the request."""
    if isinstance(error, sdk.APITimeoutError) and _is_timeout(error):
        return ModelError(f"{name}: timed out", model=name, retryable=True)
    if isinstance(error, sdk.APIConnectionError):
        return ModelError(f"{name}: no connection ({type(_root(error)).__name__})", model=name, retryable=True)
    if isinstance(error, sdk.APIStatusError):
        status = int(error.status_code)
        said = redact(_said(error.body), *secrets)
        return ModelError(
            f"{name}: HTTP {status}{f': {said}' if said else ''}",
            model=name,
            retryable=status in _RETRYABLE or status >= 500,
            status=status,
            retry_after_s=_retry_after(error.response.headers),
        )
    if type(error).__name__ in ("OpenAIError", "AnthropicError"):
        return ModelError(f"{name}: {redact(str(error), *secrets)}", model=name)  # about the settings: a missing key
    # A ValueError or TypeError is about the request; a second try would meet it again.
    return ModelError(f"{name}: {type(error).__name__}", model=name, retryable=not isinstance(error, ValueError | TypeError))


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by ``Retry-After``, a number or a date, or by the finer header that OpenAI sends beside it."""
    try:
        if (fine := headers.get("retry-after-ms")) is not None:
            seconds = float(fine) / 1000
        elif (said := headers.get("retry-after")) is None:
            return None
        elif said.strip().isdigit():
            seconds = float(said)
        else:
            from email.utils import parsedate_to_datetime

            seconds = parsedate_to_datetime(said).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _is_timeout(error: BaseException) -> bool:
    """The aiohttp transport calls every lost or refused connection a timeout; the first cause knows better."""
    root = _root(error)
    return isinstance(root, TimeoutError) or "Timeout" in type(root).__name__


def _said(body: Any) -> str:
    """The provider's message in an error body, whichever shape it has."""
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        if isinstance(inner, Mapping):
            return str(inner.get("message") or "")
        return inner if isinstance(inner, str) else ""
    return ""


def read_json(content: bytes, name: str, *secrets: str | None) -> Mapping[str, Any]:
    """The body as a mapping. Raises ModelError for HTML, cut JSON, invalid UTF-8 and whatever else is no JSON object."""
    from jiter import from_json

    try:
        body = from_json(content)
    except ValueError:
        body = None
    if not isinstance(body, Mapping):
        raise malformed(name, "the body is not a JSON object")
    if body.get("error"):  # proxies report a failed upstream with status 200
        raise malformed(name, f"an error instead of an answer: {redact(_said(body), *secrets)}")
    return body


def malformed(name: str, what: str) -> ModelError:
    """A reply that is not what the protocol says: the provider's fault, worth one more try."""
    return ModelError(f"{name}: malformed reply: {what}", model=name, retryable=True)


def schema_of(prompt: Prompt) -> dict[str, Any] | None:
    """The prompt's JSON Schema, or None."""
    if prompt.schema is None:
        return None
    from judges.schema import json_schema_of

    return json_schema_of(prompt.schema)


def tell_schema(messages: Sequence[Mapping[str, Any]], schema: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """The messages with the schema told in words, for servers that know none (and refuse JSON mode without the word)."""
    told = f"Answer with JSON only, valid against this JSON Schema:\n{json.dumps(schema, ensure_ascii=False)}"
    first = messages[0]
    # One system message, and it first: many chat templates refuse any other.
    if first.get("role") in ("system", "developer"):
        content = first.get("content")
        joined = f"{content}\n\n{told}" if isinstance(content, str) else [*(content or ()), {"type": "text", "text": told}]
        return ({**first, "content": joined}, *messages[1:])
    return ({"role": "system", "content": told}, *messages)


def count(value: Any) -> int:
    """A token count: whatever is no whole number from 0 on counts as 0."""
    return value if type(value) is int and value > 0 else 0


def counted(usage: Any, *needed: str) -> bool:
    """Whether the needed counts are there. Where they are not, the cost is unknown, not 0."""
    return isinstance(usage, Mapping) and all(type(usage.get(k)) is int and usage[k] >= 0 for k in needed)


def mapping(value: Any) -> Mapping[str, Any]:
    """``value`` where it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def finite(value: Any) -> bool:
    """Whether ``value`` is a number that can be a log-probability."""
    return type(value) in (float, int) and math.isfinite(value)


async def side_by_side(one: Callable[[], Awaitable[Answer]], n: int) -> list[Answer]:
    """``n`` answers asked for at once. Those that fail are left out, since the others are paid for; ModelError if all do."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_fault_as_value(one)) for _ in range(n)]
    found = [task.result() for task in tasks]
    answers = [a for a in found if isinstance(a, Answer)]
    if not answers:
        raise next(e for e in found if isinstance(e, ModelError))
    return answers


async def _fault_as_value(one: Callable[[], Awaitable[Answer]]) -> Answer | ModelError:
    try:
        return await one()
    except ModelError as error:
        return error
