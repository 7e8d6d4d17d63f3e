"""Tests marked ``demo`` run only where they are asked for by ``-m demo``: they put a model on every core."""

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skips them otherwise, with the reason."""
    if "demo" in str(config.getoption("-m")):
        return
    for item in items:
        if item.get_closest_marker("demo") is not None:
            item.add_marker(pytest.mark.skip(reason="asks a real model: run by `make test-demo`"))
