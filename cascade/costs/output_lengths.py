"""The usual lengths of a model's answers under one policy: reserved where the longest allowed does not fit a budget."""

from collections import deque
from dataclasses import dataclass, field
from math import ceil

_REMEMBERED = 256
_ENOUGH = 20
"""Answers that must be known before their lengths say anything."""
_QUANTILE = 0.99
_MARGIN = 1.5
_LEAST = 64  # tokens
_FEW, _MARGIN_OF_FEW = 3, 8
"""A first guess is made from so many answers of any of the policy's models, with so wide a margin."""
_FIRST = 1024
"""The first limit where no answer under the policy is known, in tokens."""


def _high(lengths: deque[int]) -> int:
    """The 99th percentile, from above."""
    ordered = sorted(lengths.copy())
    return ordered[min(len(ordered) - 1, ceil(_QUANTILE * len(ordered)))]


@dataclass(slots=True)
class OutputLengths:
    """The lengths of the latest answers by model, in tokens; shared by all runs of a policy.

    Only answers to requests that set no ``max_tokens`` of their own count: the others are as long as they were asked to be.
    """

    _lengths: dict[str, deque[int]] = field(default_factory=dict)
    _refused: set[str] = field(default_factory=set)

    def add(self, model: str, tokens: int, limit: int | None) -> None:
        """Adds an answer's length; one cut by our ``limit`` would have been longer, and counts twice its length."""
        lengths = self._lengths.get(model)
        if lengths is None:
            lengths = self._lengths.setdefault(model, deque(maxlen=_REMEMBERED))
        lengths.append(2 * tokens if limit is not None and tokens >= limit else tokens)

    def usual(self, model: str) -> int | None:
        """A limit that few answers exceed, in tokens: 1.5 times the 99th percentile; None: too few answers are known."""
        lengths = self._lengths.get(model)
        if lengths is None or len(lengths) < _ENOUGH:
            return None
        return max(_LEAST, ceil(_MARGIN * _high(lengths)))

    def guess(self, model: str) -> int:
        """A first limit for a model of which too few answers are known: from all answers under the policy.

        What is cut counts twice (see ``add``), so that a limit that was too low soon rises.
        """
        percentiles = [_high(lengths) for lengths in list(self._lengths.values()) if len(lengths) >= _FEW]
        own = max((self._lengths.get(model) or deque[int]()).copy(), default=0)
        return max(max(_LEAST, _MARGIN_OF_FEW * max(percentiles)) if percentiles else _FIRST, ceil(_MARGIN * own))

    def first_refusal(self, model: str) -> bool:
        """Whether a budget with money left refuses a request to the model for the first time."""
        first = model not in self._refused
        self._refused.add(model)
        return first
