"""What is compared of a run: its numbers, and the events whose shares are followed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import log

from .drift import FORM_FEATURES
from .shares import ShareTest


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficRun:
    """What is compared of one run, or of one example of a recording.

    Attributes:
        form: ``FORM_FEATURES`` features of the prompt's text; None: unknown.
        confidence: The confidence of the first tier's answer; None: unknown.
        tier: The position of the tier whose answer was returned; None: no answer.
        escalated: Whether more than one tier was asked.
        refused: Whether the first tier that was asked refused to answer.
        latency_s: Seconds of its requests for answers; None: unknown.
        cost_usd: What it cost; None: unknown.
    """

    form: Sequence[float] | None
    confidence: float | None
    tier: int | None
    escalated: bool
    refused: bool
    latency_s: float | None
    cost_usd: float | None

    def to_line(self) -> str:
        """The numbers in a line, ``-`` for what is unknown."""
        form = self.form if self.form is not None else [None] * FORM_FEATURES
        values = (*form, self.confidence, self.tier, int(self.escalated), int(self.refused), self.latency_s, self.cost_usd)
        return " ".join("-" if value is None else f"{value:.4g}" for value in values)

    @classmethod
    def from_line(cls, line: str) -> "TrafficRun":
        """What ``to_line`` wrote. Raises ValueError for another line."""
        values = [None if word == "-" else float(word) for word in line.split()]
        if len(values) != FORM_FEATURES + 6:
            raise ValueError(f"a line of a profile has {FORM_FEATURES + 6} numbers, got {len(values)}")
        form, (confidence, tier, escalated, refused, latency_s, cost_usd) = values[:FORM_FEATURES], values[FORM_FEATURES:]
        numbers = [value for value in form if value is not None]
        return cls(
            form=numbers if len(numbers) == FORM_FEATURES else None,
            confidence=confidence,
            tier=None if tier is None else int(tier),
            escalated=bool(escalated),
            refused=bool(refused),
            latency_s=latency_s,
            cost_usd=cost_usd,
        )


@dataclass(slots=True)
class Event:
    """One event whose share is followed.

    Attributes:
        check: The check that it belongs to.
        does: What the runs with it do.
        tier: The tier of the answer; None: not about tiers.
        above: The value of ``check`` above which it happens; None: not about a value.
        alike: How many events belong to the same check; the evidence is divided by that.
    """

    check: str
    does: str
    tier: int | None = None
    above: float | None = None
    alike: int = 1
    test: ShareTest = field(init=False)

    @property
    def evidence(self) -> tuple[float, float]:
        """The largest log e-value of its check by this event, and the present one."""
        return self.test.log_evidence - log(self.alike), self.test.log_now - log(self.alike)

    def words(self) -> str:
        """Its shares."""
        share = self.test.share
        now = "no runs yet" if share is None else f"{share:.1%} of {self.test.n:,} runs {self.does}"
        return f"{now}, {self.test.recorded:.1%} of the recording"

    def of(self, run: TrafficRun) -> bool | None:
        """Whether it happened in a run; None: unknown."""
        if self.tier is not None:
            return run.tier == self.tier
        if self.above is not None:
            value = run.latency_s if self.check == "latency" else run.cost_usd
            return None if value is None else value > self.above
        return run.escalated if self.check == "escalations" else run.refused


def events_of(runs: Sequence[TrafficRun], tiers: Sequence[str]) -> Iterator[Event]:
    """The events that are followed, by the runs of a profile."""
    yield Event("escalations", "escalated")
    yield Event("refusals", "were refused by the first tier")
    for i, name in enumerate(tiers):
        yield Event("tiers", f"were answered by {name}", tier=i)
    for check, unit in (("latency", "took more than {:.3g} s"), ("cost", "cost more than ${:.3g}")):
        values = [run.latency_s if check == "latency" else run.cost_usd for run in runs]
        ordered = sorted(value for value in values if value is not None)
        for share in (0.5, 0.9) if ordered else ():
            above = ordered[int(share * (len(ordered) - 1))]
            yield Event(check, unit.format(above), above=above)
