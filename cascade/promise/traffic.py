"""Is the traffic like the recording? Compares prompts, confidences, tiers, escalations, refusals, latency and cost."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from math import log
from typing import Any

from .closeness import MATERIAL, Closeness, most_of
from .drift import DriftTest
from .e_process import EProcess
from .shares import ShareTest
from .traffic_events import Event, TrafficRun, events_of

LEAST_EXAMPLES = 50
"""A smaller profile says too little to compare with."""
LEAST_LABELS_GAP = 0.02
"""By how much the losses of labelled runs may exceed what confidences admit."""
_LABEL_VARIANCE = 0.1  # of a loss less what the confidence admits, before there is any


class DriftState(StrEnum):
    """What the evidence so far says of one check."""

    ALIKE = "like the recording"
    NOT_ENOUGH = "not enough evidence"
    IN_DOUBT = "in doubt"
    DRIFTED = "drifted"


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
        needed: Roughly how many more runs (labels, for the calibration) show that it is like the recording; 0: it is shown,
            or a drift is; None: no number of them would show it.
    """

    name: str
    state: DriftState
    words: str
    needed: int | None = 0


class TrafficTracker:
    """Follows how the runs of one policy compare with its profile.

    Args:
        profile: The profile.
        tiers: The names of the policy's tiers.
        alpha: The probability of ever calling any check drifted that is not: it is divided among the checks.
        seed: The seed of the draws from the profile.

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
        events = list(events_of(profile.runs, tiers))
        names = dict.fromkeys([*self._mixes, *(event.check for event in events), "calibration"])
        self._alpha = alpha / len(names)
        self._events: list[Event] = []
        for event in events:
            outcomes = [happened for run in profile.runs if (happened := event.of(run)) is not None]
            if len(outcomes) >= LEAST_EXAMPLES:
                event.alike = sum(other.check == event.check for other in events)
                event.test = ShareTest(sum(outcomes), len(outcomes), self._alpha / event.alike)
                self._events.append(event)
        # Losses less what the confidences admit: at most 0 where accepted answers are right as often as stated.
        self._overconfident = EProcess(LEAST_LABELS_GAP, low=-2.0, high=1.0)
        most = LEAST_LABELS_GAP + MATERIAL
        self._not_overconfident = Closeness(most, expected=0.0, variance=_LABEL_VARIANCE, low=-2.0, high=1.0)

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
            confidence: The answer's confidence.
            weight: The floor of the sampling probabilities over this run's, in (0, 1].
        """
        excess = loss - (1.0 - confidence)
        self._overconfident.update(excess, weight)
        self._not_overconfident.update(excess, weight)
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

    def _needed(self, name: str) -> int | None:
        """How much more it takes to show that a check is like the recording; see ``CheckResult``."""
        if name in self._mixes:
            return self._mixes[name].needed(self._alpha)
        if name == "calibration":
            return self._not_overconfident.needed(self._alpha)
        return most_of([event.test.needed for event in self._events if event.check == name])

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
            state, words, needed = DriftState.ALIKE, self._words(name), self._needed(name)
            if ever >= limit:
                state, words = DriftState.DRIFTED, f"{words}; shown after {self.first.get(name, self.runs):,} runs"
            elif now >= 0.5 * limit:
                state = DriftState.IN_DOUBT
            elif needed != 0:
                state, what = DriftState.NOT_ENOUGH, "labels" if name == "calibration" else "runs"
                more = f"about {needed:,} more" if needed is not None else f"no number of {what} like these"
                words = f"{words}; {more} would show it"
            yield CheckResult(name=name, state=state, words=words, needed=needed if state is DriftState.NOT_ENOUGH else 0)

    def to_json(self) -> dict[str, Any]:
        """The state as plain data, without the profile."""
        return {
            "runs": self.runs,
            "first": self.first,
            "mixes": {name: test.to_json() for name, test in self._mixes.items()},
            "events": [event.test.to_json() for event in self._events],
            "overconfident": self._overconfident.to_json(),
            "not_overconfident": self._not_overconfident.to_json(),
        }

    def restore(self, state: Mapping[str, Any]) -> "TrafficTracker":
        """Goes on from a state that ``to_json`` gave; returns itself. Raises KeyError or ValueError for another state."""
        self.runs, self.first = int(state["runs"]), dict(state["first"])
        for name, test in self._mixes.items():
            test.restore(state["mixes"][name])
        for event, one in zip(self._events, state["events"], strict=True):
            event.test.restore(one)
        self._overconfident = EProcess.from_json(state["overconfident"])
        self._not_overconfident.restore(state["not_overconfident"])
        return self


def profile_of(state: str) -> TrafficProfile | None:
    """The profile in the text of a calibration file; None where it has none. Raises ValueError where it is wrong."""
    lines = json.loads(state).get("profile")
    return None if lines is None else TrafficProfile.from_lines(lines)
