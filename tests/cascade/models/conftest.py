"""One local server for the tests of the real SDKs."""

from collections.abc import Iterator

import pytest

from tests.wire_server import WireServer


@pytest.fixture
def server() -> Iterator[WireServer]:
    """A running server without memory of earlier tests."""
    with WireServer() as running:
        yield running
