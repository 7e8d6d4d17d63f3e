"""One provider and one fork server for all tests of this folder: starting them takes longer than a test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.evals.record.desk import Desk
from tests.evals.record.fork_server import ForkServer
from tests.evals.record.provider import Provider


@pytest.fixture(scope="session")
def _provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running


@pytest.fixture
def provider(_provider: Provider) -> Provider:
    """The provider, which behaves well and has counted nothing."""
    _provider.behave()
    return _provider


@pytest.fixture(scope="session")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """Runs recordings as processes that can be killed."""
    with ForkServer(tmp_path_factory.mktemp("fork_server") / "log") as running:
        yield running


@pytest.fixture
def desk(tmp_path: Path, provider: Provider) -> Desk:
    """A fresh folder."""
    return Desk(tmp_path, provider.url)
