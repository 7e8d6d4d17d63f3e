"""Are production's prompts like those of the recording? Without labels, by betting on a classifier that tells them apart."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cascade.promise.drift import DriftTest, text_of
from evals.engines import Engine
from evals.recording import read

from .prompt_texts import features_of

ALPHA = 0.05
"""The probability of ever calling prompts unlike the recording's that are like them."""
MOST_EXAMPLES = 5_000


@dataclass(slots=True)
class PolicyDrift:
    """The prompts of one policy.

    Attributes:
        test: The test.
        runs: How many runs with text were compared.
        since: When the first run began at which the prompts proved to be unlike the recording's; None: they did not.
        after: How many runs that took.
    """

    test: DriftTest
    runs: int = 0
    since: float | None = None
    after: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The result as plain data."""
        log_evidence = self.test.evidence.log_max
        return {"runs": self.runs, "unlike_since": self.since, "after_runs": self.after, "log_evidence": log_evidence}

    def words(self) -> str:
        """The result in a sentence."""
        if self.since is None:
            return f"prompts are not shown to be unlike the recording's, by {self.runs:,} runs with text"
        day = datetime.fromtimestamp(self.since, UTC).strftime("%Y-%m-%d %H:%M UTC")
        return (
            f"prompts are unlike the recording's, shown by {day} after {self.after:,} of {self.runs:,} runs with text: "
            "its certificate does not speak about them; record and calibrate again, or propose from sampled runs"
        )


@dataclass(slots=True)
class PromptDrift:
    """Compares runs in their order with a recording.

    Attributes:
        reference: The features of the recording's prompts.
        policies: The results by policy.
    """

    reference: Sequence[Sequence[float]]
    policies: dict[str, PolicyDrift] = field(default_factory=dict)

    @classmethod
    def of(cls, path: str, engine: Engine | None = None) -> "PromptDrift":
        """The comparison with a recording, whose features an ``engine``'s workers compute, if there is one.

        Raises RecordingError, EngineError, or ValueError where it has too few examples.
        """
        every = list(features_of((text_of(example.to_prompt().messages) for example in read(path)), engine))
        reference = every[:: max(1, len(every) // MOST_EXAMPLES)]
        DriftTest(reference)
        return cls(reference)

    def add_all(self, runs: Iterable[tuple[str, float, Mapping[str, Any]]], engine: Engine | None = None) -> None:
        """Compares runs in their order.

        Args:
            runs: The policy of each, when it began in Unix seconds, and what it asked, as the journal keeps it.
            engine: Whose workers compute the prompts' features; None: this process.
        """
        waiting: deque[tuple[str, float]] = deque()

        def texts() -> Iterator[str]:
            for policy, started, prompt in runs:
                waiting.append((policy, started))
                yield text_of(prompt["messages"])

        for features in features_of(texts(), engine):
            self._add(*waiting.popleft(), features)

    def add(self, policy: str, started: float, prompt: Mapping[str, Any]) -> None:
        """Compares one run, as ``add_all`` does."""
        self.add_all([(policy, started, prompt)])

    def _add(self, policy: str, started: float, features: Sequence[float]) -> None:
        one = self.policies.get(policy)
        if one is None:
            one = self.policies[policy] = PolicyDrift(DriftTest(self.reference))
        one.test.update(features)
        one.runs += 1
        if one.since is None and one.test.drifted(ALPHA):
            one.since, one.after = started, one.runs
