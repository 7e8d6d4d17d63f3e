"""Rates of keys that every gateway with the same journal shares: one bucket a key, in the journal's database."""

import asyncio
import logging
from dataclasses import dataclass, field
from time import monotonic

from cascade.errors import JournalError
from cascade.gateway.errors import ApiError
from cascade.journal.ledger import SqlLedger
from cascade.journal.store import SqlStore
from cascade.util.log_events import Event, LimitedLog

_warnings = LimitedLog(logging.getLogger("cascade.gateway"))
_WAIT_S = 5.0  # for the database
_TABLE = "CREATE TABLE IF NOT EXISTS cascade_rates (scope TEXT PRIMARY KEY, full_at DOUBLE PRECISION NOT NULL)"


@dataclass(slots=True, kw_only=True, eq=False)
class SharedRates:
    """Takes a request's token from its key's bucket, in one transaction.

    While the database cannot be used, requests of keys with a rate are refused, since their rate cannot be checked.

    Args:
        ledger: The ledger whose database and thread are used.
    """

    ledger: SqlLedger
    _has_table: bool = False
    _blocked: dict[str, float] = field(default_factory=dict)  # until when a key certainly has no token

    async def take(self, key: str, per_minute: float, capacity: float) -> float:
        """Takes a token.

        Args:
            key: The key's id.
            per_minute: How many tokens its bucket gains per minute.
            capacity: How many it holds at most.

        Returns:
            0.0, or the seconds until there is one where there is none.

        Raises:
            ApiError: 503 where the database cannot be used.
        """
        now = monotonic()
        wait = self._blocked.get(key, 0.0) - now
        if wait > 0:  # a client that goes on costs the database nothing
            return wait
        work = self.ledger.submit(lambda store: self._take(store, f"rate {key}", 60 / per_minute, capacity))
        try:
            async with asyncio.timeout(_WAIT_S):
                wait = await asyncio.wrap_future(work)
        except Exception as error:
            if not isinstance(error, JournalError | TimeoutError | OSError) and type(error).__module__ == "builtins":
                raise
            _warnings.warning(
                "store", Event("key rates cannot be checked; keys with a rate are refused", error=type(error).__name__)
            )
            message = "the key's rate cannot be checked; try again"
            raise ApiError(503, message, code="rate_unavailable", retry_after_s=1) from None
        if wait > 0:
            self._blocked[key] = now + wait
        return wait

    def _take(self, store: SqlStore, scope: str, interval_s: float, capacity: float) -> float:
        """The bucket is full at ``full_at``, and each token puts that off by ``interval_s``."""
        scope = store.lease_prefix + scope
        with store.transaction():
            store.lock([scope])
            if not self._has_table:
                store.execute(_TABLE)
            rows = store.execute(f"SELECT {store.now_sql}, (SELECT full_at FROM cascade_rates WHERE scope = ?)", (scope,))
            ((now, full_at),) = rows
            full_at = max(float(full_at or 0.0), float(now)) + interval_s
            wait = full_at - float(now) - capacity * interval_s
            if wait > 1e-6:
                return wait
            store.execute(
                "INSERT INTO cascade_rates (scope, full_at) VALUES (?, ?) "
                "ON CONFLICT (scope) DO UPDATE SET full_at = excluded.full_at",
                (scope, full_at),
            )
        self._has_table = True
        return 0.0
