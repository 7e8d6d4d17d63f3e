"""Reads a provider's error: whether a retry can help, what to do about it, and how to group it with similar ones."""

import re

from cascade.models.protocol import ModelError

_QUOTED = re.compile(r"'[^']*'")
_KEY = "check the key, in the environment variable that 'api_key_env' names or the provider's own"
_ACCOUNT = "check the account at the provider"
_REMEDIES = {401: _KEY, 402: _ACCOUNT, 403: _KEY, 404: "check 'model' and 'base_url' in the policy file", 429: _ACCOUNT}


def is_permanent(error: ModelError) -> bool:
    """Whether every request to this model will fail: a wrong key, a wrong model name, an exhausted account."""
    return error.status in _REMEDIES and (error.status != 429 or not error.retryable)


def with_remedy(error: ModelError) -> str:
    """The error's message, with what to do about it where the error is permanent."""
    remedy = _REMEDIES.get(error.status or 0)
    return f"{error}; {remedy}" if remedy is not None and is_permanent(error) else str(error)


def error_kind(error: ModelError) -> str:
    """A label by which errors are grouped: the HTTP status, otherwise the message without names and details."""
    if error.status is not None:
        return f"HTTP {error.status}"
    message = _QUOTED.sub("...", str(error).removeprefix(f"{error.model}: "))
    return re.split(r": | \(|; ", message)[0][:60]
