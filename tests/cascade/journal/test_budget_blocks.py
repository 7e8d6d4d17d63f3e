"""Blocks of shared budgets: whatever happens in which order, what is spent and reserved anywhere stays within the limit."""

import random
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.state.budget_blocks import BudgetBlocks

EXPIRE_S, IDLE_S = 10.0, 1.0


class SharedLedger:
    """What the database does with blocks, in memory, with leases that expire."""

    def __init__(self, limits: Mapping[str, float]) -> None:
        self.limits = limits
        self.spent = dict.fromkeys(limits, 0.0)
        self.held: dict[tuple[int, str], tuple[float, float]] = {}

    def others(self, owner: int, scope: str, now: float) -> float:
        """What other processes hold."""
        return sum(
            usd for (who, where), (usd, until) in self.held.items() if where == scope and who != owner and until > now
        )

    def grant(self, owner: int, blocks: BudgetBlocks, lacking: Mapping[str, float], usd: float, now: float) -> bool:
        """A block of each scope, and the reservation of a request; False where there is no room."""
        amounts = {}
        for scope, limit in lacking.items():
            state = blocks.state(scope)
            free = blocks.held(scope, now) - state.reserved - state.unreported
            used = self.spent[scope] + self.others(owner, scope, now) + state.reserved + state.unreported
            if used + usd > limit + 1e-12:
                return False
            amounts[scope] = max(0.0, usd - free) + 0.1 * max(0.0, limit - used - usd)
        for scope, amount in amounts.items():
            self.held[owner, scope] = blocks.held(scope, now) + amount, now + EXPIRE_S
        return blocks.grant(amounts, self.limits, usd, now)


class Process:
    """One process: its blocks, and its requests in progress."""

    def __init__(self) -> None:
        self.blocks = BudgetBlocks(0.9 * EXPIRE_S, IDLE_S)
        self.requests: list[float] = []


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10**9), steps=st.integers(20, 150), limit=st.sampled_from([0.01, 1.0, 1000.0]))
def test_no_order_of_events_exceeds_a_limit(seed: int, steps: int, limit: float) -> None:
    """Requests, reports, reports that fail, renewals and pauses, in three processes under two budgets."""
    chance = random.Random(seed)
    limits = {"day": limit, "month": 1.5 * limit}
    shared, processes, now, really = SharedLedger(limits), [Process() for _ in range(3)], 0.0, 0.0
    for _ in range(steps):
        now += chance.choice([0.0, 0.01, 0.3, 2.0])
        owner = chance.randrange(3)
        process = processes[owner]
        act = chance.random()
        if act < 0.5:
            usd = limit * chance.choice([0.0, 0.001, 0.01, 0.1, 0.4])
            lacking = process.blocks.take(limits, usd, now)
            if not lacking or shared.grant(owner, process.blocks, lacking, usd, now):
                process.requests.append(usd)
        elif act < 0.8 and process.requests:
            usd = process.requests.pop(chance.randrange(len(process.requests)))
            spent = usd * chance.choice([0.0, 0.2, 1.0])
            really += spent
            process.blocks.settle(limits, usd, spent)
        # Every process renews in time, as the ledger's thread does; some reports fail.
        for i, each in enumerate(processes):
            entries = each.blocks.begin_report(now, everything=True)
            if chance.random() < 0.1:
                each.blocks.undo_report(entries)
                continue
            for scope, entry in entries.items():
                shared.spent[scope] += entry.spent
                shared.held[i, scope] = entry.held, now + EXPIRE_S
            each.blocks.end_report(entries, now)
        in_progress = sum(sum(each.requests) for each in processes)
        assert really + in_progress <= limit * (1 + 1e-9)
        for scope, most in limits.items():
            counted = shared.spent[scope] + sum(usd for (_, where), (usd, _) in shared.held.items() if where == scope)
            assert counted <= most * (1 + 1e-9)
            assert counted >= (really + in_progress) * (1 - 1e-9)
    for i, each in enumerate(processes):
        for usd in each.requests:
            really += usd
            each.blocks.settle(limits, usd, usd)
        for _ in range(2):  # what was idle is returned with the second
            entries = each.blocks.begin_report(float("inf"))
            for scope, entry in entries.items():
                shared.spent[scope] += entry.spent
                shared.held[i, scope] = entry.held, now + EXPIRE_S
            each.blocks.end_report(entries, now)
        assert not each.blocks.waiting()
    for scope in limits:
        assert shared.spent[scope] == pytest.approx(really, abs=1e-9 * limit)
        assert sum(usd for (_, where), (usd, _) in shared.held.items() if where == scope) == pytest.approx(
            0, abs=1e-9 * limit
        )


def blocks_with(usd: float) -> BudgetBlocks:
    """Blocks of which one has been granted so much, at 0 s."""
    blocks = BudgetBlocks(EXPIRE_S, IDLE_S)
    assert blocks.grant({"day": usd}, {"day": 10.0}, 0.0, 0.0)
    return blocks


def test_a_block_serves_requests_until_it_is_empty() -> None:
    """Then its scope lacks, and nothing of the request is reserved."""
    blocks = blocks_with(1.0)
    assert blocks.take({"day": 10.0}, 0.6, 1.0) == {}
    assert blocks.take({"day": 10.0}, 0.6, 1.0) == {"day": 10.0}
    assert blocks.take({"day": 10.0, "other": 5.0}, 0.1, 1.0) == {"other": 5.0}
    assert blocks.state("day") == pytest.approx((0.4, 0.6, 0.0))


def test_a_block_that_was_not_renewed_is_not_used() -> None:
    """The shared ledger may have given it to somebody else; what requests have reserved of it stays reserved."""
    blocks = blocks_with(1.0)
    assert blocks.take({"day": 10.0}, 0.25, 1.0) == {}
    assert blocks.take({"day": 10.0}, 0.25, EXPIRE_S) == {"day": 10.0}
    assert blocks.held("day", EXPIRE_S) == 0.25
    assert blocks.grant({"day": 0.5}, {"day": 10.0}, 0.5, EXPIRE_S)
    assert blocks.state("day") == pytest.approx((0.0, 0.75, 0.0))


def test_an_idle_block_is_returned() -> None:
    """Without what requests in progress have reserved."""
    blocks = blocks_with(1.0)
    assert blocks.take({"day": 10.0}, 0.25, 1.0) == {}
    assert blocks.begin_report(1.5) == {}
    assert blocks.begin_report(2.0) == {"day": (0.0, 0.25, 10.0)}
    assert blocks.begin_report(9.0) == {}
    assert blocks.take({"day": 10.0}, 0.25, 3.0) == {"day": 10.0}


def test_a_report_that_failed_is_made_again() -> None:
    """With what was spent meanwhile; what was returned stays returned."""
    blocks = blocks_with(1.0)
    assert blocks.take({"day": 10.0}, 0.5, 1.0) == {}
    blocks.settle(["day"], 0.5, 0.3)
    entries = blocks.begin_report(1.0)
    assert entries == {"day": pytest.approx((0.3, 0.7, 10.0))}
    blocks.undo_report(entries)
    assert blocks.take({"day": 10.0}, 0.5, 1.5) == {}
    blocks.settle(["day"], 0.5, 0.1)
    assert blocks.begin_report(1.5) == {"day": pytest.approx((0.4, 0.6, 10.0))}


def test_an_overrun_is_entered_whole() -> None:
    """A request that cost more than it had reserved leaves the block short, never the books."""
    blocks = blocks_with(1.0)
    assert blocks.take({"day": 10.0}, 1.0, 1.0) == {}
    blocks.settle(["day"], 1.0, 1.5)
    assert blocks.begin_report(1.0) == {"day": pytest.approx((1.5, 0.0, 10.0))}


def test_what_was_reserved_before_a_fork_is_entered() -> None:
    """The child has no block for it."""
    blocks = BudgetBlocks(EXPIRE_S, IDLE_S)
    blocks.settle(["day"], 0.5, 0.25)
    assert blocks.begin_report(1.0) == {"day": (0.25, 0.0, 0.0)}
