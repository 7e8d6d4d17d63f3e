"""A few of the fuzzer's examples on every run; CASCADE_FUZZ=100000 tries as many.

CASCADE_FUZZ_CORPUS names a folder that keeps what failed and what took longest: the next run begins with it (``make fuzz``).
"""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, target
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase

from tests.fuzz.targets import TARGETS, Bench, timed

CORPUS = os.environ.get("CASCADE_FUZZ_CORPUS", "")
KEEPING: dict[str, Any] = {"database": DirectoryBasedExampleDatabase(CORPUS), "derandomize": False} if CORPUS else {}
EXAMPLES = max(int(os.environ.get("CASCADE_FUZZ", "400")) // len(TARGETS), 1)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    """What all examples share."""
    harness = Bench()
    yield harness
    harness.close()


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), **KEEPING)
@given(data=st.data())
def test_only_documented_exceptions(bench: Bench, name: str, data: Any) -> None:
    """Whatever a provider says, a model answers, a caller asks for or a file holds."""
    examples, check = TARGETS[name]
    seconds = timed(check, bench, data.draw(examples))
    if CORPUS:
        target(seconds, label="seconds")  # what takes longest is kept, and varied
