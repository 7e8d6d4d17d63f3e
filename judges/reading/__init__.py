"""Reads what models really send: reasoning apart from the answer, JSON in prose, finish reasons, refusals."""

from .finish_reason import FINISH_REASONS, is_complete, read_finish_reason
from .reasoning import ReasoningStream, SplitText, separate_reasoning, split_reasoning

__all__ = [
    "FINISH_REASONS",
    "ReasoningStream",
    "SplitText",
    "is_complete",
    "read_finish_reason",
    "separate_reasoning",
    "split_reasoning",
]
