"""Graders of JSON that need more than a text: a schema, or tool calls in the text's place."""

from typing import Any

import pytest

from evals.grade import GraderError, GradingCase, grader
from judges import Prompt


def test_schema_grades_validity_alone() -> None:
    """Valid is 1, invalid is 0, and without a schema there is no grade."""
    prompt = Prompt.of("q", schema={"type": "object", "required": ["a"]})
    assert grader("schema").grade(GradingCase(text='{"a": 1}', prompt=prompt)) == 1.0
    assert grader("schema").grade(GradingCase(text="{}", prompt=prompt)) == 0.0
    assert grader("schema").grade(GradingCase(text="{}")) is None


def test_a_schema_that_is_none_is_an_error() -> None:
    """The mistake is the example's, not the answer's."""
    with pytest.raises(GraderError, match=r"not a JSON Schema: .*; correct the example's schema"):
        grader("schema").grade(GradingCase(text="{}", prompt=Prompt.of("q", schema={"type": "objekt"})))


def called(name: str, arguments: str) -> dict[str, Any]:
    """A tool call as recordings hold it."""
    return {"id": "1", "type": "function", "function": {"name": name, "arguments": arguments}}


def test_tool_calls_in_place_of_text() -> None:
    """Are the JSON that is compared; beside a text they are not, and a schema of texts says nothing of them."""
    right = called("weather", '{"town": "Oslo"}')
    one, gold = grader("json"), {"name": "weather", "arguments": {"town": "Oslo"}}
    assert one.grade(GradingCase(text="", reference=gold, tool_calls=(right,))) == 1.0
    assert one.grade(GradingCase(text="", reference=[gold, gold], tool_calls=(right, right))) == 1.0
    assert one.grade(GradingCase(text="", reference=gold, tool_calls=(right, right))) == 0.0
    assert one.grade(GradingCase(text="", reference=gold, tool_calls=(called("weather", '{"town": "Rome"}'),))) == 0.0
    assert one.grade(GradingCase(text="", reference=gold, tool_calls=(called("weather", "{"),))) == 0.0
    assert one.grade(GradingCase(text="It rains", reference=gold, tool_calls=(right,))) == 0.0
    prompt = Prompt.of("q", schema={"type": "object"})
    assert grader("schema").grade(GradingCase(text="", prompt=prompt, tool_calls=(right,))) is None
