"""Which runs people should look at: sampled runs whose two answers differ, the most informative first, each once.

Or by chance, the uncertain ones more often; the note of the review then has the probability, as estimates need it.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import SystemRandom
from statistics import fmean
from typing import Any

from cascade.journal.record import Record
from cascade.journal.store import Filter, SqlStore
from cascade.promise.review_sampling import ReviewCandidate, draw_sizes

_NOTE = "review: returned {returned:g}, premium {premium:g}"
_AT_RANDOM = ", chosen at random"
_CHANCE = ", {chance:.4g} times as likely as the average"
_READ = re.compile(
    rf"review: returned ([\d.]+), premium ([\d.]+)(?:({_AT_RANDOM})(?:, ([\d.e+-]+) times as likely as the average)?)?"
)
_CANDIDATES = 200
_MOST_DRAWN_FROM = 5_000
"""Of the runs that wait, as many are drawn from: a random part of more of them is as good."""
_MOST_LEARNT_FROM = 1_000  # reviews


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewCase:
    """A run to look at.

    Attributes:
        run_id: The run.
        policy: Its policy.
        messages: What was asked.
        answers: The two answers, in the order in which they are shown as A and B.
        returned: Which of them was returned: 0 or 1.
        chance: Where it was drawn by chance, the probability of that, relative to the mean of its policy's runs that wait.
    """

    run_id: str
    policy: str
    messages: list[dict[str, Any]]
    answers: tuple[str, str]
    returned: int
    chance: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """What people said of a run.

    Attributes:
        returned: The quality of the answer returned, in [0, 1].
        premium: That of premium's.
        chance: Where the run was shown by chance, how likely that was, relative to the others of its policy; None: it was
            shown because it was hard.
    """

    returned: float
    premium: float
    chance: float | None

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
        at_random: By chance, the uncertain ones more often, of those that a grader graded where there are any: what people
            say of such runs, weighted by their probability, holds for all.
    """
    condition = f"{_SHOWABLE} AND NOT {_REVIEWED}"
    ((waiting,),) = store.execute(f"SELECT COUNT(DISTINCT r.run_id) {condition}")
    if at_random:
        return _draw(store, condition, skipped), waiting
    rows = store.execute(
        f"SELECT r.run_id {condition} ORDER BY CASE WHEN l.state = 'undecided' THEN 0 ELSE 1 END, "
        "ABS(COALESCE(r.confidence, 0.5) - 0.5), r.id DESC LIMIT ?",
        (_CANDIDATES + len(skipped),),
    )
    for (run_id,) in rows:
        case = None if run_id in skipped else _case(store, run_id)
        if case is not None:
            return case, waiting
    return None, waiting


_SHOWABLE = (
    "FROM cascade_shadows s JOIN cascade_runs r ON r.run_id = s.run_id "
    "LEFT JOIN cascade_labels l ON l.run_id = r.run_id "
    "WHERE s.state = 'done' AND s.answer IS NOT NULL AND (s.agrees IS NULL OR NOT s.agrees) AND r.tier IS NOT NULL "
    "AND r.tier <> s.tier"
)
_REVIEWED = "EXISTS (SELECT 1 FROM cascade_feedback f WHERE f.run_id = r.run_id AND substr(f.note, 1, 7) = 'review:')"


def _draw(store: SqlStore, condition: str, skipped: frozenset[str]) -> ReviewCase | None:
    """A run by chance; see ``draw_sizes``."""
    random = SystemRandom()
    columns = "r.run_id, r.policy, l.state, l.loss, r.confidence, COALESCE(l.probability, s.probability)"
    rows = {row[0]: row for row in store.execute(f"SELECT {columns} {condition}") if row[0] not in skipped}
    every = [row for row in rows.values() if row[2] in ("done", "undecided")] or list(rows.values())
    if len(every) > _MOST_DRAWN_FROM:
        every = random.sample(every, _MOST_DRAWN_FROM)
    sizes = draw_sizes([_candidate(row) for row in every], _labelled(store, columns)) if every else []
    totals: dict[str, list[float]] = {}
    for row, size in zip(every, sizes, strict=True):
        totals.setdefault(row[1], []).append(size)
    while every:
        (place,) = random.choices(range(len(every)), sizes)
        case = _case(store, every[place][0])
        if case is not None:
            return replace(case, chance=sizes[place] / fmean(totals[case.policy]))
        del every[place], sizes[place]
    return None


def _labelled(store: SqlStore, columns: str) -> list[tuple[ReviewCandidate, float]]:
    """What people said before of the newest runs, with what was known of them."""
    notes: dict[str, str] = dict(
        store.execute(
            "SELECT run_id, note FROM (SELECT id, run_id, note FROM cascade_feedback WHERE substr(note, 1, 7) = 'review:' "
            "ORDER BY id DESC LIMIT ?) n ORDER BY id",
            (_MOST_LEARNT_FROM,),
        )
    )
    if not notes:
        return []
    rows = {row[0]: row for row in store.execute(f"SELECT {columns} {_SHOWABLE} AND {_REVIEWED}")}
    reviews = ((row, review_of(notes.get(run_id))) for run_id, row in rows.items())
    return [(_candidate(row), review.loss) for row, review in reviews if review is not None]


def _candidate(row: tuple[Any, ...]) -> ReviewCandidate:
    _, _, state, loss, confidence, probability = row
    verdict = None if loss is None and state != "undecided" else float(loss or 0.0)
    return ReviewCandidate(verdict=verdict, confidence=confidence, weight=1.0 / (probability or 1.0))


def _case(store: SqlStore, run_id: str) -> ReviewCase | None:
    """The run, where its texts are stored and differ."""
    record = store.find(run_id)
    case = None if record is None else case_of(record)
    return case if case is not None and case.answers[0] != case.answers[1] else None


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
    if review.chance is None:
        return note
    return note + _AT_RANDOM + ("" if review.chance == 1.0 else _CHANCE.format(chance=review.chance))


def review_of(note: str | None) -> Review | None:
    """The review that left a note; None where none did."""
    match = _READ.fullmatch(note or "")
    if match is None:
        return None
    chance = None if match[3] is None else float(match[4] or 1.0)
    return Review(returned=float(match[1]), premium=float(match[2]), chance=chance)


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
            "at_random": review.chance is not None,
            "chance": review.chance,
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
