"""Writes the recording from the dataset and the work file; keeps the grades and further fields it already has."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from evals.common.answer_rows import join_parts
from evals.recording import Example, read, write

from .checkpoint import Checkpoint, CheckpointError
from .dataset import Dataset


def write_recording(out: str | os.PathLike[str], dataset: Dataset, checkpoint: Checkpoint) -> int:
    """Writes the recording atomically.

    Texts and costs come from the work file. Grades and further fields of an earlier version of the recording are kept,
    except for grades against a reference that has changed.

    Args:
        out: The recording's path.
        dataset: The dataset that was recorded.
        checkpoint: The open work file.

    Returns:
        The number of rows: those with at least one answer.

    Raises:
        CheckpointError: The earlier version has other rows than the dataset; it is left as it is.
    """
    checkpoint.log.reserve.release()  # no more requests are sent, and the recording needs the space
    earlier = read(out) if Path(out).exists() else iter(())
    rows = write(out, _with_earlier(_recorded_examples(dataset, checkpoint), earlier, str(out), checkpoint))
    checkpoint.mark_written()
    return rows


def _recorded_examples(dataset: Dataset, checkpoint: Checkpoint) -> Iterator[Example]:
    for row, example in enumerate(dataset):
        answers = dict(example.answers)
        for model, key in enumerate(checkpoint.models):
            if checkpoint.has_parts(row, model) and (fields := join_parts(checkpoint.parts(row, model))) is not None:
                answers[key] = fields
        if answers:
            yield replace(example, answers=answers)


def _with_earlier(new: Iterator[Example], earlier: Iterator[Example], out: str, checkpoint: Checkpoint) -> Iterator[Example]:
    """The new rows with the earlier fields; both are in the order of the dataset."""
    old = next(earlier, None)
    for example in new:
        if old is not None and old.id == example.id:
            yield _with_earlier_fields(old, example)
            old = next(earlier, None)
        else:
            yield example
    if old is not None:
        raise CheckpointError(
            f"{out}: the row {old.id!r} is not in the dataset, or not in its order; the file was not changed. The "
            f"answers are in {checkpoint.path}: choose another --out, and rename that file to match"
        )


def _with_earlier_fields(old: Example, new: Example) -> Example:
    answers: dict[str, Mapping[str, Any]] = dict(old.answers)
    for key, answer in new.answers.items():
        before = answers.get(key)
        if before is not None and "grader" in before and old.reference != new.reference:
            before = _without_grade(before)
        answers[key] = answer if before is None else _keep_grade(before, answer)
    return replace(new, answers=answers, raw={**old.raw, **new.raw})


def _without_grade(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The answer without its grade and the grades of its samples."""
    fields = {name: value for name, value in answer.items() if not name.startswith("grader")}
    samples = [{**sample, "quality": None} for sample in answer.get("samples") or ()]
    return {**fields, "quality": None, **({"samples": samples} if samples else {})}


def _keep_grade(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """The new answer; with the grade and the further fields it had before, where the text is the same."""
    if before.get("text") != now["text"]:
        return dict(now)
    fields = {**before, **now}
    if now.get("quality") is None:
        fields["quality"] = before.get("quality")
    if "samples" in now:
        was = before.get("samples") or []
        fields["samples"] = [_keep_grade(was[i], s) if i < len(was) else s for i, s in enumerate(now["samples"])]
    return fields
