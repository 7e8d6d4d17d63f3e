"""The policy file's key ``state`` -> the ledger of shared budgets and key rates."""

from functools import partial
from typing import TYPE_CHECKING, Any

from cascade.errors import StateError
from cascade.policy.journal_config import without_password
from cascade.policy.state_spec import StateSpec, is_redis
from cascade.resilience.store_health import StoreHealth
from cascade.state.leased_ledger import LeasedLedger

from .ledger import SqlLedger
from .open_store import open_store

if TYPE_CHECKING:
    from .journal import Journal


def open_ledger(spec: StateSpec, journal: "Journal | None" = None) -> LeasedLedger[Any]:
    """The ledger that a policy file's ``state`` names; it connects when it is first used.

    Args:
        spec: What the file says.
        journal: The journal, whose database holds the state where ``spec`` names no other place.

    Returns:
        The ledger. Where it is the journal's own, the journal closes it, else the caller does.

    Raises:
        StateError: There is neither a place nor a journal, a variable is not set, or redis-py is not installed.
    """
    url = spec.address()
    if url is None:
        if journal is None:
            raise StateError("state: there is no journal to share budgets and key rates in; give state.url")
        journal.ledger.health.fail = spec.fail
        return journal.ledger
    health = StoreHealth(without_password(url), spec.fail)
    if is_redis(url):
        from cascade.state.redis_ledger import RedisLedger

        return RedisLedger(url, health)
    return SqlLedger(partial(open_store, url, full=False), health, ping_s=1.0)
