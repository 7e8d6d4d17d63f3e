"""Summarizes a recording in one pass."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .format import Example


@dataclass(slots=True)
class Seen:
    """Counts of one model's answers, and sums of the values that are present."""

    answers: int = 0
    graded: int = 0
    quality: float = 0.0
    priced: int = 0
    usd: float = 0.0
    timed: int = 0
    seconds: float = 0.0
    samples: int = 0
    signals: Counter[str] = field(default_factory=Counter)

    def add(self, answer: Any) -> None:
        """Adds an answer."""
        self.answers += 1
        if (quality := answer.get("quality")) is not None:
            self.graded += 1
            self.quality += quality
        if (usd := answer.get("cost_usd")) is not None:
            self.priced += 1
            self.usd += usd
        if (seconds := answer.get("latency_s")) is not None:
            self.timed += 1
            self.seconds += seconds
        if samples := answer.get("samples"):
            self.samples += len(samples)
        if answer.get("logprob") is not None or answer.get("token_logprobs"):
            self.signals["logprob"] += 1
        for judge, score in (answer.get("verdicts") or {}).items():
            self.signals[judge] += score is not None

    def to_json(self) -> dict[str, Any]:
        """As ``show --json`` prints it; None for an unknown value."""
        return {
            "answers": self.answers,
            "graded": self.graded,
            "quality": self.quality / self.graded if self.graded else None,
            "priced": self.priced,
            "usd_per_1000": 1000 * self.usd / self.priced if self.priced else None,
            "mean_s": self.seconds / self.timed if self.timed else None,
            "samples": self.samples,
            "signals": dict(self.signals),
        }


def summary(examples: Iterable[Example]) -> dict[str, Any]:
    """The summary of a recording: examples, tasks, splits, references, and per model answers, quality, cost, signals."""
    n, references = 0, 0
    tasks: Counter[str] = Counter()
    splits: Counter[str] = Counter()
    models: dict[str, Seen] = {}
    for example in examples:
        n += 1
        tasks[example.task] += 1
        splits[example.split or "none"] += 1
        references += example.reference is not None
        for model, answer in example.answers.items():
            seen = models.get(model)
            if seen is None:
                seen = models[model] = Seen()
            seen.add(answer)
    return {
        "examples": n,
        "references": references,
        "tasks": dict(tasks.most_common()),
        "splits": dict(splits),
        "models": {model: seen.to_json() for model, seen in models.items()},
    }
