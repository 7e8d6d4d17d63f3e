"""A Redis server for the tests of shared state."""

import asyncio
import inspect
from collections.abc import Iterator

import pytest

from tests.redis_server import RedisServer, missing


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs the tests that are coroutines, each in an event loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server of its own, which a test may kill."""
    if reason := missing():
        pytest.skip(reason)
    one = RedisServer()
    yield one
    one.close()
