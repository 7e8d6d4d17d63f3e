"""Grades of anchors by the present judge, in the journal's database, and whether they show that the judge changed."""

from cascade.promise.anchors import AnchorTracker

from .store import SqlStore
from .writer_connection import Book

ALPHA = 0.05
"""The probability of ever holding an alarm back for a judge that is the same."""


IN_ALARM = 5
"""How often every anchor is graded again before a promise is called broken."""
MOST_GRADES = 1_500
"""Of all anchors together in one alarm."""
LONGEST_WAIT_S = 86_400.0
"""How long an alarm waits for that."""


class AnchorBook(Book):
    """The rows of ``cascade_anchors``."""

    def add(self, anchor: str, judge: float, human: float, grader: str) -> None:
        """Enters one grade: the losses by the judge and by people, and the grader's name."""
        values = (anchor, judge, human, grader, self._clock())
        query = "INSERT INTO cascade_anchors (anchor, judge, human, grader, at) VALUES (?, ?, ?, ?, ?)"
        self._session.run(lambda store: store.execute(query, values))

    def tracker(self) -> AnchorTracker:
        """What the grades say."""
        return self._session.run(anchor_tracker)

    def alarmed(self) -> bool:
        """Whether any promise is in doubt or broken, or its alarm is held back."""
        query = "SELECT 1 FROM cascade_promises WHERE state IN ('in doubt', 'broken')"
        return bool(self._session.run(lambda store: store.execute(query)))

    def reset(self) -> None:
        """Forgets all grades: the next ones are the baseline of the present judge."""
        self._session.run(lambda store: store.execute("DELETE FROM cascade_anchors"))


def hold_back(store: SqlStore, alarm_at: float, now: float) -> str | None:
    """Why the alarm of a broken promise waits: "the judge changed", or that this is not known yet; None: it need not.

    Args:
        store: The journal.
        alarm_at: When the promise came into doubt, in Unix seconds.
        now: The present time.
    """
    ((anchors, since),) = store.execute(
        "SELECT COUNT(DISTINCT anchor), COALESCE(SUM(CASE WHEN at >= ? THEN 1 ELSE 0 END), 0) FROM cascade_anchors",
        (alarm_at,),
    )
    if not anchors:
        return None
    if anchor_tracker(store).judge_changed(ALPHA):
        return "the judge changed, as the anchors show"
    if since < min(IN_ALARM * anchors, MOST_GRADES) and now - alarm_at < LONGEST_WAIT_S:
        return "anchors are graded first, to see whether the judge changed"
    return None


def anchor_tracker(store: SqlStore) -> AnchorTracker:
    """What the grades in a journal say."""
    rows = store.execute("SELECT anchor, judge, human FROM cascade_anchors ORDER BY id")
    return AnchorTracker().add_all((anchor, judge, human) for anchor, judge, human in rows)
