"""Request rate and cost limit: workers slow down together, and the limit holds whatever requests turn out to cost."""

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.common.cost_budget import CostBudget, OutOfMoneyError
from evals.record.adaptive_concurrency import AdaptiveLimiter


def test_a_refusal_halves_the_window_once() -> None:
    """Refusals of requests that were under way together count as one; the next round's count again."""

    async def main() -> None:
        pace = AdaptiveLimiter(64)
        first = [await pace.turn() for _ in range(64)]
        for began in first:
            pace.refused(began, 0.0)
        assert (pace.window, pace.refusals, pace.active) == (32.0, 1, 0)
        await asyncio.sleep(0.001)
        for began in [await pace.turn() for _ in range(32)]:
            pace.refused(began, 0.0)
        assert (pace.window, pace.refusals) == (16.0, 2)

    asyncio.run(main())


def test_nobody_asks_before_the_time_is_over() -> None:
    """Retry-After holds back every worker, those that wait already and those that come."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        pace = AdaptiveLimiter(4)
        began = [await pace.turn() for _ in range(4)]
        waiting = [asyncio.create_task(pace.turn()) for _ in range(6)]
        await asyncio.sleep(0)
        told = loop.time()
        assert pace.pause_s == 0
        pace.refused(began[0], 0.15)
        assert 0.1 < pace.pause_s <= 0.15
        pace.answered()
        pace.answered()
        late = asyncio.create_task(pace.turn())
        done, _ = await asyncio.wait([*waiting, late], timeout=0.1)
        assert not done
        await asyncio.sleep(0.1)
        assert 1 <= sum(t.done() for t in waiting) <= 4
        assert all(t.result() - told >= 0.15 for t in waiting if t.done())
        for task in (*waiting, late):
            task.cancel()

    asyncio.run(main())


def test_pauses_double_without_a_word_from_the_provider() -> None:
    """Where no time is told, the pause doubles with each refusal; an answer ends that."""

    async def main() -> None:
        pace = AdaptiveLimiter(2)
        now = asyncio.get_running_loop().time()
        pauses = []
        for _ in range(4):
            pace._clear_at = float("-inf")
            began = await pace.turn()
            await asyncio.sleep(0.002)
            now = asyncio.get_running_loop().time()
            pace.refused(began, None)
            pauses.append(pace._clear_at - now)
        assert pauses == pytest.approx([0.5, 1, 2, 4], abs=0.05)
        pace._clear_at = float("-inf")
        await pace.turn()
        pace.answered()
        assert pace.refusals == 0

    asyncio.run(main())


def test_the_window_is_never_passed_and_grows_again() -> None:
    """Never more than the window are under way, and after many answers all workers are back."""

    async def main() -> None:
        pace, draw, most = AdaptiveLimiter(20), random.Random(1), 0

        async def worker() -> None:
            nonlocal most
            for _ in range(60):
                began = await pace.turn()
                most = max(most, pace.active)
                await asyncio.sleep(0.0005 * draw.random())
                if draw.random() < 0.01:
                    pace.refused(began, 0.0)
                else:
                    pace.answered()

        await asyncio.gather(*(worker() for _ in range(40)))
        assert most <= 20
        assert pace.active == 0
        for _ in range(400):
            await pace.turn()
            pace.answered()
        assert pace.window == 20

    asyncio.run(main())


def test_a_cancelled_wait_keeps_no_place() -> None:
    """A worker that is cancelled while it waits, or just as it is let go, leaves its place to the next."""

    async def main() -> None:
        pace = AdaptiveLimiter(1)
        await pace.turn()
        tasks = [asyncio.create_task(pace.turn()) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        pace.over()  # lets the second go
        tasks[1].cancel()
        await asyncio.sleep(0)
        await asyncio.wait_for(tasks[2], 1)
        assert pace.active == 1

    asyncio.run(main())


@given(
    st.floats(0.0, 2.0),
    st.lists(st.tuples(st.floats(0.01, 0.5), st.floats(0.0, 1.0)), min_size=1, max_size=40),
)
@settings(max_examples=100, deadline=None)
def test_the_limit_is_kept(limit: float, requests: list[tuple[float, float]]) -> None:
    """Whatever share of its estimate each request costs, the sum stays within the limit, and no money is refused in vain."""

    async def main() -> None:
        budget = CostBudget(limit)
        refused = []

        async def request(estimate: float, share: float) -> None:
            try:
                await budget.reserve(estimate)
            except OutOfMoneyError:
                refused.append(estimate)
                return
            await asyncio.sleep(0)
            budget.settle(estimate, estimate * share)
            assert budget.spent <= limit + 1e-9

        async with asyncio.timeout(5):
            await asyncio.gather(*(request(*r) for r in requests))
        assert budget.spent <= limit + 1e-9
        assert budget.reserved == pytest.approx(0, abs=1e-9)
        assert all(budget.spent + estimate > limit - 1e-9 for estimate in refused) or not refused

    asyncio.run(main())
