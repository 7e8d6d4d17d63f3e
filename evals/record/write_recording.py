"""Dataset and work file -> the recording; the grades and further fields that it held before are kept."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from evals.common.answer_rows import join_parts
from evals.recording import Example, read, write

from .checkpoint import Checkpoint, CheckpointError
from .dataset import Dataset


def materialise(out: str | os.PathLike[str], dataset: Dataset, work: Checkpoint) -> int:
    """Writes the recording as a whole or not at all, and returns the number of its rows: those with an answer.

    Grades and further fields that an earlier version of the file holds are kept, but for grades by another reference; texts
    and costs are the work file's.
    Raises CheckpointError where that version has other rows, so that nothing of somebody else's is overwritten.
    """
    work.file.reserve.give_up()  # nothing more is asked, and the recording needs the room
    earlier = read(out) if Path(out).exists() else iter(())
    rows = write(out, _joined(_answered(dataset, work), earlier, str(out), work))
    work.wrote()
    return rows


def _answered(dataset: Dataset, work: Checkpoint) -> Iterator[Example]:
    for row, example in enumerate(dataset):
        answers = dict(example.answers)
        for model, key in enumerate(work.models):
            if work.touched(row, model) and (made := join_parts(work.parts(row, model))) is not None:
                answers[key] = made
        if answers:
            yield replace(example, answers=answers)


def _joined(new: Iterator[Example], earlier: Iterator[Example], out: str, work: Checkpoint) -> Iterator[Example]:
    """The new rows with what the earlier ones hold beside; both stand in the dataset's order."""
    old = next(earlier, None)
    for example in new:
        if old is not None and old.id == example.id:
            yield _kept(old, example)
            old = next(earlier, None)
        else:
            yield example
    if old is not None:
        raise CheckpointError(
            f"{out}: the row {old.id!r} is not in the dataset, or not in its order; the file was left as it is. What was "
            f"answered stands in {work.path}: give another name by --out, and rename that file likewise"
        )


def _kept(old: Example, new: Example) -> Example:
    answers: dict[str, Mapping[str, Any]] = dict(old.answers)
    for key, answer in new.answers.items():
        before = answers.get(key)
        if before is not None and "grader" in before and old.reference != new.reference:
            before = _ungraded(before)
        answers[key] = answer if before is None else _merged(before, answer)
    return replace(new, answers=answers, raw={**old.raw, **new.raw})


def _ungraded(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The answer without its grade and those of its samples."""
    made = {name: value for name, value in answer.items() if not name.startswith("grader")}
    samples = [{**sample, "quality": None} for sample in answer.get("samples") or ()]
    return {**made, "quality": None, **({"samples": samples} if samples else {})}


def _merged(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """The answer as it is now, with the grade and the further fields it had before, where it is the same answer."""
    if before.get("text") != now["text"]:
        return dict(now)
    made = {**before, **now}
    if now.get("quality") is None:
        made["quality"] = before.get("quality")
    if "samples" in now:
        was = before.get("samples") or []
        made["samples"] = [_merged(was[i], s) if i < len(was) else s for i, s in enumerate(now["samples"])]
    return made
