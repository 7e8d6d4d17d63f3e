"""The words of all floors: Prompt.of, Usage, Verdict."""

from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges import Message, Prompt, Usage, Verdict
from judges.types import content_text

_counts = st.integers(0, 10**9)
usages = st.builds(Usage, _counts, _counts, cached_tokens=_counts, cache_write_tokens=_counts, reasoning_tokens=_counts)


def test_prompt_of_text() -> None:
    """A text becomes one user message."""
    prompt = Prompt.of("Hi", id="7", schema={"type": "object"}, tools=[{"type": "function"}])
    assert prompt.messages == ({"role": "user", "content": "Hi"},)
    assert (prompt.id, prompt.schema, prompt.tools) == ("7", {"type": "object"}, ({"type": "function"},))


def test_prompt_of_messages_and_system() -> None:
    """The system text goes before the messages that were given."""
    prompt = Prompt.of([{"role": "user", "content": "Hi"}], system="Be brief.")
    assert [m["role"] for m in prompt.messages] == ["system", "user"]


def test_prompt_of_prompt() -> None:
    """A Prompt is returned unchanged."""
    prompt = Prompt.of("Hi")
    assert Prompt.of(prompt) is prompt


def test_prompt_of_nothing() -> None:
    """No messages are a ValueError."""
    with pytest.raises(ValueError, match="at least one message"):
        Prompt.of([])


@pytest.mark.parametrize("message", ["text", {"content": "no role"}, 5])
def test_prompt_of_wrong_message(message: Any) -> None:
    """What is not a message is a TypeError that names its place."""
    with pytest.raises(TypeError, match=r"messages\[0\]"):
        Prompt.of((message,))


def test_text_is_the_last_user_message() -> None:
    """Only the text parts of the last user message count."""
    parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}, {"type": "text", "text": "b"}]
    messages: list[Message] = [
        {"role": "user", "content": "first"},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": "x"},
    ]
    assert Prompt.of(messages).text == "a\nb"
    assert Prompt.of([{"role": "system", "content": "x"}]).text == ""
    assert content_text(None) == ""


@given(usages, usages, usages)
def test_usage_adds(a: Usage, b: Usage, c: Usage) -> None:
    """Usages add up field by field, in any order, from nothing."""
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert a + Usage() == a
    assert (a + b).cached_tokens == a.cached_tokens + b.cached_tokens


@pytest.mark.parametrize("score", [-0.01, 1.01, float("nan"), float("inf")])
def test_verdict_score_out_of_range(score: float) -> None:
    """A score outside [0, 1] is refused with the judge's name."""
    with pytest.raises(ValueError, match="'mine'"):
        Verdict("mine", score)


def test_frozen() -> None:
    """No field can be set."""
    with pytest.raises(FrozenInstanceError):
        Usage().input_tokens = 1  # type: ignore[misc]
