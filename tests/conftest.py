"""What all tests share."""

import asyncio
import gc
import inspect
import os
import signal
import sys
from collections.abc import Iterator
from functools import cache

import httpcore2
import pytest
from hypothesis import settings

from tests.redis_server import redis
from tests.workers import bytecode
from tests.workers import postgres_server as postgres

__all__ = ["redis"]

# The tests' own processes fill all cores: where BLAS starts threads as well, they take half of the time from each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Hundreds of Python processes are started, each of which would compile the package anew where nothing keeps the bytecode.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Collecting tests makes a million objects that stay: the garbage collector would go through them again and again.
gc.disable()

# Every HTTP client reads the certificates of this machine, 20 ms of CPU time: thousands of them may share one reading.
httpcore2.default_ssl_context = cache(httpcore2.default_ssl_context)

# Examples are judged by what they find, not by how busy the machine is. CI repeats the same ones, so that a failure is a
# change's; at home every run tries others.
settings.register_profile("patient", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("patient")

# A shell ignores Ctrl-C for what it runs in the background, and every child would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

LONG = ("end_to_end", "faults", "cascade/gateway", "evals/replay", "cascade/journal", "evals/demo", "evals/record", "test_")
"""Folders, and the files beside this one, whose modules take longest."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Compiles what all workers are about to import."""
    bytecode.write_share(session.config)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts long modules first: one that began last would keep its worker busy when the others have ended."""
    places = [f"tests/{name}" for name in LONG]
    last = len(places)
    items.sort(key=lambda item: next((i for i, place in enumerate(places) if item.nodeid.startswith(place)), last))


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """From here on there is garbage: modules and tests, which are none, are out of the collector's way."""
    gc.freeze()
    gc.set_threshold(10_000)  # most objects of a test are freed without it: as often as Python does takes 8 % longer
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs the tests that are coroutines, each in an event loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[postgres.PostgresServer]:
    """A Postgres server, the same for all workers: to make one takes as long as several tests."""
    if reason := postgres.missing():
        pytest.skip(reason)
    folder = tmp_path_factory.getbasetemp()
    with postgres.shared((folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "postgres.json") as server:
        yield server
