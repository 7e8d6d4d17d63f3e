"""One deadline for many waits."""

import asyncio

import pytest

from cascade.util.shared_timeout import SharedTimeout


def test_a_wait_ends_at_the_deadline() -> None:
    """As with asyncio's own, the task goes on afterwards without a request to cancel it."""

    async def go() -> None:
        timeout = SharedTimeout(asyncio.get_running_loop().time() + 0.01)
        with timeout:
            await asyncio.sleep(0)
        with pytest.raises(TimeoutError), timeout:
            await asyncio.sleep(60)
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()
        await asyncio.sleep(0)
        timeout.close()

    asyncio.run(go())


def test_work_between_two_waits_is_not_cancelled() -> None:
    """What is there can still be taken after the deadline, and the first wait that has to wait ends."""

    async def go() -> None:
        timeout = SharedTimeout(asyncio.get_running_loop().time() + 0.001)
        await asyncio.sleep(0.01)
        for _ in range(2):
            with timeout:
                pass
            await asyncio.sleep(0)
        with pytest.raises(TimeoutError), timeout:
            await asyncio.sleep(60)
        timeout.close()

    asyncio.run(go())


def test_a_cancellation_of_the_task_stays_one() -> None:
    """It is no timeout, not even where the deadline passes at the same moment."""

    async def go() -> None:
        for expires in (False, True):
            started = asyncio.Event()

            async def wait(started: asyncio.Event) -> None:
                timeout = SharedTimeout(asyncio.get_running_loop().time() + 60)
                try:
                    with timeout:
                        started.set()
                        await asyncio.sleep(60)
                finally:
                    timeout.close()

            task = asyncio.create_task(wait(started))
            await started.wait()
            task.cancel()
            if expires:
                for handle in asyncio.get_running_loop()._scheduled:  # type: ignore[attr-defined] # the timer, early
                    if "_expire" in repr(handle):
                        handle._run()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(go())


def test_errors_pass() -> None:
    """What the wait itself raises is not changed."""

    async def go() -> None:
        timeout = SharedTimeout(asyncio.get_running_loop().time() + 60)
        with pytest.raises(ValueError, match="broken"), timeout:
            raise ValueError("broken")
        timeout.close()
        timeout.close()

    asyncio.run(go())
