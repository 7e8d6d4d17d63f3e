"""What both SDK models share: transport, error mapping, redaction, reading a body.

The SDKs do what they are good at (addresses, authentication, connections, errors); the body is read as plain JSON,
because building the SDKs' objects for every token's log-probabilities costs more than the whole of a run.
"""

import re
from collections.abc import Mapping
from typing import Any

from judges import Prompt

from .model import ModelError

_RETRYABLE = frozenset((408, 409, 429))
_SECRET = re.compile(r"(?i)\b(?:sk|pk|key|api)[-_][\w-]{6,}|bearer\s+\S+|(?<=://)[^/\s@]+@|x-api-key\S*\s*\S+")
_MAX_TEXT = 200


def transport(sdk: Any, base_url: str | None, timeout_s: float) -> Any:
    """The SDK's HTTP client: on aiohttp where that is installed (several times the requests a second of the default)."""
    import httpx2

    limits = httpx2.Limits(max_connections=2000, max_keepalive_connections=1000)
    try:
        return sdk.DefaultAioHttpClient(timeout=timeout_s, limits=limits)
    except RuntimeError:  # the SDK's word for "aiohttp is not installed"
        return sdk.DefaultAsyncHttpxClient(timeout=timeout_s, limits=limits)


def redact(text: str, *secrets: str | None) -> str:
    """``text`` without the given secrets and without whatever looks like a key, cut to 200 characters."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[redacted]")
    return _SECRET.sub("[redacted]", text)[:_MAX_TEXT]


def fault(sdk: Any, error: Exception, name: str, *secrets: str | None) -> ModelError:
    """An SDK's exception as a ModelError; the original is left out of it, since it holds headers and the request."""
    if isinstance(error, sdk.APITimeoutError):
        return ModelError(f"{name}: timed out", model=name, retryable=True)
    if isinstance(error, sdk.APIConnectionError):
        cause = type(error.__cause__).__name__ if error.__cause__ is not None else "connection error"
        return ModelError(f"{name}: no connection ({cause})", model=name, retryable=True)
    if isinstance(error, sdk.APIStatusError):
        status = int(error.status_code)
        said = redact(_said(error.body), *secrets)
        return ModelError(
            f"{name}: HTTP {status}{f': {said}' if said else ''}",
            model=name,
            retryable=status in _RETRYABLE or status >= 500,
            status=status,
        )
    # A ValueError or TypeError is about the request; a second try would meet it again.
    return ModelError(f"{name}: {type(error).__name__}", model=name, retryable=not isinstance(error, ValueError | TypeError))


def _said(body: Any) -> str:
    """The provider's message in an error body, whichever shape it has."""
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        if isinstance(inner, Mapping):
            return str(inner.get("message", ""))
        return str(inner)
    return ""


def read_json(content: bytes, name: str) -> Mapping[str, Any]:
    """The body as a mapping. Raises ModelError for HTML, cut JSON, invalid UTF-8 and whatever else is no JSON object."""
    from jiter import from_json

    try:
        body = from_json(content)
    except ValueError:
        body = None
    if not isinstance(body, Mapping):
        raise malformed(name, "the body is not a JSON object")
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


def count(value: Any) -> int:
    """A token count: whatever is no whole number from 0 on counts as 0."""
    return value if isinstance(value, int) and value > 0 else 0
