"""Writes the policy file in which the replayed policy uses its new calibration."""

import os
from pathlib import Path

from cascade import PolicyError
from cascade.policy import load
from cascade.util.atomic_write import replacing
from evals.replay.rows.input_rows import ReplayError

from .edit_policy import use_calibration
from .own_policy import OwnPolicy


def calibration_path(target: str | Path) -> Path:
    """Where the calibration of a policy file is written where no other place is named: ``tuned-calibration.json``."""
    path = Path(target)
    return path.with_name(f"{path.stem}-calibration.json")


def check_target(own: OwnPolicy, target: str | Path) -> None:
    """Raises ReplayError unless the new file is in the folder of the old one, from which its relative paths start."""
    if Path(target).resolve().parent != own.path.resolve().parent:
        raise ReplayError(
            f"--write-policy {target}: paths in {own.path} start from its folder; write the new file there, too: "
            f"--write-policy {own.path.parent / Path(target).name}"
        )


def write_policy(own: OwnPolicy, target: str | Path, calibration: str | Path) -> None:
    """Writes the whole policy file, comments included, with the policy using the calibration; checks that it loads.

    Args:
        own: The policy that was tuned.
        target: The file to write.
        calibration: The calibration file, which must have been written.

    Raises:
        ReplayError: The policy file cannot be changed automatically; the message says what to change by hand.
        OSError: The file cannot be written.
    """
    relative = os.path.relpath(Path(calibration).resolve(), Path(target).resolve().parent)
    text = use_calibration(own.path.read_text(encoding="utf-8"), own.name, Path(relative).as_posix())
    try:
        load.parse(text, str(target), folder=Path(target).parent)
    except PolicyError as error:
        raise ReplayError(
            f"{target} was not written, because {own.path} cannot be changed by itself: {error}. The calibration is in "
            f"{calibration}: write `calibration: {relative}` into the policy {own.name!r}"
        ) from None
    with replacing(target) as file:
        file.write(text.encode())
