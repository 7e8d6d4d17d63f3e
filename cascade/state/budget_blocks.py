"""Money that this process took from shared budgets in advance, so that a request waits for no transaction.

For each scope a process holds a block of the shared budget, from which its requests reserve. What they really cost moves
from the block to what is spent with the next report. So at every moment the shared ledger counts at least what was spent
and reserved anywhere, and no limit is exceeded.
"""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from cascade.costs.budget import check_room

_ROUNDING = 1e-12  # USD


@dataclass(slots=True, kw_only=True)
class _Block:
    """In USD; ``until`` and ``used`` are readings of a monotonic clock."""

    limit: float = 0.0
    held: float = 0.0  # what the shared ledger holds for this process, without what is about to be returned
    reserved: float = 0.0  # by requests in progress
    unreported: float = 0.0  # spent, and not yet entered in the shared ledger
    until: float = 0.0  # until when the shared ledger certainly holds it
    used: float = 0.0  # when something was last taken from it
    wrong: bool = False  # the shared ledger holds something else, because a report failed
    alone: bool = False  # part of it was never granted: it was reserved while the shared ledger was unavailable

    @property
    def free(self) -> float:
        return self.held - self.reserved - self.unreported


class BlockState(NamedTuple):
    """A block as the shared ledger needs it, in USD.

    Attributes:
        free: What no request has reserved.
        reserved: What requests in progress have reserved.
        unreported: What was spent, and not yet entered.
    """

    free: float
    reserved: float
    unreported: float


class Entry(NamedTuple):
    """What a report enters in a scope, in USD.

    Attributes:
        spent: What was spent since the last report.
        held: What is held from now on.
        limit: The scope's limit; 0.0: not known.
    """

    spent: float
    held: float
    limit: float


class BudgetBlocks:
    """The blocks of one process. Safe for threads; nothing here waits.

    Args:
        expire_s: How long the shared ledger holds a block that is not renewed, in seconds.
        idle_s: After how many seconds without a request the free part of a block is returned.
    """

    def __init__(self, expire_s: float, idle_s: float) -> None:
        self._expire_s, self._idle_s = expire_s, idle_s
        self._blocks: dict[str, _Block] = {}
        self._lock = threading.Lock()

    def take(self, limits: Mapping[str, float], usd: float, now: float) -> dict[str, float]:
        """Reserves an amount in several scopes, or in none.

        Args:
            limits: The scopes with their limits in USD.
            usd: The amount.
            now: The monotonic clock.

        Returns:
            The scopes whose blocks are too small, with their limits; empty where the amount is reserved.
        """
        blocks = self._blocks
        with self._lock:
            for scope in limits:
                block = blocks.get(scope)
                if block is None or now >= block.until or (free := block.free) < usd or free <= _ROUNDING:
                    return {scope: limits[scope] for scope in limits if self._lacks(scope, usd, now)}
            self._reserve(limits, usd, now)
        return {}

    def take_alone(self, limits: Mapping[str, float], usd: float, known_spent: Mapping[str, float], now: float) -> None:
        """Reserves an amount while the shared ledger is unavailable, within what this process knows to be spent.

        Args:
            limits: The scopes with their limits in USD.
            usd: The amount.
            known_spent: What was spent by everybody when the shared ledger was last used, by scope.
            now: The monotonic clock.

        Raises:
            LimitReached: The amount would exceed the limit of a scope.
        """
        with self._lock:
            for scope, limit in limits.items():
                block = self._blocks.get(scope) or _Block()
                spent = known_spent.get(scope, 0.0) + block.unreported
                check_room(scope, spent + block.reserved, usd, limit, block.reserved)
            for scope, limit in limits.items():
                block = self._blocks.setdefault(scope, _Block())
                block.held += usd
                block.reserved += usd
                block.limit, block.used, block.alone = limit, now, True

    def _reserve(self, scopes: Iterable[str], usd: float, now: float) -> None:
        for scope in scopes:
            block = self._blocks[scope]
            block.reserved += usd
            block.used = now

    def _lacks(self, scope: str, usd: float, now: float) -> bool:
        block = self._blocks.get(scope)
        return block is None or now >= block.until or block.free < usd or block.free <= _ROUNDING

    def settle(self, scopes: Iterable[str], reserved: float, spent: float) -> None:
        """Replaces a reservation by what was spent."""
        with self._lock:
            for scope in scopes:
                block = self._blocks.get(scope)
                if block is None:  # reserved before a fork
                    block = self._blocks[scope] = _Block()
                block.reserved = max(0.0, block.reserved - reserved)
                block.unreported += spent

    def state(self, scope: str) -> BlockState:
        """The block of a scope."""
        with self._lock:
            block = self._blocks.get(scope)
            return BlockState(0.0, 0.0, 0.0) if block is None else BlockState(block.free, block.reserved, block.unreported)

    def grant(self, amounts: Mapping[str, float], limits: Mapping[str, float], usd: float, now: float) -> bool:
        """Adds what the shared ledger has granted, and reserves an amount for the request that asked for it.

        Args:
            amounts: What was granted, by scope.
            limits: All scopes of the request with their limits.
            usd: What it reserves.
            now: When the database was asked.

        Returns:
            Whether the amount is reserved. Not where others took from these blocks meanwhile.
        """
        with self._lock:
            for scope, amount in amounts.items():
                block = self._blocks.setdefault(scope, _Block())
                if now >= block.until:  # it may have expired: what was free is somebody else's
                    block.held = block.reserved + block.unreported
                block.held += amount
                block.limit, block.until, block.used = limits[scope], now + self._expire_s, now
            for scope, limit in limits.items():
                # Sums of many amounts: what was granted for this request is enough for it.
                rounding = _ROUNDING * max(1.0, limit) if scope in amounts else 0.0
                if scope not in self._blocks or self._blocks[scope].free < usd - rounding:
                    return False
            self._reserve(limits, usd, now)
            return True

    def held(self, scope: str, now: float) -> float:
        """What the shared ledger is to hold for a scope before the next grant."""
        with self._lock:
            block = self._blocks.get(scope)
            if block is None:
                return 0.0
            return block.held if now < block.until else block.reserved + block.unreported

    def begin_report(self, now: float, *, everything: bool = False) -> dict[str, Entry]:
        """What is to be entered in the shared ledger. From then on it counts as entered, until ``undo_report``.

        Args:
            now: The monotonic clock.
            everything: Also where nothing has changed, so that all blocks are renewed.

        Returns:
            The entries by scope.
        """
        entries = {}
        with self._lock:
            for scope, block in self._blocks.items():
                idle = block.alone or (block.free > 0.0 and (now >= block.used + self._idle_s or now >= block.until))
                if not (block.unreported or idle or block.wrong or everything):
                    continue
                held = max(0.0, block.reserved if idle else block.held - block.unreported)
                entries[scope] = Entry(block.unreported, held, block.limit)
                block.held, block.unreported, block.wrong, block.alone = held, 0.0, False, False
            for scope in entries:
                block = self._blocks[scope]
                if not (block.held or block.reserved):
                    del self._blocks[scope]
        return entries

    def end_report(self, entries: Mapping[str, Entry], now: float) -> None:
        """The shared ledger has the entries, and holds the blocks for another while."""
        with self._lock:
            for scope in entries:
                if (block := self._blocks.get(scope)) is not None:
                    block.until = now + self._expire_s

    def undo_report(self, entries: Mapping[str, Entry]) -> None:
        """The entries could not be made: they are to be made with the next report. What was to be returned is not used."""
        with self._lock:
            for scope, entry in entries.items():
                block = self._blocks.setdefault(scope, _Block(limit=entry.limit))
                block.unreported += entry.spent
                block.held += entry.spent
                block.wrong = True

    def scopes(self) -> list[str]:
        """The scopes that have a block."""
        with self._lock:
            return list(self._blocks)

    def waiting(self) -> bool:
        """Whether there is something to report or to return."""
        with self._lock:
            return any(block.unreported or block.wrong or block.held > block.reserved for block in self._blocks.values())
