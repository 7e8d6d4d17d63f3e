"""A Postgres server of our own for tests and benchmarks, from the system's package; one for all workers of a run."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def binaries() -> Path | None:
    """The folder of the server's programs; None where none is installed."""
    if program := shutil.which("initdb"):
        return Path(program).parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return folders[-1] if folders else None


def missing() -> str | None:
    """Why there can be no server; None: there can."""
    return "no Postgres server is installed (initdb was not found)" if binaries() is None else None


class PostgresServer:
    """A running cluster in a temporary folder, reached by a unix socket in it.

    Args:
        folder: That of a cluster that runs already; None: starts a new one.
    """

    def __init__(self, folder: Path | None = None) -> None:
        if folder is not None:
            self.folder = folder
            return
        self.folder = Path(tempfile.mkdtemp(prefix="cascade-pg-"))
        try:
            if os.getuid() == 0:
                shutil.chown(self.folder, "postgres")
            self._program("initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "-N")
            self.start()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def url(self, database: str = "postgres") -> str:
        """The address of a database."""
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        options = f"-c listen_addresses='' -c unix_socket_directories={self.folder} -c fsync=off -c max_connections=200"
        log = str(self.folder / "log")
        self._program("pg_ctl", "-D", self._data, "-w", "-l", log, "-o", options, "start")

    def kill(self) -> None:
        """Ends it without a checkpoint; ``start`` begins another one with the same data."""
        self._program("pg_ctl", "-D", self._data, "-m", "immediate", "-w", "stop")

    def close(self) -> None:
        """Ends it and removes its folder."""
        try:
            self.kill()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def _program(self, name: str, *arguments: str) -> None:
        """Runs one of the server's programs; they refuse root, for whom the system's own user stands in."""
        folder = binaries()
        assert folder is not None
        prefix = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        done = subprocess.run([*prefix, str(folder / name), *arguments], capture_output=True, text=True, cwd="/")
        assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def shared(register: Path) -> Iterator[PostgresServer]:
    """The server that processes share: the first starts it, the last ends it.

    Args:
        register: A file in which the processes say that they use it.
    """
    with _locked(register) as state:
        server = PostgresServer(Path(state["folder"]) if state.get("users") else None)
        state.update(folder=str(server.folder), users=state.get("users", 0) + 1)
    try:
        yield server
    finally:
        with _locked(register) as state:
            state["users"] -= 1
            if not state["users"]:
                server.close()


@contextmanager
def _locked(register: Path) -> Iterator[dict[str, int | str]]:
    """What the file says, which no other process reads or writes meanwhile; changes are written."""
    import fcntl  # only where there is a Postgres server for these tests: not on Windows

    with open(register, "a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        state = json.loads(file.read() or "{}")
        yield state
        file.seek(0)
        file.truncate()
        json.dump(state, file)
