"""Key rates in the journal's database: one bucket for every gateway."""

import asyncio
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from cascade.errors import JournalError
from cascade.gateway.auth.rates import SharedRates
from cascade.gateway.errors import ApiError
from cascade.journal.ledger import SqlLedger
from cascade.journal.open_store import open_store


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
