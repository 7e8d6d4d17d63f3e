"""Dataset and work file -> the recording, graded where a grader is given; what it held before beside the answers is kept."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from evals.grade import GRADERS, grade
from evals.record.dataset import Dataset
from evals.record.parts import assemble
from evals.record.work import Work, WorkError
from evals.recording import Example, read, write

Grade = Callable[[Example, str], float | None]


def grader(names: str | None) -> Grade | None:
    """``KIND``, or ``task=KIND,...`` with perhaps a ``KIND`` for all other tasks, as a function of example and text.

    None is given back where ``names`` is None; the function gives None where the example has no reference or no kind.
    Raises ValueError for an unknown kind.
    """
    if names is None:
        return None
    kinds: dict[str | None, str] = {}
    for name in names.split(","):
        task, sign, kind = name.rpartition("=")
        if kind not in GRADERS:
            raise ValueError(f"--grader: unknown grader {kind!r}; known: {', '.join(GRADERS)}")
        kinds[task if sign else None] = kind

    def graded(example: Example, text: str) -> float | None:
        kind = kinds.get(example.task, kinds.get(None))
        return None if kind is None or example.reference is None else grade(example.reference, text, kind)

    return graded


def materialise(out: str | os.PathLike[str], dataset: Dataset, work: Work, graded: Grade | None = None) -> int:
    """Writes the recording as a whole or not at all, and returns the number of its rows: those with an answer.

    Grades and further fields that an earlier version of the file holds are kept; texts and costs are the work file's.
    Raises WorkError where that version has other rows, so that nothing of somebody else's is overwritten.
    """
    earlier = read(out) if Path(out).exists() else iter(())
    rows = write(out, _joined(_answered(dataset, work, graded), earlier, str(out), work))
    work.wrote()
    return rows


def failures(work: Work) -> Counter[tuple[str, str, str]]:
    """How many rows failed, by model, part and kind of failure."""
    found: Counter[tuple[str, str, str]] = Counter()
    for model, key in enumerate(work.models):
        for row in range(work.survey.rows):
            if work.any_failed(row, model):
                last = {p.name: p for p in work.parts(row, model)}
                found.update((key, p.name, str(p.found["kind"])) for p in last.values() if not p.count)
    return found


def _answered(dataset: Dataset, work: Work, graded: Grade | None) -> Iterator[Example]:
    for row, example in enumerate(dataset):
        answers = dict(example.answers)
        for model, key in enumerate(work.models):
            if work.touched(row, model) and (made := assemble(work.parts(row, model))) is not None:
                answers[key] = _grade(example, made, graded) if graded is not None else made
        if answers:
            yield replace(example, answers=answers)


def _grade(example: Example, answer: dict[str, Any], graded: Grade) -> dict[str, Any]:
    for one in (answer, *answer.get("samples", ())):
        one["quality"] = graded(example, one["text"])
    return answer


def _joined(new: Iterator[Example], earlier: Iterator[Example], out: str, work: Work) -> Iterator[Example]:
    """The new rows with what the earlier ones hold beside; both stand in the dataset's order."""
    old = next(earlier, None)
    for example in new:
        if old is not None and old.id == example.id:
            yield _kept(old, example)
            old = next(earlier, None)
        else:
            yield example
    if old is not None:
        raise WorkError(
            f"{out}: the row {old.id!r} is not in the dataset, or not in its order; the file was left as it is. What was "
            f"answered stands in {work.path}: give another name by --out, and rename that file likewise"
        )


def _kept(old: Example, new: Example) -> Example:
    answers: dict[str, Mapping[str, Any]] = dict(old.answers)
    for key, answer in new.answers.items():
        before = answers.get(key)
        answers[key] = answer if before is None else _merged(before, answer)
    return replace(new, answers=answers, raw={**old.raw, **new.raw})


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
