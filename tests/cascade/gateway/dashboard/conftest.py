"""Both databases, as for the journal's tests."""

from tests.cascade.journal.conftest import postgres_url, server, url

__all__ = ["postgres_url", "server", "url"]
