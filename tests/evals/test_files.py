"""Replacing a file: all of it or nothing."""

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
