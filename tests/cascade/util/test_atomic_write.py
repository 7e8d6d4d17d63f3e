"""Replacing a file: all of it or nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cascade.util.atomic_write import replacing


def write(target: Path) -> None:
    """The word new."""
    with replacing(target) as file:
        file.write(b"new")


def test_the_new_content_takes_the_place_of_the_old(tmp_path: Path) -> None:
    """After the block the file holds what was written, and nothing else is left."""
    target = tmp_path / "file"
    target.write_bytes(b"old")
    with replacing(target) as file:
        file.write(b"new")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    """On any failure, Ctrl-C included, the old file stays and no partial file remains."""
    target = tmp_path / "file"
    target.write_bytes(b"old")

    def interrupted() -> None:
        with replacing(target) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """It names the file that was asked for; nothing is created beside it."""
    with pytest.raises(FileNotFoundError, match=r"directory of this file does not exist.*none/file'"):
        write(tmp_path / "none" / "file")
    (tmp_path / "plain").write_bytes(b"")
    with pytest.raises(NotADirectoryError, match="plain/file'"):
        write(tmp_path / "plain" / "file")
    assert list(tmp_path.iterdir()) == [tmp_path / "plain"]


def test_who_may_read_it_stays_as_it_was(tmp_path: Path) -> None:
    """A private file is not opened to others by a rewrite; a new one is as readable as the umask makes it."""
    target = tmp_path / "private"
    target.write_bytes(b"old")
    target.chmod(0o600)
    write(target)
    assert target.stat().st_mode & 0o777 == 0o600
    before = os.umask(0o027)
    try:
        write(tmp_path / "new")
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """What it points to is replaced."""
    (tmp_path / "one").write_bytes(b"old")
    (tmp_path / "latest").symlink_to("one")
    write(tmp_path / "latest")
    assert (tmp_path / "latest").is_symlink()
    assert (tmp_path / "one").read_bytes() == b"new"


def test_what_is_no_file_is_left_alone(tmp_path: Path) -> None:
    """A pipe, a device or a folder is an error, before anything is written: root could put a file in a device's place."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name, what in (("pipe", "a pipe"), ("link", "a pipe"), (".", "a directory")):
        with pytest.raises(OSError, match=f"is {what}.*, which a file must not replace"):
            write(tmp_path / name)
    assert (tmp_path / "pipe").is_fifo()
    assert len(list(tmp_path.iterdir())) == 2


def test_what_a_killed_process_left_is_taken_away(tmp_path: Path) -> None:
    """The next one to write the file removes the half-written one of a process that was killed, and no other file."""
    target = tmp_path / "file[1].jsonl"
    code = f"import os\nfrom cascade.util.atomic_write import replacing\nwith replacing({str(target)!r}) as f:\n"
    code += "    f.write(b'half')\n    f.flush()\n    os.kill(os.getpid(), 9)\n"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    (left,) = tmp_path.iterdir()
    others = [tmp_path / ".file1.jsonl.x.part", tmp_path / ".file[1].jsonl.work.spare"]
    for other in others:
        other.touch()
    with replacing(target) as file:
        file.write(b"new")
        assert not left.exists()
    assert target.read_bytes() == b"new"
    assert sorted(tmp_path.iterdir()) == sorted([target, *others])


def test_who_is_still_writing_is_left_alone(tmp_path: Path) -> None:
    """Two concurrent writers of one file both succeed, and the later content remains."""
    target = tmp_path / "file"
    with replacing(target) as first:
        first.write(b"first")
        with replacing(target) as second:
            second.write(b"second")
        assert target.read_bytes() == b"second"
    assert target.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [target]
