"""A LeasedLedger in the journal's database: budgets and key rates that hold over every process that shares it."""

from collections.abc import Callable, Mapping
from typing import Unpack

from cascade.costs import budget_alarms
from cascade.costs.budget import check_room
from cascade.resilience.store_health import StoreHealth
from cascade.state.budget_blocks import Entry
from cascade.state.leased_ledger import ROUNDING, LeasedLedger, LedgerSettings

from .store import SqlStore

_RATES = "CREATE TABLE IF NOT EXISTS cascade_rates (scope TEXT PRIMARY KEY, full_at DOUBLE PRECISION NOT NULL)"


class SqlLedger(LeasedLedger[SqlStore]):
    """See LeasedLedger. Leases and rates go by the database's own clock (see ``SqlStore.now_sql``), which does not jump.

    Args:
        connect: Opens a connection.
        health: The database's state; None: one with the rule ``closed``.
        settings: See LeasedLedger.
    """

    def __init__(
        self, connect: Callable[[], SqlStore], health: StoreHealth | None = None, **settings: Unpack[LedgerSettings]
    ) -> None:
        self._has_rates = False
        super().__init__(connect, health or StoreHealth("journal"), **settings)

    def _take(self, connection: SqlStore, lacking: Mapping[str, float], usd: float, now: float) -> Mapping[str, float]:
        store, granted = connection, {}
        with store.transaction():
            store.commit_durably()
            store.lock(lacking)
            for scope, limit in lacking.items():
                store.execute(
                    f"DELETE FROM cascade_held WHERE scope = ? AND (expires < {store.now_sql} OR key NOT LIKE ?)",
                    (scope, f"{store.lease_prefix}%"),
                )
                # A lease of our own is replaced: it may be larger than we know, where an answer was lost.
                spent, held_by_others = _spent(store, scope, self._owner)
                self._note_spent(scope, spent)
                mine, block = self._blocks.held(scope, now), self._blocks.state(scope)
                spent += block.unreported
                reserved = held_by_others + block.reserved
                check_room(scope, spent + reserved, max(0.0, usd - ROUNDING), limit, reserved)
                if spent >= budget_alarms.FIRST * limit:
                    budget_alarms.check(scope, spent, limit)
                needed = max(0.0, usd - (mine - block.reserved - block.unreported))
                granted[scope] = needed + self._share * max(0.0, limit - spent - reserved - usd)
            for scope, amount in granted.items():
                # Stated as a sum: a commit whose answer was lost is tried again.
                _hold(store, self._owner, scope, self._blocks.held(scope, now) + amount, self._expire_s)
        return granted

    def _enter(self, connection: SqlStore, entries: Mapping[str, Entry]) -> None:
        store = connection
        with store.transaction():
            store.commit_durably()
            store.lock(entries)
            for scope, entry in entries.items():
                if entry.spent:
                    store.execute(
                        "INSERT INTO cascade_spent (scope, usd) VALUES (?, ?) "
                        "ON CONFLICT (scope) DO UPDATE SET usd = cascade_spent.usd + excluded.usd",
                        (scope, entry.spent),
                    )
                _hold(store, self._owner, scope, entry.held, self._expire_s)
            for scope, entry in entries.items():
                if entry.spent and entry.limit:
                    ((spent,),) = store.execute("SELECT usd FROM cascade_spent WHERE scope = ?", (scope,))
                    self._note_spent(scope, float(spent))
                    budget_alarms.check(scope, float(spent), entry.limit)

    def _spent_and_held(self, connection: SqlStore, scope: str) -> float:
        return sum(_spent(connection, scope))

    def _token(self, connection: SqlStore, key: str, interval_s: float, capacity: float) -> float:
        """The bucket is full at ``full_at``, and each token puts that off by ``interval_s``."""
        store = connection
        scope = f"{store.lease_prefix}rate {key}"
        with store.transaction():
            store.lock([scope])
            if not self._has_rates:
                store.execute(_RATES)
            rows = store.execute(f"SELECT {store.now_sql}, (SELECT full_at FROM cascade_rates WHERE scope = ?)", (scope,))
            ((now, full_at),) = rows
            # No bucket is emptier than empty, whatever a clock said that was set since.
            full_at = min(max(float(full_at or 0.0), float(now)), float(now) + capacity * interval_s) + interval_s
            wait = full_at - float(now) - capacity * interval_s
            if wait > 1e-6:
                return wait
            store.execute(
                "INSERT INTO cascade_rates (scope, full_at) VALUES (?, ?) "
                "ON CONFLICT (scope) DO UPDATE SET full_at = excluded.full_at",
                (scope, full_at),
            )
        self._has_rates = True
        return 0.0

    def _ping(self, connection: SqlStore) -> None:
        connection.execute("SELECT 1")


def _hold(store: SqlStore, owner: str, scope: str, usd: float, expire_s: float) -> None:
    """States what a process holds of a scope."""
    key = store.lease_prefix + owner
    if usd <= 0.0:
        store.execute("DELETE FROM cascade_held WHERE scope = ? AND key = ?", (scope, key))
        return
    store.execute(
        f"INSERT INTO cascade_held (key, scope, usd, expires) VALUES (?, ?, ?, {store.now_sql} + ?) "
        "ON CONFLICT (scope, key) DO UPDATE SET usd = excluded.usd, expires = excluded.expires",
        (key, scope, usd, expire_s),
    )


def _spent(store: SqlStore, scope: str, owner: str = "") -> tuple[float, float]:
    """The amounts spent, and held by others than ``owner``, in a scope, in USD."""
    ((spent, held),) = store.execute(
        "SELECT COALESCE((SELECT usd FROM cascade_spent WHERE scope = ?), 0), COALESCE((SELECT SUM(usd) FROM cascade_held "
        f"WHERE scope = ? AND expires >= {store.now_sql} AND key LIKE ? AND key <> ?), 0)",
        (scope, scope, f"{store.lease_prefix}%", store.lease_prefix + owner),
    )
    return float(spent), float(held)
