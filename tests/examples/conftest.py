"""What the tests of the examples share."""

from tests.cascade.gateway.conftest import running, serve, upstream

__all__ = ["running", "serve", "upstream"]
