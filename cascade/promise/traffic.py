"""Is the traffic like the recording? Compares prompts, confidences, tiers, escalations, refusals, latency and cost."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from math import log
from typing import Any

from .drift import FORM_FEATURES, DriftTest
from .e_process import EProcess
from .shares import ShareTest

LEAST_EXAMPLES = 50
"""A smaller profile says too little to compare with."""
LEAST_LABELS_GAP = 0.02
"""By how much the losses of labelled runs may exceed what confidences admit."""


class DriftState(StrEnum):
    """What the evidence so far says of one check."""

    NOT_SHOWN = "no drift shown"
    IN_DOUBT = "in doubt"
    DRIFTED = "drifted"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficRun:
    """What is compared of one run, or of one example of a recording.

    Attributes:
        form: ``FORM_FEATURES`` features of the prompt's text; None: unknown.
        confidence: Of the first tier's answer; None: unknown.
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
        known = [value for value in form if value is not None]
        return cls(
            form=known if len(known) == FORM_FEATURES else None,
            confidence=confidence,
            tier=None if tier is None else int(tier),
            escalated=bool(escalated),
            refused=bool(refused),
            latency_s=latency_s,
            cost_usd=cost_usd,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficProfile:
    """What a policy's runs looked like on the recording: examples that it was not tuned on, run by the engine.

    Attributes:
        runs: At least ``LEAST_EXAMPLES`` of them.
        hash: Changes with any of them.
    """

    runs: Sequence[TrafficRun]
    hash: str

    @classmethod
    def from_lines(cls, lines: Sequence[str]) -> "TrafficProfile":
        """The profile that a calibration file holds. Raises ValueError where it is too short or a line is wrong."""
        if len(lines) < LEAST_EXAMPLES:
            raise ValueError(f"the profile has {len(lines)} examples; at least {LEAST_EXAMPLES} are needed to compare with")
        digest = sha256("\n".join(lines).encode()).hexdigest()[:16]
        return cls(runs=[TrafficRun.from_line(line) for line in lines], hash=digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One check at the moment.

    Attributes:
        name: What is compared.
        state: What the evidence says.
        words: The same in a few words, with figures.
    """

    name: str
    state: DriftState
    words: str


@dataclass(slots=True)
class _Event:
    """One event whose share is followed.

    Attributes:
        check: The check that it belongs to.
        does: What the runs with it do.
        tier: That of the answer; None: not about tiers.
        above: The value of ``check`` above which it happens; None: not about a value.
        alike: How many events belong to the same check: its evidence is divided by that.
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


class TrafficTracker:
    """Follows how the runs of one policy compare with its profile.

    Args:
        profile: The profile.
        tiers: The names of the policy's tiers.
        alpha: The probability of ever calling any check drifted that is not: it is divided among the checks.
        seed: Of the draws from the profile.

    Attributes:
        runs: How many runs were compared.
        first: After how many runs each check first showed a drift.
    """

    def __init__(self, profile: TrafficProfile, tiers: Sequence[str], alpha: float = 0.05, *, seed: int = 0) -> None:
        self.runs, self.first = 0, dict[str, int]()
        forms = [list(run.form) for run in profile.runs if run.form is not None]
        confidences = [[run.confidence] for run in profile.runs if run.confidence is not None]
        self._mixes: dict[str, DriftTest] = {}
        if len(forms) >= LEAST_EXAMPLES:
            self._mixes["prompts"] = DriftTest(forms, seed=seed)
        if len(confidences) >= LEAST_EXAMPLES:
            self._mixes["confidences"] = DriftTest(confidences, seed=seed + 1)
        events = list(_events(profile, tiers))
        names = dict.fromkeys([*self._mixes, *(event.check for event in events), "calibration"])
        self._alpha = alpha / len(names)
        self._events: list[_Event] = []
        for event in events:
            known = [happened for run in profile.runs if (happened := event.of(run)) is not None]
            if len(known) >= LEAST_EXAMPLES:
                event.alike = sum(other.check == event.check for other in events)
                event.test = ShareTest(sum(known), len(known), self._alpha / event.alike)
                self._events.append(event)
        # Losses less what the confidences admit: at most 0 where accepted answers are right as often as stated.
        self._overconfident = EProcess(LEAST_LABELS_GAP, low=-2.0, high=1.0)

    def add(self, run: TrafficRun) -> None:
        """Takes a run into account."""
        self.runs += 1
        run = TrafficRun.from_line(run.to_line())  # rounded as the profile is: what is equal must stay equal
        if run.form is not None and "prompts" in self._mixes:
            self._mixes["prompts"].update(run.form)
        if run.confidence is not None and "confidences" in self._mixes:
            self._mixes["confidences"].update([run.confidence])
        for event in self._events:
            happened = event.of(run)
            if happened is not None:
                event.test.update(happened)
        self._note_first()

    def add_label(self, loss: float, confidence: float, weight: float) -> None:
        """Takes the label of an accepted answer of an earlier tier into account: the one check that needs labels.

        Args:
            loss: Premium's quality less the answer's, in [-1, 1].
            confidence: The answer's.
            weight: The floor of the sampling probabilities over this run's, in (0, 1].
        """
        self._overconfident.update(loss - (1.0 - confidence), weight)
        self._note_first()

    def _note_first(self) -> None:
        for name, (ever, _) in self._evidence().items():
            if name not in self.first and ever >= -log(self._alpha):
                self.first[name] = self.runs

    def _evidence(self) -> dict[str, tuple[float, float]]:
        """By check: the largest log e-value ever, and the present one."""
        out = {name: (test.evidence.log_max, test.evidence.log_value) for name, test in self._mixes.items()}
        for event in self._events:
            ever, now = event.evidence
            before = out.get(event.check, (ever, now))
            out[event.check] = max(ever, before[0]), max(now, before[1])
        out["calibration"] = (self._overconfident.log_max, self._overconfident.log_value)
        return out

    def _words(self, name: str) -> str:
        if name in self._mixes:
            return f"{self._mixes[name].evidence.n:,} runs against the recording"
        if name == "calibration":
            return f"{self._overconfident.n:,} labels against the confidences"
        return max((event for event in self._events if event.check == name), key=lambda event: event.evidence).words()

    def results(self) -> Iterator[CheckResult]:
        """Every check at the moment."""
        limit = -log(self._alpha)
        for name, (ever, now) in self._evidence().items():
            state, words = DriftState.NOT_SHOWN, self._words(name)
            if ever >= limit:
                state, words = DriftState.DRIFTED, f"{words}; shown after {self.first.get(name, self.runs):,} runs"
            elif now >= 0.5 * limit:
                state = DriftState.IN_DOUBT
            yield CheckResult(name=name, state=state, words=words)

    def to_json(self) -> dict[str, Any]:
        """The state as plain data, without the profile."""
        return {
            "runs": self.runs,
            "first": self.first,
            "mixes": {name: test.to_json() for name, test in self._mixes.items()},
            "events": [event.test.to_json() for event in self._events],
            "overconfident": self._overconfident.to_json(),
        }

    def restore(self, state: Mapping[str, Any]) -> "TrafficTracker":
        """Goes on from a state that ``to_json`` gave; returns itself. Raises KeyError or ValueError for another state."""
        self.runs, self.first = int(state["runs"]), dict(state["first"])
        for name, test in self._mixes.items():
            test.restore(state["mixes"][name])
        for event, one in zip(self._events, state["events"], strict=True):
            event.test.restore(one)
        self._overconfident = EProcess.from_json(state["overconfident"])
        return self


def _events(profile: TrafficProfile, tiers: Sequence[str]) -> Iterator[_Event]:
    yield _Event("escalations", "escalated")
    yield _Event("refusals", "were refused by the first tier")
    for i, name in enumerate(tiers):
        yield _Event("tiers", f"were answered by {name}", tier=i)
    for check, unit in (("latency", "took more than {:.3g} s"), ("cost", "cost more than ${:.3g}")):
        values = [run.latency_s if check == "latency" else run.cost_usd for run in profile.runs]
        known = sorted(value for value in values if value is not None)
        for share in (0.5, 0.9) if known else ():
            above = known[int(share * (len(known) - 1))]
            yield _Event(check, unit.format(above), above=above)


def profile_of(state: str) -> TrafficProfile | None:
    """The profile in the text of a calibration file; None where it has none. Raises ValueError where it is wrong."""
    lines = json.loads(state).get("profile")
    return None if lines is None else TrafficProfile.from_lines(lines)
