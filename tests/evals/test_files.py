"""Replacing a file: all of it or nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from evals.files import replacing


def test_the_new_content_takes_the_place_of_the_old(tmp_path: Path) -> None:
    """After the block the file holds what was written, is readable by others, and nothing else is left."""
    target = tmp_path / "file"
    target.write_bytes(b"old")
    with replacing(target) as file:
        file.write(b"new")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [target]


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    """Whatever stops the writing, Ctrl-C included, the old file stays and no half-written one is left."""
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
    """Nothing is created beside the target."""
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "none" / "file"):
        pass


def test_what_a_killed_process_left_is_taken_away(tmp_path: Path) -> None:
    """The next one to write the file removes the half-written one of a process that was killed, and no other file."""
    target = tmp_path / "file[1].jsonl"
    code = f"import os\nfrom evals.files import replacing\nwith replacing({str(target)!r}) as f:\n"
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
    """Of two that write the same file at once each ends well, and the later one stands."""
    target = tmp_path / "file"
    with replacing(target) as first:
        first.write(b"first")
        with replacing(target) as second:
            second.write(b"second")
        assert target.read_bytes() == b"second"
    assert target.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [target]
