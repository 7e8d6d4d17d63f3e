"""Authentication: keys in the headers of a request, checked against the key file that is in service."""

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Container, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from cascade.engine.plan import DailyBudgets
from cascade.gateway.errors import ApiError

from .key import Key

if TYPE_CHECKING:
    from .rates import SharedRates

MAX_HEADER_BYTES = 32 * 1024
_BURST_S = 10.0
_UNKNOWN_KEY = hashlib.sha256(b"").hexdigest()
_NO_KEY = Key(id="", name="", sha256=_UNKNOWN_KEY)
_HOST = re.compile(rb"(?:\[(?P<ip6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9.-]+))(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The sender of a request.

    Attributes:
        name: The name of the key; None: no key.
        policies: The policies that it may use; None: all.
        daily: The key's own daily budget.
        id: The key's id; empty: no key.
        per_minute: Most requests per minute; None: no limit.
    """

    name: str | None = None
    policies: frozenset[str] | None = None
    daily: DailyBudgets = ()
    id: str = ""
    per_minute: float | None = None

    def may(self, name: str, all_policies: Container[str]) -> bool:
        """Whether it may use a policy, or a single tier of it (``policy/tier``)."""
        if self.policies is None or name in self.policies:
            return True
        return name not in all_policies and name.rpartition("/")[0] in self.policies


ANYONE = Caller()


@dataclass(slots=True)
class _TokenBucket:
    """A key's rate: the bucket fills with ``per_minute`` tokens a minute, up to ten seconds' worth."""

    tokens: float = field(default=-1.0)
    at: float = 0.0

    def take(self, per_minute: float) -> float:
        """Takes a token. Returns the seconds until there is one; 0 where one was taken."""
        now, capacity = monotonic(), _capacity(per_minute)
        level = capacity if self.tokens < 0 else min(capacity, self.tokens + (now - self.at) * per_minute / 60)
        self.at, self.tokens = now, level
        if level >= 1.0:
            self.tokens = level - 1.0
            return 0.0
        return (1.0 - level) * 60 / per_minute


class Keys:
    """The keys in service. Without any, every local user may use the gateway, which then only listens on loopback."""

    def __init__(self, keys: Sequence[Key] = ()) -> None:
        self._by_id: dict[str, tuple[Key, Caller]] = {}
        self._buckets: dict[str, _TokenBucket] = {}
        self.replace(keys)

    @property
    def exist(self) -> bool:
        """Whether any key was ever created; once all are revoked, every request is refused."""
        return bool(self._by_id)

    def replace(self, keys: Sequence[Key]) -> None:
        """Puts other keys into service. An empty list changes nothing: deleting the file must not open the gateway."""
        if not keys:
            return
        self._by_id = {key.id: (key, _caller(key)) for key in keys}
        self._buckets = {key.id: self._buckets.get(key.id) or _TokenBucket() for key in keys if key.per_minute is not None}

    def budgets(self) -> list[tuple[str, str, float | None]]:
        """The daily budgets of valid keys: scope, label, USD."""
        now = time()
        valid = [key for key, _ in self._by_id.values() if key.is_valid(now)]
        return [(_scope(key), f"key {key.name}", key.usd_per_day) for key in valid]

    def expiring(self, within_s: float) -> list[Key]:
        """The valid keys that expire within ``within_s`` seconds."""
        now = time()
        keys = [key for key, _ in self._by_id.values() if key.is_valid(now)]
        return [key for key in keys if key.expires is not None and key.expires < now + within_s]

    def caller(self, scope: MutableMapping[str, Any], *, public: bool = False) -> Caller:
        """The sender of a request.

        Args:
            scope: The ASGI scope. No headers but Authorization and x-api-key identify the caller.
            public: The route needs no key.

        Returns:
            The caller.

        Raises:
            ApiError: 401 without a valid key, 403 from another site's page, 431 for long headers.
        """
        if scope["query_string"] and (error := _query_error(scope["query_string"], scope.get("path", ""))):
            raise error
        size = 0
        keys: list[bytes] = []
        host = origin = site = b""
        for name, value in scope["headers"]:
            size += len(name) + len(value)
            if name == b"authorization":
                kind, _, key = value.partition(b" ")
                keys.append(key.strip() if kind.lower() == b"bearer" else b"")
            elif name == b"x-api-key":
                keys.append(value)
            elif name == b"host":
                host = value
            elif name == b"origin":
                origin = value
            elif name == b"sec-fetch-site":
                site = value
        if size > MAX_HEADER_BYTES:
            raise ApiError(431, f"the headers have more than {MAX_HEADER_BYTES} bytes", code="headers_too_large")
        if not self._by_id:
            check_same_origin(host, origin, site)
            return ANYONE
        if public:
            return ANYONE
        if not keys:
            raise _unauthorized("an API key is required: send 'Authorization: Bearer <key>' or 'x-api-key: <key>'")
        if len(set(keys)) > 1:
            raise _unauthorized("two different API keys were sent")
        return self._verify(keys[0])

    async def check_rate(self, caller: Caller, per_minute: float, shared: "SharedRates | None") -> None:
        """Counts a request against its key's rate.

        Args:
            caller: Who sent it.
            per_minute: The key's rate.
            shared: Where the rate is kept for several gateways; None: here.

        Raises:
            ApiError: 429 over the rate, 503 where it cannot be checked.
        """
        wait = None if shared is None else await shared.take(caller.id, per_minute, _capacity(per_minute))
        if wait is None:
            wait = self._buckets.setdefault(caller.id, _TokenBucket()).take(per_minute)
        if wait:
            message = f"this key may send {per_minute:g} requests per minute"
            raise ApiError(429, message, code="rate_limit_exceeded", retry_after_s=wait)

    def _verify(self, secret: bytes) -> Caller:
        parts = secret.split(b"-", 4)
        entry = self._by_id.get(parts[2].decode("latin-1")) if len(parts) > 3 else None
        # The same work for an unknown key. Hashes are compared: their timing reveals nothing about the key.
        digest = hashlib.sha256(secret).hexdigest()
        key = entry[0] if entry is not None else _NO_KEY
        present = hmac.compare_digest(digest, key.sha256)
        previous = hmac.compare_digest(digest, key.previous_sha256 or _UNKNOWN_KEY)
        if entry is not None and key.revoked is None and (present or previous):
            now = time()
            if key.is_valid(now) if present else key.previous_is_valid(now):
                return entry[1]
            raise _unauthorized("the API key has expired")
        raise _unauthorized("the API key is not valid")


_PARAMETERS = frozenset((b"beta",))  # the header anthropic-beta names the betas
_MODELS_PARAMETERS = _PARAMETERS | {b"limit", b"after_id", b"before_id"}
_FILTERS = frozenset((b"", b"days", b"policy", b"task", b"caller", b"tag", b"outcome", b"step", b"labelled", b"order"))


def _capacity(per_minute: float) -> float:
    """How many requests a key may send at once."""
    return max(1.0, per_minute * _BURST_S / 60)


def _scope(key: Key) -> str:
    return f"key {key.id}"


def _caller(key: Key) -> Caller:
    daily = () if key.usd_per_day is None else ((_scope(key), key.usd_per_day),)
    return Caller(
        name=key.name,
        policies=None if key.policies is None else frozenset(key.policies),
        daily=daily,
        id=key.id,
        per_minute=key.per_minute,
    )


def _unauthorized(message: str) -> ApiError:
    return ApiError(401, message, code="invalid_api_key")


def _query_error(query: bytes, path: str) -> ApiError | None:
    """Why a query is refused; None where each of its parameters is known: Anthropic's clients send a few."""
    names = {part.partition(b"=")[0].lower() for part in query.split(b"&")}
    known_names = _MODELS_PARAMETERS if path == "/v1/models" else _PARAMETERS
    if path in ("/dashboard/quality", "/dashboard/quality/runs"):
        known_names = _FILTERS
    if path == "/dashboard/review/next":
        known_names = frozenset((b"skip", b"order"))
    if path == "/dashboard/review.html":
        known_names = frozenset((b"order",))  # which the page's own script reads
    if names <= known_names:
        return None
    if b"sk-" in query or names & {b"key", b"api_key", b"api-key", b"apikey", b"token", b"access_token", b"x-api-key"}:
        message = "a key in a URL ends up in logs: revoke it, and send the next one in the header Authorization"
        return ApiError(400, message, code="key_in_query")
    return ApiError(400, "query parameters are not supported; put them into the body", code="unknown_parameter")


def check_same_origin(host: bytes, origin: bytes, site: bytes) -> None:
    """Rejects requests of web pages from other sites, which a browser on this machine may show; used without keys.

    Args:
        host: The header Host; it must name this machine.
        origin: The header Origin (empty: none); it must be the gateway's own.
        site: The header Sec-Fetch-Site (empty: none); other sites and other ports are rejected.

    Raises:
        ApiError: 403.
    """
    match = _HOST.fullmatch(host)
    if match is None or not is_loopback((match["ip6"] or match["name"]).decode()):
        raise ApiError(403, "host: without API keys only loopback names and addresses are served", code="wrong_host")
    if origin and origin.lower() not in (b"http://" + host.lower(), b"https://" + host.lower()):
        raise ApiError(403, "origin: without API keys no other site's pages are served", code="wrong_origin")
    if site not in (b"", b"same-origin", b"none"):
        raise ApiError(403, "sec-fetch-site: without API keys no other site's pages are served", code="wrong_origin")


@lru_cache(maxsize=64)  # called for every request without a key, mostly with the same host
def is_loopback(host: str) -> bool:
    """Whether a host name or an address is a loopback one."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
