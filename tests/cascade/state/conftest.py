"""A Redis server for the tests of shared state."""

import pytest

from tests.redis_server import RedisServer


@pytest.fixture
def server(redis: RedisServer) -> RedisServer:
    """A server of its own, which a test may kill."""
    return redis
