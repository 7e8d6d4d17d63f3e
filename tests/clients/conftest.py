"""What the tests of other people's clients need: skipped, with the reason, where it cannot be had."""

from tests.cascade.gateway.conftest import running, serve, upstream

__all__ = ["running", "serve", "upstream"]
