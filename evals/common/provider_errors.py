"""What a provider's error means for whoever comes next: whether it is of use to ask again, what to do, what its kind is."""

import re

from cascade.models.protocol import ModelError

_QUOTED = re.compile(r"'[^']*'")
_KEY = "check the key, in the environment variable that 'api_key_env' names or the provider's own"
_ACCOUNT = "check the account at the provider"
_REMEDIES = {401: _KEY, 402: _ACCOUNT, 403: _KEY, 404: "check 'model' and 'base_url' in the policy file", 429: _ACCOUNT}


def hopeless(error: ModelError) -> bool:
    """Whether asking the model again is useless, whatever is asked."""
    return error.status in _REMEDIES and (error.status != 429 or not error.retryable)


def with_remedy(error: ModelError) -> str:
    """What an error that ends a model says, and what to do."""
    remedy = _REMEDIES.get(error.status or 0)
    return f"{error}; {remedy}" if remedy is not None and hopeless(error) else str(error)


def kind_of(error: ModelError) -> str:
    """What an error has in common with its like: its HTTP status, or its message without the particulars."""
    if error.status is not None:
        return f"HTTP {error.status}"
    said = _QUOTED.sub("...", str(error).removeprefix(f"{error.model}: "))
    return re.split(r": | \(|; ", said)[0][:60]
