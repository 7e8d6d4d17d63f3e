"""Reads what models really send: reasoning apart from the answer, JSON in prose, finish reasons, refusals."""

from dataclasses import replace

from judges.types import Answer

from .finish_reason import ERRORS, FINISH_REASONS, is_complete, read_finish_reason
from .json_values import JsonMatch, find_json
from .reasoning import ReasoningStream, SplitText, separate_reasoning, split_reasoning
from .refusals import is_refusal

__all__ = [
    "ERRORS",
    "FINISH_REASONS",
    "JsonMatch",
    "ReasoningStream",
    "SplitText",
    "find_json",
    "is_complete",
    "is_refusal",
    "read_answer",
    "read_finish_reason",
    "separate_reasoning",
    "split_reasoning",
]


def read_answer(answer: Answer) -> Answer:
    """An answer from elsewhere (a recording, a log, a caller) as a model of this package gives it.

    Args:
        answer: The answer as it was written: reasoning in its text, the provider's finish reason.

    Returns:
        The answer with its reasoning apart and the finish reason in this package's words; itself where nothing changes.
    """
    reason = read_finish_reason(answer.finish_reason)
    return separate_reasoning(answer if reason == answer.finish_reason else replace(answer, finish_reason=reason))
