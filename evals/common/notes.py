"""What a reader of files skipped or changed, counted by reason, with the first places."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

_PLACES = 3


@dataclass(slots=True)
class Notes:
    """What was skipped and what was noted, by reason.

    Attributes:
        models: The models that the files name.
        skipped: How many answers were left out, by reason.
        noted: How many answers were taken over with a change, by reason.
        places: The first three places of each reason.
    """

    models: set[str] = field(default_factory=set)
    skipped: Counter[str] = field(default_factory=Counter)
    noted: Counter[str] = field(default_factory=Counter)
    places: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def lines(self) -> list[str]:
        """One line for each reason."""
        lines = []
        for title, counts in (("left out", self.skipped), ("note", self.noted)):
            for reason, count in counts.items():
                places = self.places[reason]
                lines.append(f"{title}: {count:,}, {reason}: {', '.join(places)}{' ...' if count > len(places) else ''}")
        return lines

    def note(self, reason: str, place: str) -> None:
        """Counts an answer that was taken over with a change."""
        self._count(self.noted, reason, place, 1)

    def skip(self, reason: str, place: str, count: int = 1) -> None:
        """Counts answers that were left out."""
        self._count(self.skipped, reason, place, count)

    def _count(self, counts: Counter[str], reason: str, place: str, count: int) -> None:
        counts[reason] += count
        if len(self.places[reason]) < _PLACES:
            self.places[reason].append(place)
