"""Graders: strict, but fair to an answer that commits itself."""

from typing import Any

import pytest

from evals.grade import grade

CASES: list[tuple[str, Any, str, float]] = [
    ("number", "22", "Answer: 22", 1.0),
    ("number", "22", "17 + 5 = 22\nThe answer is: $22.00.", 1.0),
    ("number", "1234", "Answer: 1,234 euros", 1.0),
    ("number", "16", "so \\(\\boxed{16}\\).", 1.0),
    ("number", "17", "Answer: 17 + 5", 0.0),
    ("number", "22", "Answer: 2", 0.0),
    ("number", "22", "no idea", 0.0),
    ("number", "-3", "Answer: -3", 1.0),
    ("date", "2025-12-08", "2025-12-8", 1.0),
    ("date", "2025-12-08", "December 8, 2025.", 1.0),
    ("date", "2025-12-08", "It is 2025-12-08, or 2025-12-09.", 0.0),
    ("date", "2025-12-08", "2025-13-08", 0.0),
    ("json", {"a": 1, "b": "x"}, '```json\n{"b": "x", "a": 1}\n```', 1.0),
    ("json", {"a": 1}, '{"a": true}', 0.0),
    ("json", {"a": 1}, '{"a": 1, "b": 2}', 0.0),
    ("json", {"a": 1}, 'Sure: {"a": 1}', 0.0),
    ("choice", "positive", "Positive.", 1.0),
    ("choice", "positive", "positive or neutral", 0.0),
    ("contains", "Paris", "The capital of France is Paris.", 1.0),
    ("contains", "Paris", "Parisian", 0.0),
    ("contains", "Paris", "It is not Paris.", 0.0),
    ("contains", "K", "The symbol of potassium is K.", 1.0),
    ("contains", "8", "It has 8 legs and 6 eyes, I think, but others say otherwise, so who really knows", 0.0),
    ("contains", "south-west", "South West", 1.0),
]


@pytest.mark.parametrize(("kind", "reference", "text", "quality"), CASES)
def test_cases(kind: str, reference: Any, text: str, quality: float) -> None:
    """Each grader gives the quality that a careful reader would."""
    assert grade(reference, text, kind) == quality


def test_unknown_kind() -> None:
    """An unknown grader is an error that names the known ones."""
    with pytest.raises(ValueError, match="known: number"):
        grade("1", "1", "nummer")
