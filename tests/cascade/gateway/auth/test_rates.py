"""Key rates in the journal's database: one bucket for every gateway."""

import asyncio
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from cascade.engine.sessions import SessionMemory
from cascade.errors import JournalError
from cascade.gateway.auth.keys import _TokenBucket
from cascade.gateway.auth.rates import SharedRates
from cascade.gateway.errors import ApiError
from cascade.journal.ledger import SqlLedger
from cascade.journal.open_store import open_store
from cascade.policy.sticky import StickySpec
from cascade.resilience.breaker import Breaker, BreakerRule


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[SharedRates, SharedRates]]:
    """The rates of two gateways with one journal."""
    ledgers = [SqlLedger(partial(open_store, f"sqlite:///{tmp_path}/j.db", full=False)) for _ in range(2)]
    yield SharedRates(ledger=ledgers[0]), SharedRates(ledger=ledgers[1])
    for ledger in ledgers:
        ledger.close()


def test_two_gateways_never_pass_the_rate_and_leave_little_unused(two: tuple[SharedRates, SharedRates]) -> None:
    """4,000 requests through both: what is admitted is the bucket and what it gained, to a token."""
    per_minute, capacity = 1200.0, 20.0

    async def ask() -> tuple[int, float]:
        admitted, ends, began = 0, time.monotonic() + 1.5, time.monotonic()
        sent = 0
        while time.monotonic() < ends:
            waits = await asyncio.gather(*(one.take("k", per_minute, capacity) for one in two for _ in range(5)))
            sent += len(waits)
            admitted += waits.count(0.0)
            if min(waits) > 0:
                await asyncio.sleep(min(waits))
        assert sent > admitted
        return admitted, time.monotonic() - began

    admitted, seconds = asyncio.run(ask())
    allowed = capacity + seconds * per_minute / 60
    assert 0.95 * (allowed - 2) <= admitted <= allowed + 1


def test_a_client_that_goes_on_asks_the_database_once(two: tuple[SharedRates, SharedRates]) -> None:
    """Until the wait is over, refusals are made here."""
    one, _ = two

    async def ask() -> list[float]:
        assert await one.take("k", 1.0, 1.0) == 0.0
        first = await one.take("k", 1.0, 1.0)
        one.ledger.close()
        one.ledger.submit = None  # type: ignore[method-assign, assignment]
        return [first, await one.take("k", 1.0, 1.0)]

    first, second = asyncio.run(ask())
    assert 59 < second <= first <= 60


@pytest.mark.parametrize("seconds", [86_400.0, -86_400.0, 1e9])
def test_a_clock_that_jumps_changes_no_wait(
    two: tuple[SharedRates, SharedRates], seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither of a rate of one process, nor of one that several share, nor of a breaker, nor of a conversation."""
    bucket, one = _TokenBucket(), two[0]
    guarded = Breaker(BreakerRule(min_requests=1, cooldown_s=60.0))
    sessions = SessionMemory(StickySpec())
    turn_ended = sessions.clock()
    admission = guarded.admit()
    assert not isinstance(admission, float)
    guarded.record(admission, False)

    async def ask() -> list[float]:
        return [bucket.take(1.0), bucket.take(1.0), await one.take("k", 1.0, 1.0), await two[1].take("k", 1.0, 1.0)]

    assert [wait > 0 for wait in asyncio.run(ask())] == [False, True, False, True]
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + seconds)
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith("cascade.") and getattr(module, "time", None) is real:
            monkeypatch.setattr(module, "time", time.time)
    waits = asyncio.run(ask())
    assert all(59 < wait <= 60 for wait in waits)
    refused = guarded.admit()
    assert isinstance(refused, float)
    assert 59 < refused <= 60
    assert 0 <= sessions.clock() - turn_ended < 60


def test_a_rate_that_cannot_be_checked_refuses_the_request(caplog: pytest.LogCaptureFixture) -> None:
    """With 503, and one warning."""

    def away() -> object:
        raise JournalError("the journal cannot be opened: postgresql://user:hidden@db")

    one = SharedRates(ledger=SqlLedger(away))  # type: ignore[arg-type]

    async def ask() -> int:
        refused = 0
        for _ in range(5):
            with pytest.raises(ApiError) as raised:
                await one.take("k", 60.0, 10.0)
            refused += raised.value.status == 503
        return refused

    assert asyncio.run(ask()) == 5
    assert len([m for m in caplog.messages if "shared state is unavailable" in m]) == 1
    assert "hidden" not in caplog.text
    one.ledger.close()
