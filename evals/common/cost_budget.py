"""The money of a whole recording: a request is sent only where it cannot pass the limit, whatever it turns out to cost."""

import asyncio


class OutOfMoneyError(Exception):
    """The next request might pass the limit, and nothing under way could still give money back."""


class CostBudget:
    """``limit`` USD (None: no limit), of which ``spent`` is gone and ``held`` is put aside for requests under way."""

    def __init__(self, limit: float | None, spent: float = 0.0) -> None:
        self.limit, self.spent, self.held = limit, spent, 0.0
        self._given_back = asyncio.Event()

    async def hold(self, usd: float) -> None:
        """Puts ``usd`` aside, waiting for others to give back what they did not need. Raises OutOfMoneyError."""
        while self.limit is not None and self.spent + self.held + usd > self.limit:
            if self.held <= 1e-12:
                raise OutOfMoneyError
            self._given_back.clear()
            await self._given_back.wait()
        self.held += usd

    def settle(self, held: float, usd: float) -> None:
        """Gives ``held`` back and takes ``usd``."""
        self.held = max(0.0, self.held - held)
        self.spent += usd
        self._given_back.set()
