"""Kills workers of the Ray that this process has started."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread


class Killer:
    """Kills so many of this process's own workers, one by one, each once ``is_time`` says so of the kills before.

    ``find`` gives the processes of a title.
    """

    def __init__(
        self,
        title: str,
        times: int,
        is_time: Callable[[int], bool] = lambda kills: True,
        find: Callable[[str], list[int]] | None = None,
    ) -> None:
        self.title, self.times, self.is_time, self.find = title, times, is_time, find or descendants
        self.victims: list[int] = []
        self.over = Event()
        self.thread = Thread(target=self._run)

    def __enter__(self) -> "Killer":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()

    def _run(self) -> None:
        while len(self.victims) < self.times and not self.over.wait(0.05):
            if not self.is_time(len(self.victims)):
                continue
            for process in sorted(set(self.find(self.title)) - set(self.victims)):
                os.kill(process, signal.SIGKILL)
                self.victims.append(process)
                break


def descendants(title: str, program: str = "ray::") -> list[int]:
    """The processes below this one that call themselves ``ray::`` and the title, or whose program has another name."""
    parents, titles = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            titles[int(folder.name)] = (folder / "cmdline").read_bytes().decode("utf-8", "replace")

    def is_below(process: int) -> bool:
        while process in parents and process != os.getpid():
            process = parents[process]
        return process == os.getpid()

    return [
        process for process, name in titles.items() if f"{program}{title}" in name.partition("\0")[0] and is_below(process)
    ]


def senders(title: str) -> list[int]:
    """The processes of that module beside the workers below this process, which are no descendants themselves."""
    processes, raylets = [], {str(process).encode() for process in descendants("", "raylet")}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if title.encode() not in (folder / "cmdline").read_bytes().split(b"\0"):
                continue
            variables = dict(line.partition(b"=")[::2] for line in (folder / "environ").read_bytes().split(b"\0"))
            if variables.get(b"RAY_RAYLET_PID") in raylets:
                processes.append(int(folder.name))
    return processes
