"""The work file beside a recording: whatever was answered is appended at once, so that nothing is paid for twice.

JSON Lines. The first line names the dataset by its hash. A list is one part of what a model was asked about a row,
answered or failed: ``[row, model, part, how many or 0 where it failed, usd, offset of the line before it about that row and
model or -1, {...}]``; an object says something about the run. A process that is killed leaves at most half a line, which
the next one takes away.
"""

import json
import os
import shlex
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.common.types import ANSWER, SAMPLES, Part

from .append_log import AppendLog
from .dataset import Survey
from .resume_check import PinnedSetting, difference

FORMAT = 1


class CheckpointError(ValueError):
    """A work file that does not fit what is asked now, or cannot be used; the message says what to do."""


class Checkpoint:
    """An open work file, locked against a second process. Raises CheckpointError and OSError.

    ``spent`` is what all parts cost in USD as far as it is known, ``unpriced`` how many parts are of unknown cost, and
    ``charged`` what requests that were sent and never answered may have cost at most (kept under a budget only), and
    ``graded`` what judge models were paid for grades, as far as it is known.
    ``written`` says whether the recording holds all that stands here and in the dataset.
    """

    def __init__(self, path: str | os.PathLike[str], survey: Survey) -> None:
        self.path, self.survey = Path(path), survey
        self.models: list[str] = []
        self.settings: dict[str, Any] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.spent, self.charged, self.graded, self.unpriced, self.written = 0.0, 0.0, 0.0, 0, True
        self._parts = [ANSWER, SAMPLES]
        # By model, then row: the offset of the last line, one bit a part that is there, one a part that failed.
        self._last: list[array[int]] = []
        self._done: list[array[int]] = []
        self._failed: list[array[int]] = []
        self._samples: list[array[int]] = []
        self._open: dict[int, float] = {}
        self._asked = 0
        try:
            self.file = AppendLog(self.path)
        except BlockingIOError:
            raise CheckpointError(f"{self.path}: another process is recording to it; wait until it is done") from None
        try:
            self._scan()
            self.file.reserve.take()
        except BaseException:
            self.file.close()
            raise

    def _scan(self) -> None:
        with open(self.path, "rb", buffering=1 << 20) as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break  # cut off by a kill or a full disk
                try:
                    if number == 1:
                        if not self._check(json.loads(line)):
                            break
                    elif line.startswith(b"["):
                        # The first fields only: parsing every token's log-probability would take minutes.
                        row, model, part, count, usd, _ = json.loads(line[: line.index(b", {")] + b"]")
                        self._count(row, model, part, count, usd, self.file.end)
                    else:
                        self._note(json.loads(line))
                except (ValueError, IndexError, KeyError, TypeError) as error:
                    if isinstance(error, CheckpointError):
                        raise
                    raise CheckpointError(f"{self.path}:{number}: the line is damaged; {self._rescue(number)}") from None
                self.file.end += len(line)
        self.charged += sum(self._open.values())
        self._open.clear()
        self.file.cut()
        if not self.file.end:
            self._append({"work": FORMAT, "dataset": self.survey.sha256, "rows": self.survey.rows})

    def _rescue(self, number: int) -> str:
        """What to do about a damaged line, such as a power failure may leave: lines refer to none behind them."""
        if number == 1:
            return "name another --out"
        path, kept = shlex.quote(str(self.path)), shlex.quote(f"{self.path}.kept")
        return f"`head -n {number - 1} {path} > {kept} && mv {kept} {path}` keeps what stands before it"

    def _check(self, head: Mapping[str, Any]) -> bool:
        """Whether the file goes on; where nothing was asked for another dataset yet, it begins anew."""
        if head["work"] != FORMAT:
            raise CheckpointError(f"{self.path}: written by another version of this program; name another --out")
        if head["dataset"] == self.survey.sha256:
            return True
        with open(self.path, "rb") as file:
            asked = any(line.startswith((b"[", b'{"asks"', b'{"batch"')) for line in file)
        if asked:
            raise CheckpointError(
                f"{self.path}: belongs to another dataset (SHA-256 {head['dataset'][:16]}, {head['rows']} rows) than the "
                f"one given (SHA-256 {self.survey.sha256[:16]}, {self.survey.rows} rows); name another --out"
            )
        return False

    def _note(self, said: dict[str, Any]) -> None:
        match said:
            case {"batch": tag, **about}:
                self.batches[tag] = {**self.batches.get(tag, {}), **about}
            case {"model": key}:
                self._add_model(key)
            case {"setting": name, "value": value}:
                self.settings[name] = value
            case {"asks": number, "usd": usd}:
                self._open[number] = usd
                self._asked = max(self._asked, number)
            case {"asked": numbers, "usd": usd}:
                for number in numbers:
                    self._open.pop(number, None)
                self.charged += usd
            case {"graded": usd}:
                self.graded += usd
            case {"wrote": _, **more}:
                self.written = more.get("content") == self.survey.content
            case _:
                raise KeyError("unknown line")

    def _add_model(self, key: str) -> None:
        self.models.append(key)
        rows = self.survey.rows
        self._last.append(array("q", [-1]) * rows)
        self._done.append(array("Q", [0]) * rows)
        self._failed.append(array("Q", [0]) * rows)
        self._samples.append(array("H", [0]) * rows)

    def _bit(self, part: str) -> int:
        if part not in self._parts:
            self._parts.append(part)
        return 1 << self._parts.index(part)

    def _count(self, row: int, model: int, part: str, count: int, usd: float | None, offset: int) -> None:
        bit = self._bit(part)
        if count:
            self._done[model][row] |= bit
            self._failed[model][row] &= ~bit
            if part == SAMPLES:
                self._samples[model][row] += count
        else:
            self._failed[model][row] |= bit
        self._last[model][row] = offset
        self.written = False
        if usd is None:
            self.unpriced += 1
        else:
            self.spent += usd

    def setting(self, setting: PinnedSetting) -> None:
        """Keeps an argument. Raises CheckpointError where answers stand here that were given under another value of it."""
        name, value = setting.name, setting.value
        if name in self.settings and self.settings[name] != value and self._bound(setting):
            told = difference(name, self.settings[name], value)
            raise CheckpointError(f"{self.path}: was begun with {told}; give the same again, or name another --out")
        if self.settings.get(name, self) != value:
            self._append({"setting": name, "value": value})
            self.settings[name] = value

    def _bound(self, setting: PinnedSetting) -> bool:
        """Whether anything that depends on the setting was answered, or is on its way by batch."""
        if any(not about.get("done") for about in self.batches.values()):
            return True
        if setting.model not in self.models:
            return False
        done = self._done[self.models.index(setting.model)]
        bits = -1 if setting.part is None else self._bit(setting.part)
        return any(row & bits for row in done)

    def model(self, key: str) -> int:
        """The number of the model that stands as ``key`` in the recording."""
        if key not in self.models:
            self._append({"model": key})
            self._add_model(key)
        return self.models.index(key)

    def has(self, row: int, model: int, part: str) -> bool:
        """Whether the part is there (samples: some of them)."""
        return bool(self._done[model][row] & self._bit(part))

    def samples(self, row: int, model: int) -> int:
        """How many samples are there."""
        return self._samples[model][row]

    def failed(self, row: int, model: int, part: str) -> bool:
        """Whether the part failed when it was last asked for."""
        return bool(self._failed[model][row] & self._bit(part))

    def any_failed(self, row: int, model: int) -> bool:
        """Whether any part failed."""
        return bool(self._failed[model][row])

    def touched(self, row: int, model: int) -> bool:
        """Whether anything stands here of the row and model."""
        return self._last[model][row] >= 0

    def add(self, row: int, model: int, part: str, count: int, usd: float | None, found: Mapping[str, Any]) -> None:
        """Appends a part (``count`` 0: a failure). It is in the file when this returns, on the disk after the next ``sync``.

        Raises OSError.
        """
        before = self._last[model][row]
        head = json.dumps([row, model, part, count, usd, before])
        body = json.dumps(found, ensure_ascii=False, allow_nan=False)
        offset = self.file.append(f"{head[:-1]}, {body}]\n".encode())
        self._count(row, model, part, count, usd, offset)

    def parts(self, row: int, model: int) -> list[Part]:
        """All that stands here of one row and model, oldest first."""
        found = []
        offset = self._last[model][row]
        try:
            while offset >= 0:
                _, _, name, count, usd, offset, told = json.loads(self.file.line(offset))
                found.append(Part(name=name, count=count, usd=usd, content=told))
        except EOFError:
            raise CheckpointError(f"{self.path}: ends within a line that was whole before; name another --out") from None
        return found[::-1]

    def asks(self, usd: float) -> int:
        """Notes that a request that may cost up to ``usd`` is about to be sent; its number is for ``asked``."""
        self._asked += 1
        self._append({"asks": self._asked, "usd": usd})
        return self._asked

    def asked(self, numbers: Sequence[int], usd: float = 0.0) -> None:
        """The requests are over; ``usd`` is what they may have cost beside what stands in a part."""
        self._append({"asked": list(numbers), "usd": usd})
        self.charged += usd

    def grades(self, usd: float) -> None:
        """Notes what a judge model was paid."""
        self._append({"graded": usd})
        self.graded += usd

    def batch(self, tag: str, **about: Any) -> None:
        """Keeps something about a batch of requests, on the disk when this returns."""
        self._append({"batch": tag, **about})
        self.batches[tag] = {**self.batches.get(tag, {}), **about}
        self.sync()

    def wrote(self) -> None:
        """Notes that the recording holds all that stands here."""
        self._append({"wrote": self.file.end, "content": self.survey.content})
        self.written = True

    def _append(self, said: Mapping[str, Any]) -> None:
        self.file.append(json.dumps(said).encode() + b"\n")

    def sync(self) -> None:
        """Brings what was appended to the disk."""
        self.file.sync()

    def close(self) -> None:
        """Syncs and unlocks."""
        self.file.close()
