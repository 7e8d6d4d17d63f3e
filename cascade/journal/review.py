"""Which runs people should look at: sampled runs whose two answers differ, the most informative first, each once."""

import hashlib
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cascade.journal.record import Record
from cascade.journal.store import Filter, SqlStore

_NOTE = "review: returned {returned:g}, premium {premium:g}"
_AT_RANDOM = ", chosen at random"
_READ = re.compile(rf"review: returned ([\d.]+), premium ([\d.]+)({_AT_RANDOM})?")
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """What people said of a run.

    Attributes:
        returned: The quality of the answer returned, in [0, 1].
        premium: That of premium's.
        at_random: Whether the run was shown by chance, and not because it was hard.
    """

    returned: float
    premium: float
    at_random: bool

    @property
    def loss(self) -> float:
        """Premium's quality less that of the answer returned."""
        return self.premium - self.returned


def next_case(
    store: SqlStore, skipped: frozenset[str] = frozenset(), *, at_random: bool = False
) -> tuple[ReviewCase | None, int]:
    """The run whose label would say most, and how many wait; None where none does.

    A run waits where its text and a shadow answer that says something else are stored, and nobody has looked at it. First
    come those that a grader could not decide, then those of which the cascade was least sure.

    Args:
        store: The journal.
        skipped: Runs that are not to be shown.
        at_random: Any of the runs that wait, with the same probability: what people say of such runs holds for all.
    """
    condition = (
        "FROM cascade_shadows s JOIN cascade_runs r ON r.run_id = s.run_id "
        "LEFT JOIN cascade_labels l ON l.run_id = r.run_id "
        "WHERE s.state = 'done' AND s.answer IS NOT NULL AND (s.agrees IS NULL OR NOT s.agrees) AND r.tier IS NOT NULL "
        "AND r.tier <> s.tier AND NOT EXISTS "
        "(SELECT 1 FROM cascade_feedback f WHERE f.run_id = r.run_id AND substr(f.note, 1, 7) = 'review:')"
    )
    ((waiting,),) = store.execute(f"SELECT COUNT(DISTINCT r.run_id) {condition}")
    if at_random:
        rows = store.execute(f"SELECT DISTINCT r.run_id {condition}")
        random.SystemRandom().shuffle(rows)
    else:
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


def note_of(review: Review) -> str:
    """The note of the feedback that a review leaves: the quality of both answers."""
    note = _NOTE.format(returned=review.returned, premium=review.premium)
    return note + _AT_RANDOM if review.at_random else note


def review_of(note: str | None) -> Review | None:
    """The review that left a note; None where none did."""
    match = _READ.fullmatch(note or "")
    return None if match is None else Review(returned=float(match[1]), premium=float(match[2]), at_random=bool(match[3]))


def human_labels(store: SqlStore) -> Iterator[dict[str, Any]]:
    """What people said of runs, the last word of each: as plain data, with the grader's loss where there is one.

    ``human`` is premium's quality less that of the answer returned, as in the anchors of ``cascade grade-shadows``; prompt
    and answers are there where the journal has them.
    """
    for record in store.read(Filter(graded=True)):
        reviews = [(review, f) for f in record.feedback if (review := review_of(f.get("note"))) is not None]
        if not reviews:
            continue
        review, feedback = reviews[-1]
        rows = store.execute(
            "SELECT loss, grader, probability FROM cascade_labels WHERE run_id = ? AND state = 'done'", (record.run_id,)
        )
        loss, grader, probability = rows[0] if rows else (None, None, record.sampling_probability)
        line: dict[str, Any] = {
            "id": record.run_id,
            "policy": record.policy,
            "human": review.loss,
            "quality": review.returned,
            "at_random": review.at_random,
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
