"""Both databases, as for the journal's tests."""

from tests.cascade.journal.conftest import postgres_url, url

__all__ = ["postgres_url", "url"]
