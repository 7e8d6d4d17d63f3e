"""Did the judge change? A fixed set of anchors, labelled by people, is graded again by the present judge now and then.

A judge model may be biased; what matters is that its bias stays. Each anchor's first grades are its baseline; each later one
is compared with it, as judge less human, and an e-process bets that the judge finds more loss than it did. Where it reaches
1 / alpha, an alarm about losses says nothing about the system.
"""

from collections.abc import Iterable
from math import log

from .e_process import Bet, EProcess

ROUNDS = 3
"""How many first grades of an anchor are its baseline."""
TOLERANCE = 0.01
"""A change of the judge's mean bias up to this is no change: baselines are samples themselves."""
ANCHOR_BETS = (Bet(0.95, 0.0, 1.0), Bet(0.6, 0.0, 1.0), Bet(0.3, 0.0, 0.5), Bet(0.95, 1.0, 1.0))


class AnchorTracker:
    """Follows the grades of anchors.

    Attributes:
        n: How many grades were compared with a baseline.
    """

    def __init__(self) -> None:
        self._first: dict[str, list[float]] = {}
        self._more_loss = EProcess(0.5 * TOLERANCE, bets=ANCHOR_BETS)
        self.n = 0
        self._sum = 0.0

    def add(self, anchor: str, judge: float, human: float) -> None:
        """Takes one grade into account.

        Args:
            anchor: The anchor's id.
            judge: The loss by the judge, in [-1, 1].
            human: The loss by people, in [-1, 1].

        Raises:
            ValueError: A loss is out of range.
        """
        if not -1.0 <= judge <= 1.0 or not -1.0 <= human <= 1.0:
            raise ValueError(f"a loss lies in [-1, 1], got {judge!r} and {human!r}")
        first = self._first.setdefault(anchor, [])
        bias = judge - human
        if len(first) < ROUNDS:
            first.append(bias)
            return
        change = bias - sum(first) / ROUNDS
        self._more_loss.update(max(-1.0, min(1.0, 0.5 * change)))
        self.n += 1
        self._sum += change

    def has_baseline(self, anchor: str) -> bool:
        """Whether an anchor has all of its first grades."""
        return len(self._first.get(anchor, ())) >= ROUNDS

    @property
    def change(self) -> float | None:
        """How much more loss the judge finds than at first, on average; None before the first comparison."""
        return self._sum / self.n if self.n else None

    def judge_changed(self, alpha: float) -> bool:
        """Whether the judge is shown to find more loss than at first; for the same judge with probability at most alpha."""
        return self._more_loss.log_max >= -log(alpha)

    def add_all(self, grades: Iterable[tuple[str, float, float]]) -> "AnchorTracker":
        """``add`` for each (anchor, judge, human); returns itself."""
        for anchor, judge, human in grades:
            self.add(anchor, judge, human)
        return self
