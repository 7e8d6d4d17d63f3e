"""Thoughts in a history: which server receives which of them."""

import pytest

from cascade.models.anthropic import AnthropicModel
from cascade.models.message_parts import takes_reasoning
from cascade.models.openai import OpenAIModel
from cascade.models.protocol import Request
from judges import Prompt

SIGNED = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
HISTORY = Prompt.of(
    [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "yes", "reasoning_content": "Hm.", "thinking_blocks": [SIGNED]},
        {"role": "user", "content": "sure?"},
    ]
)


@pytest.mark.parametrize(
    ("base_url", "takes"),
    [
        (None, False), ("https://api.openai.com/v1", False), ("https://eu.api.mistral.ai/v1", False),
        ("https://x.openai.azure.com/openai/v1", False), ("https://API.GROQ.COM/openai/v1", False),
        ("http://127.0.0.1:8000/v1", True), ("https://api.deepseek.com", True), ("https://notmistral.ai/v1", True),
        ("https://user:pw@[::1]:8000/v1", True),
    ],
)  # fmt: skip
def test_a_strict_server_receives_no_thoughts(base_url: str | None, takes: bool) -> None:
    """Others receive the text of them; none receives Anthropic's signed blocks."""
    assert takes_reasoning(base_url) is takes
    messages = OpenAIModel(name="m", model="m", base_url=base_url).body(HISTORY, Request())["messages"]
    assert messages[1] == {"role": "assistant", "content": "yes", **({"reasoning_content": "Hm."} if takes else {})}
    assert [messages[0], messages[2]] == [HISTORY.messages[0], HISTORY.messages[2]]


def test_a_history_without_thoughts_is_not_copied() -> None:
    """It is sent as it is."""
    prompt = Prompt.of("hi")
    assert OpenAIModel(name="m", model="m").body(prompt, Request())["messages"] is prompt.messages


def test_anthropic_receives_its_own_thoughts() -> None:
    """Signed thoughts come before the text; other thoughts are not sent."""
    messages = AnthropicModel(name="m", model="m").body(HISTORY, Request())["messages"]
    assert messages[1] == {"role": "assistant", "content": [SIGNED, {"type": "text", "text": "yes"}]}
