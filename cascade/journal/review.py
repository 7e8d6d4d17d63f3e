"""Which runs people should look at: sampled runs whose two answers differ, the most informative first, each once."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cascade.journal.record import Record
from cascade.journal.store import Filter, SqlStore

_NOTE = "review: returned {returned:g}, premium {premium:g}"
_READ = re.compile(r"review: returned ([\d.]+), premium ([\d.]+)")
_CANDIDATES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewCase:
    """A run to look at.

    Attributes:
        run_id: The run.
        policy: Its policy.
        messages: What was asked.
        answers: The two answers, in the order in which they are shown as A and B.
        returned: Which of them was returned: 0 or 1.
    """

    run_id: str
    policy: str
    messages: list[dict[str, Any]]
    answers: tuple[str, str]
    returned: int


def next_case(store: SqlStore, skipped: frozenset[str] = frozenset()) -> tuple[ReviewCase | None, int]:
    """The run whose label would say most, and how many wait; None where none does.

    A run waits where its text and a shadow answer that says something else are stored, and nobody has looked at it. First
    come those that a grader could not decide, then those of which the cascade was least sure.

    Args:
        store: The journal.
        skipped: Runs that are not to be shown.
    """
    condition = (
        "FROM cascade_shadows s JOIN cascade_runs r ON r.run_id = s.run_id "
        "LEFT JOIN cascade_labels l ON l.run_id = r.run_id "
        "WHERE s.state = 'done' AND s.answer IS NOT NULL AND (s.agrees IS NULL OR NOT s.agrees) AND r.tier IS NOT NULL "
        "AND r.tier <> s.tier AND NOT EXISTS "
        "(SELECT 1 FROM cascade_feedback f WHERE f.run_id = r.run_id AND substr(f.note, 1, 7) = 'review:')"
    )
    ((waiting,),) = store.execute(f"SELECT COUNT(DISTINCT r.run_id) {condition}")
    rows = store.execute(
        f"SELECT r.run_id {condition} ORDER BY CASE WHEN l.state = 'undecided' THEN 0 ELSE 1 END, "
        "ABS(COALESCE(r.confidence, 0.5) - 0.5), r.id DESC LIMIT ?",
        (_CANDIDATES + len(skipped),),
    )
    for (run_id,) in rows:
        record = None if run_id in skipped else store.find(run_id)
        case = None if record is None else case_of(record)
        if case is not None and case.answers[0] != case.answers[1]:
            return case, waiting
    return None, waiting


def case_of(record: Record) -> ReviewCase | None:
    """A run as it is shown: the answers in an order that its id decides; None where a text is missing."""
    returned = next((a["answer"] for a in record.attempts if a["tier"] == record.tier and "answer" in a), None)
    premium = next((s["answer"] for s in reversed(record.shadows) if s["state"] == "done" and "answer" in s), None)
    if record.prompt is None or returned is None or premium is None:
        return None
    texts = [_text(returned), _text(premium)]
    place = hashlib.sha256(f"review {record.run_id}".encode()).digest()[0] & 1
    return ReviewCase(
        run_id=record.run_id,
        policy=record.policy,
        messages=list(record.prompt["messages"]),
        answers=(texts[0], texts[1]) if place == 0 else (texts[1], texts[0]),
        returned=place,
    )


def _text(answer: Any) -> str:
    calls = answer.get("tool_calls")
    return "\n".join([str(answer["text"]), *([json.dumps(calls, indent=1)] if calls else [])]).strip()


def note_of(returned: float, premium: float) -> str:
    """The note of the feedback that a review leaves: the quality of both answers."""
    return _NOTE.format(returned=returned, premium=premium)


def human_labels(store: SqlStore) -> Iterator[dict[str, Any]]:
    """What people said of runs, the last word of each: as plain data, with the grader's loss where there is one.

    ``human`` is premium's quality less that of the answer returned, as in the anchors of ``cascade grade-shadows``; prompt
    and answers are there where the journal has them.
    """
    for record in store.read(Filter(graded=True)):
        reviews = [(m, f) for f in record.feedback if (m := _READ.fullmatch(f.get("note") or "")) is not None]
        if not reviews:
            continue
        match, feedback = reviews[-1]
        returned, premium = float(match[1]), float(match[2])
        rows = store.execute(
            "SELECT loss, grader, probability FROM cascade_labels WHERE run_id = ? AND state = 'done'", (record.run_id,)
        )
        loss, grader, probability = rows[0] if rows else (None, None, record.sampling_probability)
        line: dict[str, Any] = {
            "id": record.run_id,
            "policy": record.policy,
            "human": premium - returned,
            "quality": returned,
            "loss": loss,
            "grader": grader,
            "probability": probability,
            "at": feedback["at"],
        }
        case = case_of(record)
        if case is not None:
            only = case.messages[0].get("content") if len(case.messages) == 1 else None
            line["prompt"] = only if isinstance(only, str) else case.messages
            line["returned"], line["premium"] = case.answers[case.returned], case.answers[1 - case.returned]
        yield line
