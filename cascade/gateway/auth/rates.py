"""Key rates that all gateways with the same shared state share: one token bucket per key."""

from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from cascade.errors import StateError
from cascade.gateway.errors import ApiError
from cascade.state.leased_ledger import LeasedLedger


@dataclass(slots=True, kw_only=True, eq=False)
class SharedRates:
    """Takes a request's token from its key's bucket, in one step of the store.

    Args:
        ledger: The ledger whose store and thread are used.
    """

    ledger: LeasedLedger[Any]
    _blocked: dict[str, float] = field(default_factory=dict)  # until when a key certainly has no token

    async def take(self, key: str, per_minute: float, capacity: float) -> float | None:
        """Takes a token.

        Args:
            key: The key's id.
            per_minute: How many tokens its bucket gains per minute.
            capacity: How many it holds at most.

        Returns:
            0.0 for a token, otherwise the seconds until there is one; None where the store is unavailable and each process
            limits by itself.

        Raises:
            ApiError: 503 where the store is unavailable and requests are refused for that.
        """
        now = monotonic()
        wait = self._blocked.get(key, 0.0) - now
        if wait > 0:  # a client that keeps sending causes no request to the store
            return wait
        health = self.ledger.health
        try:
            wait = await self.ledger.take_token(key, 60 / per_minute, capacity)
        except StateError:
            if health.fail == "open":
                health.unshared += 1
                return None
            health.refused += 1
            message = "the store of shared state is unavailable, so the key's rate cannot be checked; try again"
            raise ApiError(503, message, code="rate_unavailable", retry_after_s=1) from None
        if wait > 0:
            self._blocked[key] = now + wait
        return wait
