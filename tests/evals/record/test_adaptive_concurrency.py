"""Request rate and cost limit: workers slow down together, and the limit holds whatever requests turn out to cost."""

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.common.cost_budget import CostBudget, OutOfMoneyError
from evals.record.adaptive_concurrency import AdaptiveLimiter


def test_a_rejection_halves_the_window_once() -> None:
    """Rejections of requests that were under way together count as one; the next round's count again."""

    async def main() -> None:
        limiter = AdaptiveLimiter(64)
        first = [await limiter.acquire() for _ in range(64)]
        for sent_at in first:
            limiter.on_rejection(sent_at, 0.0)
        assert (limiter.window, limiter.rejections, limiter.active) == (32.0, 1, 0)
        await asyncio.sleep(0.001)
        for sent_at in [await limiter.acquire() for _ in range(32)]:
            limiter.on_rejection(sent_at, 0.0)
        assert (limiter.window, limiter.rejections) == (16.0, 2)

    asyncio.run(main())


def test_no_request_is_sent_before_retry_after() -> None:
    """Retry-After holds back every worker, those that wait already and those that come."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        limiter = AdaptiveLimiter(4)
        sent_at = [await limiter.acquire() for _ in range(4)]
        waiters = [asyncio.create_task(limiter.acquire()) for _ in range(6)]
        await asyncio.sleep(0)
        rejected_at = loop.time()
        assert limiter.pause_s == 0
        limiter.on_rejection(sent_at[0], 0.15)
        assert 0.1 < limiter.pause_s <= 0.15
        limiter.on_answer()
        limiter.on_answer()
        late = asyncio.create_task(limiter.acquire())
        done, _ = await asyncio.wait([*waiters, late], timeout=0.1)
        assert not done
        await asyncio.sleep(0.1)
        assert 1 <= sum(t.done() for t in waiters) <= 4
        assert all(t.result() - rejected_at >= 0.15 for t in waiters if t.done())
        for task in (*waiters, late):
            task.cancel()

    asyncio.run(main())


def test_pauses_double_without_retry_after() -> None:
    """Without Retry-After the pause doubles with each rejection, until an answer."""

    async def main() -> None:
        limiter = AdaptiveLimiter(2)
        now = asyncio.get_running_loop().time()
        pauses = []
        for _ in range(4):
            limiter._paused_until = float("-inf")
            sent_at = await limiter.acquire()
            await asyncio.sleep(0.002)
            now = asyncio.get_running_loop().time()
            limiter.on_rejection(sent_at, None)
            pauses.append(limiter._paused_until - now)
        assert pauses == pytest.approx([0.5, 1, 2, 4], abs=0.05)
        limiter._paused_until = float("-inf")
        await limiter.acquire()
        limiter.on_answer()
        assert limiter.rejections == 0

    asyncio.run(main())


def test_the_window_is_never_passed_and_grows_again() -> None:
    """Never more than the window are under way, and after many answers all workers are back."""

    async def main() -> None:
        limiter, draw, most = AdaptiveLimiter(20), random.Random(1), 0

        async def worker() -> None:
            nonlocal most
            for _ in range(60):
                sent_at = await limiter.acquire()
                most = max(most, limiter.active)
                await asyncio.sleep(0.0005 * draw.random())
                if draw.random() < 0.01:
                    limiter.on_rejection(sent_at, 0.0)
                else:
                    limiter.on_answer()

        await asyncio.gather(*(worker() for _ in range(40)))
        assert most <= 20
        assert limiter.active == 0
        for _ in range(400):
            await limiter.acquire()
            limiter.on_answer()
        assert limiter.window == 20

    asyncio.run(main())


def test_a_cancelled_wait_keeps_no_place() -> None:
    """A worker that is cancelled while it waits, or just as it is let go, leaves its place to the next."""

    async def main() -> None:
        limiter = AdaptiveLimiter(1)
        await limiter.acquire()
        tasks = [asyncio.create_task(limiter.acquire()) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        limiter.release()  # lets the second go
        tasks[1].cancel()
        await asyncio.sleep(0)
        await asyncio.wait_for(tasks[2], 1)
        assert limiter.active == 1

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
