"""Reads what models really send: reasoning apart from the answer, JSON in prose, finish reasons, refusals, tool calls."""

from dataclasses import replace

from judges.types import Answer

from .choices import chosen
from .finish_reason import ERRORS, FINISH_REASONS, is_complete, is_error, read_finish_reason
from .json_values import JsonMatch, find_json, parse_json
from .reasoning import separate_reasoning, split_reasoning
from .reasoning_stream import ReasoningStream, SplitText
from .refusals import is_refusal
from .tool_calls import read_tool_calls

__all__ = [
    "ERRORS",
    "FINISH_REASONS",
    "JsonMatch",
    "ReasoningStream",
    "SplitText",
    "chosen",
    "find_json",
    "is_complete",
    "is_error",
    "is_refusal",
    "parse_json",
    "read_answer",
    "read_finish_reason",
    "read_tool_calls",
    "separate_reasoning",
    "split_reasoning",
]


def read_answer(answer: Answer) -> Answer:
    """An answer from elsewhere (a recording, a log, a caller) as a model of this package gives it.

    Args:
        answer: The answer as it was written: reasoning in its text, the provider's finish reason and tool calls.

    Returns:
        The answer with its reasoning apart, the finish reason in this package's words and tool calls in OpenAI's shape;
        itself where nothing changes.
    """
    reason = read_finish_reason(answer.finish_reason)
    if reason != answer.finish_reason:
        answer = replace(answer, finish_reason=reason)
    if answer.tool_calls and (calls := read_tool_calls(answer.tool_calls)) != answer.tool_calls:
        answer = replace(answer, tool_calls=calls)
    return separate_reasoning(answer)
