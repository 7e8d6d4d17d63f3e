"""Anchors: pairs of answers that people judged, graded again by the present judge: did it change, or the system?"""

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade.journal.anchors import ALPHA, IN_ALARM, AnchorBook
from cascade.journal.record import Record
from cascade.promise.anchors import ROUNDS, AnchorTracker
from evals.grade.model import Memory

from .sampled_runs import SampledRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A pair of answers with the judgement of people.

    Attributes:
        id: Its name.
        run: The pair, as a sampled run.
        human: Premium's quality less that of the answer returned, by people, in [-1, 1].
        reference: The right answer, for graders that need it.
    """

    id: str
    run: SampledRun
    human: float
    reference: Any = None


def read_anchors(path: str) -> list[Anchor]:
    """Reads JSON Lines with ``id``, ``prompt``, ``returned``, ``premium``, ``human`` and, where needed, ``reference``.

    Raises:
        ValueError: Names file, line and what is wrong.
    """
    anchors: dict[str, Anchor] = {}
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            anchor = _anchor(row)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            problem = str(error) if isinstance(error, ValueError) else "needs id, prompt, returned, premium and human"
            raise ValueError(f"{path}:{number}: {problem}") from None
        if anchor.id in anchors:
            raise ValueError(f"{path}:{number}: two anchors have the id {anchor.id!r}")
        anchors[anchor.id] = anchor
    if not anchors:
        raise ValueError(f"{path}: holds no anchors")
    return list(anchors.values())


def _anchor(row: dict[str, Any]) -> Anchor:
    human = float(row["human"])
    if not -1.0 <= human <= 1.0:
        raise ValueError(f"human: the loss lies in [-1, 1], got {human:g}")
    prompt = row["prompt"]
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    record = Record(
        run_id=str(row["id"]),
        kind="run",
        started=0.0,
        ended=0.0,
        policy="",
        policy_hash="",
        prompt_hash="",
        accepted=True,
        reason="accepted",
        tier=None,
        model=None,
        confidence=None,
        cost_usd=None,
        premium_usd=None,
        latency_s=0.0,
        error=None,
        tags={},
        attempts=(),
        prompt={"messages": messages},
    )
    run = SampledRun(record=record, probability=1.0, returned={"text": row["returned"]}, premium={"text": row["premium"]})
    return Anchor(id=str(row["id"]), run=run, human=human, reference=row.get("reference"))


def turns(anchors: Sequence[Anchor], book: AnchorBook, at_once: int, rng: random.Random) -> Iterable[list[Anchor]]:
    """Which anchors are to be graded, in turns: each at most once in a turn.

    All of them until each has its first grades; then a few at random; and all of them, several times, while a promise is in
    doubt and it is not shown yet that the judge changed.
    """
    tracker = book.tracker()
    for _ in range(ROUNDS):
        missing = [anchor for anchor in anchors if not tracker.has_baseline(anchor.id)]
        if missing:
            yield missing
            tracker = book.tracker()
    if not book.alarmed():
        yield rng.sample(list(anchors), min(at_once, len(anchors)))
        return
    for _ in range(IN_ALARM):
        if tracker.judge_changed(ALPHA):
            return
        yield list(anchors)
        tracker = book.tracker()


def forget(memory: Memory) -> None:
    """Lets a judge model be asked again what it was asked before, without keeping the answer on disk."""
    memory.path = None
    memory.grades.clear()


def line(tracker: AnchorTracker) -> str:
    """What the grades say, in a sentence."""
    if tracker.change is None:
        return "anchors: the first grades are the baseline; later ones are compared with them"
    verdict = "the judge changed" if tracker.judge_changed(ALPHA) else "the judge is not shown to have changed"
    return f"anchors: {verdict}; it finds {tracker.change:+.4f} more loss than at first, over {tracker.n} grades"
