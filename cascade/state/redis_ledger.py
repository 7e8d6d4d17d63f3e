"""A LeasedLedger in Valkey or Redis: budgets and key rates of gateways on many machines."""

import math
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any, Unpack

from cascade.costs import budget_alarms
from cascade.costs.budget import check_room
from cascade.errors import StateError
from cascade.resilience.store_health import StoreHealth
from cascade.result import new_run_id
from cascade.util.extras import MissingExtraError, needed_by

from . import scripts
from .budget_blocks import Entry
from .leased_ledger import ROUNDING, LeasedLedger, LedgerSettings
from .session import NoConnectionError

TIMEOUT_S = 1.0
"""For connecting, and for each answer, in seconds."""
PING_S = 1.0
GRACE_S = 3.0
"""After a server came back without its data: until then every process has stated again what it has spent and holds."""
_MARK_S = 60.0  # buckets that are missing begin empty
_DAY_S, _MONTH_S = 3 * 86_400, 40 * 86_400  # how long a scope is kept after its last use
_MOST_TOTALS = 50_000
_PREFIX = "{cascade}:"
_NAME, _GRACE, _MARK = f"{_PREFIX}name", f"{_PREFIX}grace", f"{_PREFIX}lost"
_SCRIPTS = {name: getattr(scripts, name) for name in ("TAKE", "ENTER", "SPENT", "TOKEN", "OPEN")}


class RedisConnection:
    """One connection for one thread, with the ledger's scripts.

    Args:
        url: ``redis://``, ``rediss://``, ``valkey://`` or ``valkeys://``, with user and password where they are needed.

    Raises:
        NoConnectionError: The server cannot be reached.
    """

    def __init__(self, url: str) -> None:
        redis = _driver()
        self._errors = (redis.exceptions.RedisError, OSError)
        self._client: Any = None
        try:
            self._client = redis.Redis.from_url(
                _spelling(url),
                socket_timeout=TIMEOUT_S,
                socket_connect_timeout=TIMEOUT_S,
                decode_responses=True,
                single_connection_client=True,
                retry=None,
                client_name="cascade",
            )
            self._scripts = {name: self._client.script_load(text) for name, text in _SCRIPTS.items()}
        except self._errors as error:
            self.close()
            raise NoConnectionError(type(error).__name__) from error

    def run(self, script: str, keys: Sequence[str], values: Sequence[str | int] = ()) -> Any:
        """Runs a script of the ledger, in one round trip."""
        return self._client.evalsha(self._scripts[script], len(keys), *keys, *values)

    def ping(self) -> None:
        """Raises an error where the server is unavailable."""
        self._client.ping()

    def is_down(self, error: Exception) -> bool:
        """See ``Connection``: also a server that loads its data, has no memory left or is a replica now."""
        return isinstance(error, self._errors)

    def close(self) -> None:
        """See ``Connection``."""
        if self._client is not None:
            self._client.close()


class RedisLedger(LeasedLedger[RedisConnection]):
    """See LeasedLedger. Leases and rates go by the server's clock.

    The process states what it has spent in all. So nothing counts twice when an answer is lost, and a server that comes back
    without its data learns again from the living processes what was spent; for ``GRACE_S`` it grants nothing until then.

    Args:
        url: The server's URL, password and all.
        health: The server's state.
        settings: See LeasedLedger.

    Raises:
        StateError: redis-py is not installed.
    """

    def __init__(self, url: str, health: StoreHealth, **settings: Unpack[LedgerSettings]) -> None:
        try:
            _driver()  # now, so that no request waits for the import
        except MissingExtraError as error:
            raise StateError(str(error)) from None
        self._url = url
        self._totals: dict[str, float] = {}  # what this process has entered, by scope
        self._data_name = ""
        settings.setdefault("ping_s", PING_S)
        settings.setdefault("wait_s", 2 * TIMEOUT_S)
        super().__init__(self._open, health, **settings)

    def restart(self) -> None:
        """See ``ForkAware.restart``."""
        super().restart()
        self._totals = {}

    def _open(self) -> RedisConnection:
        """A connection to a server that knows what this process has spent and holds."""
        connection = RedisConnection(self._url)
        try:
            marks = (int(GRACE_S * 1000), int(_MARK_S * 1000))
            names = (self._data_name, new_run_id())
            self._data_name = connection.run("OPEN", (_NAME, _GRACE, _MARK), (*names, *marks))
            now = monotonic()
            scopes = {*self._totals, *self._blocks.scopes()}
            held = {scope: self._blocks.held(scope, now) for scope in scopes}
            if held:
                self._state(connection, held, self._totals)
        except Exception as error:
            connection.close()
            if connection.is_down(error):
                raise NoConnectionError(type(error).__name__) from error
            raise
        return connection

    def _state(self, connection: RedisConnection, held: Mapping[str, float], totals: Mapping[str, float]) -> list[float]:
        """States what this process has spent in all and holds; what everybody has spent, by scope."""
        values: list[str | int] = [self._owner, _text(self._expire_s)]
        for scope, usd in held.items():
            values += (_text(totals.get(scope, 0.0)), _text(usd), _kept_s(scope))
        return [float(spent) for spent in connection.run("ENTER", _keys(held), values)]

    def _take(
        self, connection: RedisConnection, lacking: Mapping[str, float], usd: float, now: float
    ) -> Mapping[str, float]:
        values: list[str | int] = [self._owner, *map(_text, (usd, self._share, self._expire_s, ROUNDING))]
        for scope, limit in lacking.items():
            block = self._blocks.state(scope)
            amounts = (limit, self._totals.get(scope, 0.0), self._blocks.held(scope, now), block.reserved, block.unreported)
            values += (*map(_text, amounts), _kept_s(scope))
        status, *reply = connection.run("TAKE", (_GRACE, *_keys(lacking)), values)
        if status == "recovering":
            raise StateError(f"{self.health.where}: the shared state lost its data; it is being restored, try again")
        scopes = list(lacking)
        if status == "refused":
            scope, spent, reserved = scopes[int(reply[0]) - 1], float(reply[1]), float(reply[2])
            self._note_spent(scope, float(reply[3]))
            check_room(scope, spent + reserved, max(0.0, usd - ROUNDING), lacking[scope], reserved)
            raise AssertionError("the server refused what fits")
        granted = {}
        for scope, amount, spent, entered in zip(scopes, *(map(float, reply[i::3]) for i in range(3)), strict=True):
            granted[scope] = amount
            self._note_spent(scope, entered)
            if spent >= budget_alarms.FIRST * lacking[scope]:
                budget_alarms.check(scope, spent, lacking[scope])
        return granted

    def _enter(self, connection: RedisConnection, entries: Mapping[str, Entry]) -> None:
        totals = {scope: self._totals.get(scope, 0.0) + entry.spent for scope, entry in entries.items()}
        spent_by_all = self._state(connection, {scope: entry.held for scope, entry in entries.items()}, totals)
        for (scope, entry), spent in zip(entries.items(), spent_by_all, strict=True):
            if totals[scope]:
                self._totals.pop(scope, None)  # the latest ones last
                self._totals[scope] = totals[scope]
            self._note_spent(scope, spent)
            if entry.spent and entry.limit:
                budget_alarms.check(scope, spent, entry.limit)
        while len(self._totals) > _MOST_TOTALS:
            del self._totals[next(iter(self._totals))]

    def _spent_and_held(self, connection: RedisConnection, scope: str) -> float:
        return float(connection.run("SPENT", _keys((scope,))))

    def _token(self, connection: RedisConnection, key: str, interval_s: float, capacity: float) -> float:
        keys = (f"{_PREFIX}rate:{key}", _MARK)
        return float(connection.run("TOKEN", keys, (_text(interval_s), _text(capacity))))

    def _ping(self, connection: RedisConnection) -> None:
        connection.ping()


def _keys(scopes: Mapping[str, float] | Sequence[str]) -> list[str]:
    return [f"{_PREFIX}{what}:{scope}" for scope in scopes for what in ("spent", "held")]


def _kept_s(scope: str) -> int:
    """A day's scope begins with the day (2026-01-31), a month's with the month (2026-01)."""
    return _DAY_S if scope[7:8] == "-" else _MONTH_S


def _text(number: float) -> str:
    return repr(float(number)) if math.isfinite(number) else "1e308"


def _spelling(url: str) -> str:
    """The URL with the schemes that redis-py knows."""
    return f"redis{url.removeprefix('valkey')}" if url.startswith("valkey") else url


def _driver() -> Any:
    with needed_by("shared state in Valkey or Redis"):
        import redis
    return redis
