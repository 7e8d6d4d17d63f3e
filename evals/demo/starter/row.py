"""What a question is before anybody has answered it."""

from typing import Any

# The fields of the recording format without ``answers``: prompt, reference, and where there is one a schema.
Row = dict[str, Any]


def conversation(*texts: str) -> list[dict[str, str]]:
    """Chat messages by the user and the assistant in turn, the user's first: examples, then the question."""
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
