"""What the tests of other people's clients need: skipped, with the reason, where it cannot be had."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cascade.gateway.conftest import running, serve, upstream
from tests.clients.browser import launched

__all__ = ["running", "serve", "upstream"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser for the tests of a module."""
    with launched() as window:
        yield window
