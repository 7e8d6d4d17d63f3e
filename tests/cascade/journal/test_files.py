"""The journal's files: private, and known to be writable."""

import stat
import time
from pathlib import Path
from typing import Any

import pytest

from cascade.journal.journal import Journal
from cascade.journal.open_store import open_store
from cascade.journal.sqlite import SqliteStore


def modes(folder: Path) -> dict[str, str]:
    """The mode of every file in a folder."""
    return {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in folder.iterdir()}


def test_a_new_journal_is_its_owner_s_alone(tmp_path: Path) -> None:
    """With its log, whatever the umask: it may hold prompts."""
    store = open_store(f"sqlite:///{tmp_path / 'j.db'}")
    store.probe()
    assert modes(tmp_path) == {"j.db": "0o600", "j.db-wal": "0o600", "j.db-shm": "0o600"}
    store.close()


def test_a_wider_journal_is_repaired(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And the log says that others could read it."""
    url = f"sqlite:///{tmp_path / 'j.db'}"
    first = open_store(url)
    first.probe()
    for path in tmp_path.iterdir():
        path.chmod(0o644)
    open_store(url).close()
    assert set(modes(tmp_path).values()) == {"0o600"}
    assert "j.db: other users could read the journal (mode 0644); it is 0600 now" in caplog.text
    first.close()


def test_a_reader_changes_no_mode(tmp_path: Path) -> None:
    """To look into a journal is not a reason to change it."""
    url = f"sqlite:///{tmp_path / 'j.db'}"
    open_store(url).close()
    (tmp_path / "j.db").chmod(0o644)
    open_store(url, create=False).close()
    assert modes(tmp_path)["j.db"] == "0o644"


def test_a_journal_says_whether_it_can_be_written(url: str) -> None:
    """Also before the first run."""
    journal = Journal(url)
    assert journal.is_writable()
    journal.close()
    assert not journal.is_writable()


def test_a_full_disk_is_not_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is known at once, and over as soon as there is room again."""
    real, full = SqliteStore._prepare, True

    def prepare(self: Any, *args: Any) -> None:
        real(self, *args)
        if full:  # no page can be added: what SQLite says then is what it says on a full disk
            self._connection.execute("PRAGMA max_page_count = 1")
            self.probe = lambda: self._connection.execute("CREATE TABLE more AS SELECT zeroblob(100000)")

    journal = Journal(f"sqlite:///{tmp_path / 'j.db'}")
    monkeypatch.setattr(SqliteStore, "_prepare", prepare)
    began = time.monotonic()
    assert not journal.is_writable(5.0)
    assert time.monotonic() - began < 4.0
    full = False
    assert journal.is_writable(5.0)
    journal.close()
