"""Who asks: keys in the headers of a request, checked against the key file that is in service."""

import hashlib
import hmac
import ipaddress
from collections.abc import Container, MutableMapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from cascade.engine.plan import DailyBudgets
from cascade.gateway.errors import ApiError

from .key_file import Key

MOST_HEADER_BYTES = 32 * 1024
_BURST_S = 10.0
_NOBODY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sent a request. ``policies`` are those that it may use (None: all); ``daily`` its own budget."""

    name: str | None = None
    policies: frozenset[str] | None = None
    daily: DailyBudgets = ()

    def may(self, name: str, known: Container[str]) -> bool:
        """Whether it may use a policy, or a tier of it alone (``policy/tier``); ``known`` are all policies."""
        if self.policies is None or name in self.policies:
            return True
        return name not in known and name.rpartition("/")[0] in self.policies


ANYONE = Caller()


@dataclass(slots=True)
class _Rate:
    """A key's bucket: it fills with ``per_minute`` a minute, up to ten seconds' worth."""

    tokens: float = field(default=-1.0)
    at: float = 0.0

    def take(self, per_minute: float) -> float:
        """Takes one; the seconds until there is one where there is none."""
        now = monotonic()
        most = max(1.0, per_minute * _BURST_S / 60)
        filled = most if self.tokens < 0 else min(most, self.tokens + (now - self.at) * per_minute / 60)
        self.at, self.tokens = now, filled
        if filled >= 1.0:
            self.tokens = filled - 1.0
            return 0.0
        return (1.0 - filled) * 60 / per_minute


class Keys:
    """The keys in service. Without any, whoever reaches the gateway may use it: it then listens on this machine alone."""

    def __init__(self, keys: Sequence[Key] = ()) -> None:
        self._by_id: dict[str, tuple[Key, Caller]] = {}
        self._rates: dict[str, _Rate] = {}
        self.replace(keys)

    @property
    def exist(self) -> bool:
        """Whether any was ever made; with all revoked nobody gets in."""
        return bool(self._by_id)

    def replace(self, keys: Sequence[Key]) -> None:
        """Puts others into service. An empty list changes nothing: a file that vanished opens no door."""
        if not keys:
            return
        self._by_id = {key.id: (key, _caller(key)) for key in keys}
        self._rates = {key.id: self._rates.get(key.id) or _Rate() for key in keys if key.per_minute is not None}

    def budgets(self) -> list[tuple[str, str, float | None]]:
        """The day's budgets of valid keys: scope, what to call it, USD."""
        valid = [key for key, _ in self._by_id.values() if key.revoked is None]
        return [(_scope(key), f"key {key.name}", key.usd_per_day) for key in valid]

    def caller(self, scope: MutableMapping[str, Any], *, open: bool = False, counts: bool = False) -> Caller:
        """Who sent this request. ``open``: no key is needed; ``counts``: it counts against the key's rate.

        Raises Refusal. No other header is read to find out who asks.
        """
        if scope["query_string"]:
            raise _query(scope["query_string"])
        size = 0
        found: list[bytes] = []
        host = origin = b""
        for name, value in scope["headers"]:
            size += len(name) + len(value)
            if name == b"authorization":
                kind, _, given = value.partition(b" ")
                found.append(given.strip() if kind.lower() == b"bearer" else b"")
            elif name == b"x-api-key":
                found.append(value)
            elif name == b"host":
                host = value
            elif name == b"origin":
                origin = value
        if size > MOST_HEADER_BYTES:
            raise ApiError(431, f"the headers have more than {MOST_HEADER_BYTES} bytes", code="headers_too_large")
        if not self._by_id:
            _check_local(host, origin)
            return ANYONE
        if open:
            return ANYONE
        if not found:
            raise _denied("a key is needed: send 'Authorization: Bearer <key>', or 'x-api-key: <key>'")
        if len(set(found)) > 1:
            raise _denied("two different keys were sent")
        return self._checked(found[0], counts)

    def _checked(self, given: bytes, counts: bool) -> Caller:
        parts = given.split(b"-")
        known = self._by_id.get(parts[2].decode("latin-1")) if len(parts) > 3 else None
        # The same work for a key that nobody has. What is compared are hashes: their bytes tell nothing of the key.
        told = hashlib.sha256(given).hexdigest()
        same = hmac.compare_digest(told, known[0].sha256 if known is not None else _NOBODY)
        if known is None or not same or known[0].revoked is not None:
            raise _denied("this key is not valid")
        key, caller = known
        if counts and key.per_minute is not None:
            wait = self._rates[key.id].take(key.per_minute)
            if wait:
                told = f"this key may ask {key.per_minute:g} times a minute"
                raise ApiError(429, told, code="rate_limit_exceeded", retry_after_s=wait)
        return caller


def _scope(key: Key) -> str:
    return f"key {key.id}"


def _caller(key: Key) -> Caller:
    daily = () if key.usd_per_day is None else ((_scope(key), key.usd_per_day),)
    return Caller(key.name, None if key.policies is None else frozenset(key.policies), daily)


def _denied(message: str) -> ApiError:
    return ApiError(401, message, code="invalid_api_key")


def _query(query: bytes) -> ApiError:
    names = {part.partition(b"=")[0].lower() for part in query.split(b"&")}
    if b"sk-" in query or names & {b"key", b"api_key", b"api-key", b"apikey", b"token", b"access_token", b"x-api-key"}:
        said = "a key in an address ends up in logs: revoke it, and send the next one in the header Authorization"
        return ApiError(400, said, code="key_in_query")
    return ApiError(400, "no parameters are read from an address; put them into the body", code="unknown_parameter")


def _check_local(host: bytes, origin: bytes) -> None:
    """Without keys, pages that a browser on this machine shows must not reach the gateway, by whatever name."""
    if not is_loopback(_name(host.decode("latin-1"))):
        raise ApiError(403, "host: without keys only this machine's own names are served", code="wrong_host")
    if origin and not is_loopback(_name(origin.decode("latin-1").partition("://")[2])):
        raise ApiError(403, "origin: without keys no other site's pages are served", code="wrong_origin")


def _name(host: str) -> str:
    """A host without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
