"""The statistics are tested as they are."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def few_rounds() -> None:
    """Every round of the bootstrap."""
