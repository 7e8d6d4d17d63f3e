"""Does traffic still look like the recording? A test without labels, by betting on a classifier that tells them apart.

Each run is compared with one example of the recording, drawn at random. A classifier that learned from the pairs before
scores both; the difference of the scores is bet on (Podkopaev & Ramdas 2023, sequential predictive two-sample testing).
Where traffic is like the recording the classifier can do no better than chance, and the evidence stays low.

A recording is a sample itself, so traffic that is drawn from the same source differs from it a little. The hypothesis is
therefore that the classifier's advantage is at most a tolerance, which grows as the recording gets smaller.
"""

import random
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from math import log1p, sqrt, tanh
from typing import Any

from .closeness import MATERIAL, Closeness
from .e_process import EProcess

TOLERANCE = 0.05
"""The advantage of a classifier over chance that is not drift, however large the recording is."""
FORM_FEATURES = 7
"""How many features a prompt's text has."""
LEAST_RUNS = 100
"""A classifier that learned from fewer runs says nothing by telling none apart."""
_RATE = 0.15
_VARIANCE = 0.05  # of a difference of scores, before there is any


class DriftTest:
    """Compares a stream of runs with a recording.

    Args:
        reference: (n, d): the features of the recording's examples, at least 20 of them. NaN is not allowed.
        seed: The seed of the draws from the recording.

    Attributes:
        evidence: The e-process against "traffic looks like the recording".

    Raises:
        ValueError: There are too few examples, or their lengths differ.
    """

    def __init__(self, reference: Sequence[Sequence[float]], *, seed: int = 0) -> None:
        if len(reference) < 20:
            raise ValueError(f"the recording has {len(reference)} examples; at least 20 are needed to compare with")
        if len({len(row) for row in reference}) != 1:
            raise ValueError("every example must have the same number of features")
        self._columns = [sorted(column) for column in zip(*reference, strict=True)]
        self._reference = [self._scaled(row) for row in reference]
        self._seed = seed
        size = len(self._reference[0])
        self._weights = [0.0] * size
        self._squares = [1.0] * size
        limit = TOLERANCE + 0.5 * sqrt(len(self._columns) / len(reference))
        self.evidence = EProcess(limit)
        self._alike = Closeness(min(limit + MATERIAL, 1.0), expected=0.0, variance=_VARIANCE, low=-1.0, high=1.0)

    def update(self, features: Sequence[float]) -> float:
        """Compares one run; returns the natural logarithm of the evidence of drift."""
        run = self._scaled(features)
        # Drawn by the number of the run, so that a test goes on from its stored state as if it had never stopped.
        example = random.Random((self._seed << 48) + self.evidence.n).choice(self._reference)
        difference = 0.5 * (tanh(self._score(run)) - tanh(self._score(example)))
        value = self.evidence.update(difference)
        self._alike.update(difference)
        # A step of AdaGrad on the loss -difference, after the bet.
        for sign, row in ((1.0, run), (-1.0, example)):
            slope = 0.5 * sign * (1.0 - tanh(self._score(row)) ** 2)
            for i, feature in enumerate(row):
                gradient = slope * feature
                self._squares[i] += gradient * gradient
                self._weights[i] += _RATE * gradient / sqrt(self._squares[i])
        return value

    def needed(self, alpha: float) -> int | None:
        """Roughly how many more runs show that they are like the recording; 0: it is shown; None: no number would do."""
        needed = self._alike.needed(alpha)
        return None if needed is None else max(needed, LEAST_RUNS - self.evidence.n)

    def drifted(self, alpha: float) -> bool:
        """Whether the evidence ever reached 1 / alpha."""
        return self.evidence.rejects(alpha)

    def to_json(self) -> dict[str, Any]:
        """The state as plain data, without the reference."""
        return {
            "weights": self._weights,
            "squares": self._squares,
            "evidence": self.evidence.to_json(),
            "alike": self._alike.to_json(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state that ``to_json`` gave. Raises KeyError or ValueError for another state."""
        weights, squares = [float(w) for w in state["weights"]], [float(s) for s in state["squares"]]
        if not len(weights) == len(squares) == len(self._weights):
            raise ValueError(f"a run has {len(self._columns)} features, this state has {len(weights) // 2}")
        self._weights, self._squares = weights, squares
        self.evidence = EProcess.from_json(state["evidence"])
        self._alike.restore(state["alike"])

    def _score(self, row: Sequence[float]) -> float:
        return sum(w * x for w, x in zip(self._weights, row, strict=True))

    def _scaled(self, features: Sequence[float]) -> list[float]:
        """Each feature's rank among the recording's, from -1 to 1, and how far it is from the middle."""
        if len(features) != len(self._columns):
            raise ValueError(f"a run has {len(features)} features, the recording {len(self._columns)}")
        row: list[float] = []
        for value, column in zip(features, self._columns, strict=True):
            rank = (bisect_left(column, value) + bisect_right(column, value)) / len(column) - 1.0
            row += [rank, 2.0 * abs(rank) - 1.0]
        return row


def prompt_features(text: str, confidence: float | None = None) -> list[float]:
    """Features of one run for ``DriftTest``: ``form_features`` of the prompt, and the confidence of the first tier's answer.

    Args:
        text: The prompt; only its first 20,000 characters are read.
        confidence: In [0, 1]; None (unknown) counts as -1.
    """
    return [*form_features(text), -1.0 if confidence is None else confidence]


def form_features(text: str) -> list[float]:
    """The form of a prompt as ``FORM_FEATURES`` numbers; nothing of what it says can be read from them.

    Returns:
        The logarithm of the length, the shares of digits, capitals, spaces, punctuation and characters outside ASCII, and
        the logarithm of the number of lines.
    """
    part = text[:20_000]
    size = max(len(part), 1)
    letters = digits = capitals = spaces = 0
    for character in part:
        if character.isalpha():
            letters += 1
            capitals += character.isupper()
        elif character.isdigit():
            digits += 1
        elif character.isspace():
            spaces += 1
    others = size - letters - digits - spaces
    foreign = len(part) - len(part.encode("ascii", "ignore"))
    shares = [count / size for count in (digits, capitals, spaces, others, foreign)]
    return [log1p(len(text)), *shares, log1p(text.count("\n"))]


def text_of(messages: Sequence[Mapping[str, Any]]) -> str:
    """The texts of all messages."""
    parts = [part for message in messages for part in _parts(message.get("content"))]
    return "\n".join(parts)


def _parts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    return [str(part.get("text") or "") for part in content or () if isinstance(part, Mapping)]
