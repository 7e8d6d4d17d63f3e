"""Functions for the workers of a test."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from time import sleep


class OddError(ValueError):
    """A number that cannot be halved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A shard."""

    number: int

    @property
    def key(self) -> str:
        """See Shard."""
        return f"{self.number:064x}"


def square_slowly(delay_s: float, shard: Number) -> int:
    """The first numbers take longest."""
    sleep(delay_s / (1 + shard.number))
    return shard.number**2


def niceness(_: None, shard: Number) -> int:
    """The worker's."""
    return os.nice(0)


def halve(_: None, shard: Number) -> int:
    """Raises OddError."""
    if shard.number % 2:
        raise OddError(f"{shard.number} is odd")
    return shard.number // 2


def die_three_times(folder: str, shard: Number) -> int:
    """The worker of the second shard is killed, until it has been three times."""
    if shard.number == 1:
        tries = len(list(Path(folder).iterdir()))
        (Path(folder) / f"{tries}-{os.getpid()}").touch()
        if tries < 3:
            os.kill(os.getpid(), signal.SIGKILL)
    return shard.number


def die(_: None, shard: Number) -> None:
    """Kills the worker."""
    os.kill(os.getpid(), signal.SIGKILL)
