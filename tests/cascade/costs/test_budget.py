"""Budgets: held back before, settled after, never passed, whoever shares them."""

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.costs.budget import LimitReached, MemoryLedger, Reservation, RunBudget, check_room, today

CENTS = st.integers(0, 50).map(lambda c: c / 100)


def run(coroutine: object) -> object:
    """The result of a coroutine."""
    return asyncio.run(coroutine)  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.booleans(), CENTS, st.none() | CENTS), max_size=40), CENTS)
def test_what_is_spent_never_passes_the_limit(steps: list[tuple[bool, float, float | None]], limit: float) -> None:
    """However reservations and settlements interleave, as long as nothing costs more than was held back for it."""
    ledger, held = MemoryLedger(), []

    async def main() -> None:
        spent = 0.0
        for reserves, estimate, real in steps:
            if reserves:
                try:
                    held.append(await ledger.reserve({"day": limit}, estimate))
                except LimitReached:
                    assert await ledger.spent("day") + estimate > limit or await ledger.spent("day") >= limit
            elif held:
                reservation = held.pop()
                paid = None if real is None else min(real, reservation.usd)
                await ledger.settle(reservation, paid)
                spent += reservation.usd if paid is None else paid
            assert await ledger.spent("day") <= limit + 1e-9
        assert await ledger.spent("day") == pytest.approx(spent + sum(t.usd for t in held))

    run(main())


def test_all_scopes_or_none() -> None:
    """A reservation that one scope refuses leaves nothing behind in the others."""

    async def main() -> None:
        ledger = MemoryLedger()
        await ledger.reserve({"a": 1.0}, 0.9)
        with pytest.raises(LimitReached, match=r"budget of a: \$0\.9 of \$1"):
            await ledger.reserve({"b": 5.0, "a": 1.0}, 0.2)
        assert await ledger.spent("b") == 0.0

    run(main())


def test_sixty_four_tasks_and_eight_threads_never_pass_a_budget() -> None:
    """Every reservation that was granted fits, and none that would fit is refused at the end."""
    ledger, granted, lock = MemoryLedger(), [], threading.Lock()

    async def one() -> None:
        for _ in range(20):
            try:
                reservation = await ledger.reserve({"day": 1.0}, 0.01)
            except LimitReached:
                continue
            await asyncio.sleep(0)
            await ledger.settle(reservation, 0.004)
            with lock:
                granted.append(0.004)

    async def many() -> None:
        await asyncio.gather(*(one() for _ in range(64)))

    threads = [threading.Thread(target=lambda: asyncio.run(many())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(granted) <= 1.0
    assert sum(granted) > 0.98
    assert run(ledger.spent("day")) == pytest.approx(sum(granted))


def test_a_budget_of_nothing_allows_nothing() -> None:
    """Not even what costs nothing: a limit that is reached is reached."""
    with pytest.raises(LimitReached):
        check_room("x", 0.0, 0.0, 0.0)
    check_room("x", 0.0, 0.5, 0.5)


def test_calls_and_samples_are_capped() -> None:
    """Samples count as calls, too."""
    budget = RunBudget(max_calls=5, max_samples=2)
    budget.check_limits(1)
    budget.check_limits(2, sample=True)
    with pytest.raises(LimitReached, match="max_samples 2") as stopped:
        budget.check_limits(1, sample=True)
    assert stopped.value.reason == "max_samples"
    budget.check_limits(2)
    with pytest.raises(LimitReached, match="5 of max_calls 5"):
        budget.check_limits(1)


def test_an_unknown_cost_counts_as_its_estimate() -> None:
    """What a lost request cost is not known; against the budget it counts as what was held back."""

    async def main() -> None:
        ledger = MemoryLedger()
        budget = RunBudget(max_calls=9, budget_usd=1.0, limits={"day": 2.0}, ledger=ledger)
        lost = await budget.reserve(0.4)
        await budget.settle(lost, None)
        budget.add_cost(None)
        assert budget.usd is None
        assert budget.charged == pytest.approx(0.4)
        assert await ledger.spent("day") == pytest.approx(0.4)
        reservation = await budget.reserve(0.5)
        await budget.settle(reservation, 0.1)
        assert budget.charged == pytest.approx(0.5)
        with pytest.raises(LimitReached, match="budget of the run"):
            await budget.reserve(0.6)

    run(main())


def test_what_the_day_refuses_is_not_held_in_the_run() -> None:
    """After a refusal the run has as much room as before."""

    async def main() -> None:
        budget = RunBudget(max_calls=9, budget_usd=1.0, limits={"day": 0.1}, ledger=MemoryLedger())
        with pytest.raises(LimitReached, match="budget of day"):
            await budget.reserve(0.5)
        assert budget.charged == 0.0

    run(main())


def test_a_day_is_a_utc_day() -> None:
    """In the form that sorts."""
    assert len(today()) == 10
    assert Reservation(0.1).scopes == ()


def test_scopes_of_past_periods_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers invent values of tags; what is open, and what counts today or this month, stays."""
    monkeypatch.setattr("cascade.costs.budget._MOST_SCOPES", 100)
    ledger, day = MemoryLedger(), today()

    async def go() -> None:
        held = await ledger.reserve({"2020-01-01 tag team=open": 1.0}, 0.5)
        for i in range(1000):
            settled = await ledger.reserve({f"2020-01-01 tag team={i}": 1.0}, 0.5)
            await ledger.settle(settled, 0.25)
            await ledger.settle(await ledger.reserve({f"{day} policy p": 1e9, f"{day[:7]} month of p": 1e9}, 0.5), 0.25)
        assert len(ledger._spent) <= 400
        assert len(ledger._reserved) <= 400
        assert await ledger.spent(f"{day} policy p") == await ledger.spent(f"{day[:7]} month of p") == 250.0
        assert await ledger.spent("2020-01-01 tag team=open") == 0.5
        await ledger.settle(held, 0.5)

    asyncio.run(go())
