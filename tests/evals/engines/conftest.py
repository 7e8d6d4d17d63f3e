"""One Ray for all tests of this folder: starting it takes longer than a test."""

from collections.abc import Iterator

import pytest

from evals.engines import Engine, open_engine


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """Ray with two workers."""
    pytest.importorskip("ray", reason="Ray is not installed: make test-ray installs it")
    with open_engine("ray", workers=2) as running:
        assert running is not None
        assert running.workers == 2
        yield running
