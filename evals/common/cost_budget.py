"""The cost limit of a whole recording, which holds whatever the requests under way turn out to cost."""

import asyncio


class OutOfMoneyError(Exception):
    """The next request might exceed the limit, and no request under way can release money any more."""


class CostBudget:
    """A limit in USD with reservations.

    Attributes:
        limit: The limit in USD; None where there is none.
        spent: USD that are gone.
        reserved: USD set aside for requests under way.
    """

    def __init__(self, limit: float | None, spent: float = 0.0) -> None:
        self.limit, self.spent, self.reserved = limit, spent, 0.0
        self._released = asyncio.Event()

    async def reserve(self, usd: float) -> None:
        """Sets an amount aside, waiting for other requests to release what they did not need.

        Args:
            usd: The most that the request can cost.

        Raises:
            OutOfMoneyError: The amount does not fit under the limit, and nothing is reserved that could be released.
        """
        while self.limit is not None and self.spent + self.reserved + usd > self.limit:
            if self.reserved <= 1e-12:
                raise OutOfMoneyError
            self._released.clear()
            await self._released.wait()
        self.reserved += usd

    def settle(self, reserved: float, usd: float) -> None:
        """Releases a reservation and counts what the request cost.

        Args:
            reserved: The amount that was reserved.
            usd: The cost, or the best estimate of it.
        """
        self.reserved = max(0.0, self.reserved - reserved)
        self.spent += usd
        self._released.set()
