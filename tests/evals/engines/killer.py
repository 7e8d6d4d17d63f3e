"""Kills workers of the Ray that this process has started."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread


class Killer:
    """Kills so many of this process's own workers, one by one, each once ``is_time`` says so of the kills before."""

    def __init__(self, title: str, times: int, is_time: Callable[[int], bool] = lambda kills: True) -> None:
        self.title, self.times, self.is_time = title, times, is_time
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
            for process in sorted(set(descendants(self.title)) - set(self.victims)):
                os.kill(process, signal.SIGKILL)
                self.victims.append(process)
                break


def descendants(title: str) -> list[int]:
    """The processes below this one that call themselves ``ray::`` and the title."""
    parents, titles = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            titles[int(folder.name)] = (folder / "cmdline").read_bytes().decode("utf-8", "replace")

    def is_below(process: int) -> bool:
        while process in parents and process != os.getpid():
            process = parents[process]
        return process == os.getpid()

    return [process for process, name in titles.items() if name.startswith(f"ray::{title}") and is_below(process)]
