"""Journals in both databases: SQLite files, and a Postgres server of our own from the system's package."""

import asyncio
import inspect
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs the tests that are coroutines, each in an event loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin")) if Path("/usr/lib/postgresql").is_dir() else []


def _as_postgres(*command: str) -> None:
    """Runs one of the server's programs; it refuses root, for whom the system's own user stands in."""
    prefix = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    done = subprocess.run([*prefix, *command], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr


class PostgresServer:
    """A cluster in a temporary folder, reached by a unix socket in it. Skips the test where no server is installed."""

    def __init__(self) -> None:
        program = shutil.which("initdb")
        binaries = Path(program).parent if program else BINARIES[-1] if BINARIES else None
        if binaries is None:
            pytest.skip("no Postgres server is installed (initdb was not found)")
        self.folder = Path(tempfile.mkdtemp(prefix="cascade-pg-"))
        if os.getuid() == 0:
            shutil.chown(self.folder, "postgres")
        self._data, self._control = self.folder / "data", str(binaries / "pg_ctl")
        try:
            initdb = (str(binaries / "initdb"), "-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "-N")
            _as_postgres(*initdb)
            self.start()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        options = f"-c listen_addresses='' -c unix_socket_directories={self.folder} -c fsync=off -c max_connections=50"
        log = str(self.folder / "log")
        _as_postgres(self._control, "-D", str(self._data), "-w", "-l", log, "-o", options, "start")

    def kill(self) -> None:
        """Kills its processes at once; ``start`` recovers what was committed."""
        postmaster = int((self._data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children")
        for process in (postmaster, *map(int, children.read_text().split())):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        while Path(f"/proc/{postmaster}").exists():
            time.sleep(0.02)

    def close(self) -> None:
        """Ends it and removes its folder."""
        try:
            _as_postgres(self._control, "-D", str(self._data), "-m", "immediate", "-w", "stop")
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def server() -> Iterator[Path]:
    """The folder of a running cluster."""
    running = PostgresServer()
    try:
        yield running.folder
    finally:
        running.close()


@pytest.fixture
def postgres_url(server: Path) -> Iterator[str]:
    """An empty database of its own."""
    import psycopg

    name = f"t{uuid4().hex}"
    with psycopg.connect(f"postgresql://postgres@/postgres?host={server}", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
        yield f"postgresql://postgres@/{name}?host={server}"
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[call-overload]


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty journal's place, once in each database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'journal.db'}"
    address: str = request.getfixturevalue("postgres_url")
    return address
