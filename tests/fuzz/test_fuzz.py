"""A few of the fuzzer's examples on every run; CASCADE_FUZZ=100000 tries as many."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, Bench, timed

EXAMPLES = max(int(os.environ.get("CASCADE_FUZZ", "400")) // len(TARGETS), 1)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    """What all examples share."""
    harness = Bench()
    yield harness
    harness.close()


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_only_documented_exceptions(bench: Bench, target: str, data: Any) -> None:
    """Whatever a provider says, a model answers, a caller asks for or a file holds."""
    examples, check = TARGETS[target]
    timed(check, bench, data.draw(examples))
