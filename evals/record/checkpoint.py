"""The work file next to a recording: every answer is appended at once, so that nothing is paid for twice.

JSON Lines. The first line holds the hash of the dataset. A list is one part of a model's answer to a row, or its failure:
``[row, model, part, count (0: failed), usd, offset of the previous line about that row and model or -1, {...}]``; an object
is about the run. A process that is killed leaves at most half a line, which the next process removes.
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
    """A work file that does not fit the command, or cannot be used; the message says what to do."""


class Checkpoint:
    """An open work file, locked against other processes.

    Attributes:
        spent: The known cost of all parts in USD.
        unpriced_parts: How many parts are of unknown cost.
        unconfirmed_usd: The most that requests without a reply can have cost (counted under a cost limit only).
        grading_usd: The known cost of grades by judge models.
        written: Whether the recording is up to date with this file and the dataset.

    Raises:
        CheckpointError: The file does not fit the dataset, or is damaged, or another process has it open.
        OSError: The file cannot be read or written.
    """

    def __init__(self, path: str | os.PathLike[str], survey: Survey) -> None:
        self.path, self.survey = Path(path), survey
        self.models: list[str] = []
        self.settings: dict[str, Any] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.spent, self.unconfirmed_usd, self.grading_usd, self.unpriced_parts, self.written = 0.0, 0.0, 0.0, 0, True
        self._parts = [ANSWER, SAMPLES]
        # By model, then row: the offset of the last line, one bit a part that is there, one a part that failed.
        self._last: list[array[int]] = []
        self._done: list[array[int]] = []
        self._failed: list[array[int]] = []
        self._samples: list[array[int]] = []
        self._open_requests: dict[int, float] = {}
        self._last_request = 0
        try:
            self.log = AppendLog(self.path)
        except BlockingIOError:
            raise CheckpointError(f"{self.path}: another process is recording to it; wait until it has finished") from None
        try:
            self._scan()
            self.log.reserve.allocate()
        except BaseException:
            self.log.close()
            raise

    def _scan(self) -> None:
        with open(self.path, "rb", buffering=1 << 20) as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break  # cut off by a kill or a full disk
                try:
                    if number == 1:
                        if not self._check_header(json.loads(line)):
                            break
                    elif line.startswith(b"["):
                        # The first fields only: parsing every token's log-probability would take minutes.
                        row, model, part, count, usd, _ = json.loads(line[: line.index(b", {")] + b"]")
                        self._count(row, model, part, count, usd, self.log.end)
                    else:
                        self._apply(json.loads(line))
                except (ValueError, IndexError, KeyError, TypeError) as error:
                    if isinstance(error, CheckpointError):
                        raise
                    raise CheckpointError(f"{self.path}:{number}: the line is damaged; {self._remedy(number)}") from None
                self.log.end += len(line)
        self.unconfirmed_usd += sum(self._open_requests.values())
        self._open_requests.clear()
        self.log.truncate()
        if not self.log.end:
            self._append({"work": FORMAT, "dataset": self.survey.sha256, "rows": self.survey.rows})

    def _remedy(self, number: int) -> str:
        """The remedy for a damaged line, such as a power failure may leave: lines never refer to later ones."""
        if number == 1:
            return "choose another --out"
        path, backup = shlex.quote(str(self.path)), shlex.quote(f"{self.path}.kept")
        return f"`head -n {number - 1} {path} > {backup} && mv {backup} {path}` keeps the lines before it"

    def _check_header(self, head: Mapping[str, Any]) -> bool:
        """Whether the file can be continued; it starts again if nothing was requested yet for another dataset."""
        if head["work"] != FORMAT:
            raise CheckpointError(f"{self.path}: written by another version of this program; choose another --out")
        if head["dataset"] == self.survey.sha256:
            return True
        with open(self.path, "rb") as file:
            end_requests = any(line.startswith((b"[", b'{"asks"', b'{"batch"')) for line in file)
        if end_requests:
            raise CheckpointError(
                f"{self.path}: belongs to another dataset (SHA-256 {head['dataset'][:16]}, {head['rows']} rows) than the "
                f"one given (SHA-256 {self.survey.sha256[:16]}, {self.survey.rows} rows); choose another --out"
            )
        return False

    def _apply(self, entry: dict[str, Any]) -> None:
        match entry:
            case {"batch": tag, **about}:
                self.batches[tag] = {**self.batches.get(tag, {}), **about}
            case {"model": key}:
                self._add_model(key)
            case {"setting": name, "value": value}:
                self.settings[name] = value
            case {"asks": number, "usd": usd}:
                self._open_requests[number] = usd
                self._last_request = max(self._last_request, number)
            case {"asked": numbers, "usd": usd}:
                for number in numbers:
                    self._open_requests.pop(number, None)
                self.unconfirmed_usd += usd
            case {"graded": usd}:
                self.grading_usd += usd
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
            self.unpriced_parts += 1
        else:
            self.spent += usd

    def pin(self, pin: PinnedSetting) -> None:
        """Stores an argument. Raises CheckpointError where there are answers that were recorded with another value of it."""
        name, value = pin.name, pin.value
        if name in self.settings and self.settings[name] != value and self._is_bound(pin):
            fields = difference(name, self.settings[name], value)
            raise CheckpointError(
                f"{self.path}: was started with {fields}; use the same value again, or choose another --out"
            )
        if self.settings.get(name, self) != value:
            self._append({"setting": name, "value": value})
            self.settings[name] = value

    def _is_bound(self, pin: PinnedSetting) -> bool:
        """Whether there is an answer that depends on the setting, or an open batch."""
        if any(not about.get("done") for about in self.batches.values()):
            return True
        if pin.model not in self.models:
            return False
        done = self._done[self.models.index(pin.model)]
        bits = -1 if pin.part is None else self._bit(pin.part)
        return any(row & bits for row in done)

    def model_index(self, key: str) -> int:
        """The number of the model that the recording calls ``key``."""
        if key not in self.models:
            self._append({"model": key})
            self._add_model(key)
        return self.models.index(key)

    def has_part(self, row: int, model: int, part: str) -> bool:
        """Whether the part is recorded (for samples: at least one)."""
        return bool(self._done[model][row] & self._bit(part))

    def sample_count(self, row: int, model: int) -> int:
        """How many samples are recorded."""
        return self._samples[model][row]

    def part_failed(self, row: int, model: int, part: str) -> bool:
        """Whether the part's last request failed."""
        return bool(self._failed[model][row] & self._bit(part))

    def any_failed(self, row: int, model: int) -> bool:
        """Whether any part failed."""
        return bool(self._failed[model][row])

    def has_parts(self, row: int, model: int) -> bool:
        """Whether anything is stored of the row and model, failures included."""
        return self._last[model][row] >= 0

    def add_part(self, row: int, model: int, part: str, count: int, usd: float | None, fields: Mapping[str, Any]) -> None:
        """Appends a part. It is in the file when this returns, and on the disk after the next ``sync``.

        Args:
            row: The number of the row, from 0.
            model: The number of the model.
            part: ``ANSWER``, ``SAMPLES`` or a judge's name.
            count: How many answers the part holds; 0 for a failure.
            usd: The cost in USD; None where it is unknown.
            fields: The content of the part.

        Raises:
            OSError: The line cannot be written.
        """
        before = self._last[model][row]
        head = json.dumps([row, model, part, count, usd, before])
        body = json.dumps(fields, ensure_ascii=False, allow_nan=False)
        offset = self.log.append(f"{head[:-1]}, {body}]\n".encode())
        self._count(row, model, part, count, usd, offset)

    def parts(self, row: int, model: int) -> list[Part]:
        """Everything stored of one row and model, oldest first."""
        stored = []
        offset = self._last[model][row]
        try:
            while offset >= 0:
                _, _, name, count, usd, offset, fields = json.loads(self.log.line_at(offset))
                stored.append(Part(name=name, count=count, usd=usd, content=fields))
        except EOFError:
            raise CheckpointError(
                f"{self.path}: ends within a line that was complete before; choose another --out"
            ) from None
        return stored[::-1]

    def begin_request(self, usd: float) -> int:
        """Stores that a request that costs at most ``usd`` is about to be sent; returns its number for ``end_requests``."""
        self._last_request += 1
        self._append({"asks": self._last_request, "usd": usd})
        return self._last_request

    def end_requests(self, numbers: Sequence[int], usd: float = 0.0) -> None:
        """Stores that the requests are over; ``usd`` is the most that they cost beyond the stored parts."""
        self._append({"asked": list(numbers), "usd": usd})
        self.unconfirmed_usd += usd

    def add_grading_cost(self, usd: float) -> None:
        """Stores the cost of a grade by a judge model."""
        self._append({"graded": usd})
        self.grading_usd += usd

    def update_batch(self, tag: str, **about: object) -> None:
        """Stores the state of a batch; it is on the disk when this returns."""
        self._append({"batch": tag, **about})
        self.batches[tag] = {**self.batches.get(tag, {}), **about}
        self.sync()

    def mark_written(self) -> None:
        """Stores that the recording is up to date."""
        self._append({"wrote": self.log.end, "content": self.survey.content})
        self.written = True

    def _append(self, entry: Mapping[str, Any]) -> None:
        self.log.append(json.dumps(entry).encode() + b"\n")

    def sync(self) -> None:
        """Flushes the appended lines to the disk."""
        self.log.sync()

    def close(self) -> None:
        """Syncs and unlocks."""
        self.log.close()
