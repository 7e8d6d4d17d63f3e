"""The API keys in service: those that are stored, and those that a container gets in CASCADE_KEYS."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cascade.errors import CascadeError

from .key import Key
from .key_store import KeyStore

KEYS = "CASCADE_KEYS"
_SECRET = re.compile(r"sk-cg-([0-9a-f]{8})-[0-9a-f]{64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FIELDS = frozenset(("name", "key", "id", "sha256", "policies", "usd_per_day", "per_minute", "expires"))


def read_keys(store: KeyStore | None) -> list[Key]:
    """Every key in service: those of CASCADE_KEYS, then those that are stored.

    Raises:
        CascadeError: The variable or the store cannot be read.
    """
    return [*keys_of(os.environ.get(KEYS, "")), *(store.read() if store is not None else ())]


def keys_of(text: str) -> list[Key]:
    """Reads keys as CASCADE_KEYS holds them.

    Args:
        text: ``name=key`` pairs, separated by commas or white space; or a JSON list of objects with ``name``, ``key`` (or
            its ``id`` and ``sha256``) and, where a key is limited, ``policies``, ``usd_per_day``, ``per_minute``,
            ``expires`` (a date or a time, UTC).

    Returns:
        The keys.

    Raises:
        CascadeError: The text is no such list; the message quotes no key.
    """
    text = text.strip()
    if not text:
        return []
    entries: list[Any] = []
    if text.startswith("["):
        try:
            entries = json.loads(text)
        except (ValueError, RecursionError):
            raise CascadeError(f"{KEYS}: not a JSON list") from None
    else:
        for pair in re.split(r"[\s,]+", text.strip(",")):
            name, equals, secret = pair.partition("=")
            if not equals:
                raise CascadeError(f"{KEYS}: write name=key pairs, separated by commas, or a JSON list")
            entries.append({"name": name, "key": secret})
    keys = [_key(entry, f"{KEYS}[{i}]") for i, entry in enumerate(entries)]
    for what in ("name", "id"):
        values = [getattr(key, what) for key in keys]
        if len(set(values)) < len(values):
            raise CascadeError(f"{KEYS}: two keys have the same {what}")
    return keys


def _key(entry: Any, where: str) -> Key:
    if not isinstance(entry, Mapping) or not entry.keys() <= _FIELDS:
        raise CascadeError(f"{where}: must be an object with the fields {', '.join(sorted(_FIELDS))} only")
    name, secret, policies = entry.get("name"), entry.get("key"), entry.get("policies")
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= 64:
        raise CascadeError(f"{where}.name: must have 1 to 64 printable characters")
    if secret is not None:
        match = _SECRET.fullmatch(secret) if isinstance(secret, str) else None
        if match is None or "id" in entry or "sha256" in entry:
            raise CascadeError(f"{where}.key: must be a key as `cascade keys create` prints it, without id and sha256")
        id, sha256 = match[1], hashlib.sha256(secret.encode()).hexdigest()
    else:
        id, sha256 = str(entry.get("id") or ""), str(entry.get("sha256") or "")
        if not id or not _SHA256.fullmatch(sha256):
            raise CascadeError(f"{where}: needs a key, or its id and sha256")
    if policies is not None and not (isinstance(policies, list) and all(isinstance(one, str) for one in policies)):
        raise CascadeError(f"{where}.policies: must be a list of names")
    return Key(
        id=id,
        name=name,
        sha256=sha256,
        policies=None if policies is None else tuple(policies),
        usd_per_day=_limit(entry, "usd_per_day", where),
        per_minute=_limit(entry, "per_minute", where),
        expires=_moment(entry.get("expires"), where),
    )


def _moment(value: Any, where: str) -> float | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise CascadeError(f"{where}.expires: must be a date or a time such as 2027-01-31") from None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def _limit(entry: Mapping[str, Any], name: str, where: str) -> float | None:
    value = entry.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise CascadeError(f"{where}.{name}: must be a number above 0")
    return float(value)
