"""Thoughts, refusals and finish reasons in chat completions, by OpenAI's own client."""

from typing import Any

import pytest

from tests.cascade.gateway.conftest import POLICIES, Running, Serve
from tests.cascade.gateway.openai.test_chat import ASK, CALL, by_model, logged
from tests.wire_server import Reply, WireServer, chat, chat_events, message, message_events

THOUGHT = "17 * 3 = 30 + 21"
THINKING = chat(
    "it is 51",
    message={"reasoning_content": THOUGHT},
    usage={"completion_tokens_details": {"reasoning_tokens": 3}},
)
TAGGED = chat(f"<think>{THOUGHT}</think>it is 51")
REFUSAL = chat(None, message={"refusal": "I cannot help with that."})
LIVE = """
models: {{m: {{provider: openai, model: m, base_url: "{url}/v1", retry: {{attempts: 1}}}}}}
policies: {{default: {{tiers: [{{model: m, accept_at: 0.0}}]}}}}
"""


def streamed(running: Running, model: str = "default/premium", **fields: Any) -> list[tuple[str, str]]:
    """The pieces of a stream's deltas by their field, neighbours of one field joined; the last is the finish reason."""
    pieces: list[tuple[str, str]] = []
    finish = None
    with running.openai() as client:
        for chunk in client.chat.completions.create(model=model, messages=ASK, stream=True, **fields):
            if not chunk.choices:
                continue
            finish = chunk.choices[0].finish_reason or finish
            delta = chunk.choices[0].delta.to_dict()
            for name in ("reasoning_content", "content", "refusal"):
                if piece := delta.get(name):
                    if pieces and pieces[-1][0] == name:
                        piece = pieces.pop()[1] + str(piece)
                    pieces.append((name, str(piece)))
    return [*pieces, ("finish_reason", str(finish))]


@pytest.mark.parametrize("body", [THINKING, TAGGED], ids=["field", "tags"])
def test_thoughts_are_beside_the_answer(running: Running, upstream: WireServer, body: Any) -> None:
    """The message carries them whole, however the server marks them."""
    upstream.reply = by_model(chat("never"), body)
    with running.openai() as client:
        done = client.chat.completions.create(model="default/premium", messages=ASK)
    answer = done.choices[0].message
    assert (answer.content, answer.to_dict()["reasoning_content"]) == ("it is 51", THOUGHT)
    assert done.usage is not None
    assert done.usage.completion_tokens_details is not None
    assert done.usage.completion_tokens_details.reasoning_tokens == (3 if body is THINKING else 0)


def test_an_answer_without_thoughts_has_no_field_for_them(running: Running, upstream: WireServer) -> None:
    """The message is what it was."""
    upstream.reply = by_model(chat("never"), chat("51"))
    assert running.chat(model="default/premium").json()["choices"][0]["message"] == {
        "role": "assistant", "content": "51", "refusal": None
    }  # fmt: skip


@pytest.mark.parametrize("body", [THINKING, TAGGED], ids=["field", "tags"])
@pytest.mark.parametrize("live", [False, True], ids=["held", "live"])
def test_a_stream_sends_thoughts_before_the_text(
    running: Running, serve: Serve, upstream: WireServer, body: Any, live: bool
) -> None:
    """Where the text is held back, and where it is sent as it arrives."""
    upstream.reply = by_model(chat("never"), body)
    gateway = serve(LIVE.format(url=upstream.base_url)) if live else running
    pieces = streamed(gateway, "default" if live else "default/premium")
    assert pieces == [("reasoning_content", THOUGHT), ("content", "it is 51"), ("finish_reason", "stop")]


def test_a_rejected_tiers_thoughts_are_not_sent(running: Running, upstream: WireServer) -> None:
    """They are part of its answer."""
    unsure = logged("50?", -3.0)
    unsure["choices"][0]["message"]["reasoning_content"] = "a guess"
    upstream.reply = by_model(unsure, THINKING)
    assert streamed(running, "default")[0] == ("reasoning_content", THOUGHT)


def test_thoughts_before_a_call(running: Running, upstream: WireServer) -> None:
    """There is no text to hold them until; they are sent before the call all the same."""
    body = chat(None, message={"reasoning_content": THOUGHT, "tool_calls": [CALL]}, choice={"finish_reason": "stop"})
    upstream.reply = by_model(chat("never"), body)
    assert streamed(running) == [("reasoning_content", THOUGHT), ("finish_reason", "tool_calls")]


def test_a_streams_usage_counts_thoughts(running: Running, upstream: WireServer) -> None:
    """As a whole response does."""
    upstream.reply = by_model(chat("never"), THINKING)
    with running.openai() as client:
        *_, last = client.chat.completions.create(
            model="default/premium", messages=ASK, stream=True, stream_options={"include_usage": True}
        )
    assert last.usage is not None
    assert last.usage.completion_tokens_details is not None
    assert last.usage.completion_tokens_details.reasoning_tokens == 3


def test_a_refusal_has_its_field(running: Running, serve: Serve, upstream: WireServer) -> None:
    """The content is null, and absent from streams, both held and live."""
    upstream.reply = by_model(chat("never"), REFUSAL)
    live = serve(LIVE.format(url=upstream.base_url))
    for gateway, model in ((running, "default/premium"), (live, "default")):
        with gateway.openai() as client:
            (choice,) = client.chat.completions.create(model=model, messages=ASK).choices
        assert (choice.message.content, choice.message.refusal) == (None, "I cannot help with that.")
        assert streamed(gateway, model) == [("refusal", "I cannot help with that."), ("finish_reason", "stop")]


def test_anthropics_refusal_is_openais(running: Running, upstream: WireServer) -> None:
    """For refusals by either provider, also those without text."""
    for blocks, wording in (([{"type": "text", "text": "I cannot."}], "I cannot."), ([], "refused")):
        body = {**message(stop_reason="refusal"), "content": blocks}
        upstream.reply = Reply(body)
        (choice,) = running.chat(model="claude").json()["choices"]
        assert (choice["message"]["content"], choice["message"]["refusal"]) == (None, wording)
        assert choice["finish_reason"] == "content_filter"
        upstream.reply = Reply(events=message_events(body))
        assert streamed(running, "claude") == [("refusal", wording), ("finish_reason", "content_filter")]


@pytest.mark.parametrize(
    ("word", "calls", "expected"),
    [
        ("end_turn", [], "stop"), ("MAX_TOKENS", [], "length"), ("SAFETY", [], "content_filter"),
        ("stop", [CALL], "tool_calls"), ("length", [CALL], "length"), ("tool_use", [], "stop"),
        ("never_heard_of", [], "length"),
    ],
)  # fmt: skip
def test_finish_reasons_are_openais(
    running: Running, upstream: WireServer, word: str, calls: list[Any], expected: str
) -> None:
    """Whatever the provider calls them; the client's types know no other."""
    upstream.reply = by_model(chat("never"), chat("51", message={"tool_calls": calls}, choice={"finish_reason": word}))
    assert running.chat(model="default/premium").json()["choices"][0]["finish_reason"] == expected
    assert streamed(running)[-1] == ("finish_reason", expected)


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_a_history_with_thoughts(running: Running, upstream: WireServer, name: str) -> None:
    """A compatible server receives them as they are; Anthropic's model does not, and the response lists the field."""
    history = [*ASK, {"role": "assistant", "content": "51", name: THOUGHT}, {"role": "user", "content": "Sure?"}]
    upstream.reply = by_model(chat("never"), chat("yes"))
    done = running.chat(model="default/premium", messages=history).json()
    assert "ignored" not in done["cascade"]
    assert upstream.received[-1].body["messages"] == history
    upstream.reply = Reply(message())
    done = running.chat(model="claude", messages=history).json()
    assert done["cascade"]["ignored"] == [f"messages.{name}"]
    assert THOUGHT not in str(upstream.received[-1].body)


def test_a_completion_goes_back_as_it_came(running: Running, upstream: WireServer) -> None:
    """The client's own message is valid history, also one that was cut while the model thought."""
    upstream.reply = by_model(chat("never"), chat(None, message={"reasoning_content": THOUGHT}))
    with running.openai() as client:
        answer = client.chat.completions.create(model="default/premium", messages=ASK).choices[0].message
        for content in (answer.content, None):
            echo: Any = {**answer.to_dict(), "content": content}
            client.chat.completions.create(model="default/premium", messages=[*ASK, echo, *ASK])
            assert upstream.received[-1].body["messages"][1]["reasoning_content"] == THOUGHT


def test_a_strict_servers_history_has_no_thoughts(serve: Serve, upstream: WireServer) -> None:
    """OpenAI, Mistral and others refuse a message with a field that they do not know."""
    running = serve(POLICIES.format(url=upstream.base_url))
    config = running.gateway.active
    strict = config.models["large"].model_copy(update={"base_url": "https://api.mistral.ai/v1"})
    config.models = {**config.models, "large": strict}  # what is listed; what is sent is tested with the models
    upstream.reply = by_model(chat("never"), chat("yes"))
    history = [*ASK, {"role": "assistant", "content": "51", "reasoning_content": THOUGHT}, *ASK]
    assert running.chat(model="default/premium", messages=history).json()["cascade"]["ignored"] == [
        "messages.reasoning_content"
    ]


def test_thoughts_belong_to_the_assistant(running: Running) -> None:
    """A user has none."""
    refused = running.chat(messages=[{"role": "user", "content": "hi", "reasoning_content": "x"}])
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "messages[0].reasoning_content")


def test_a_stream_that_breaks_off_in_a_thought_is_repeated(serve: Serve, upstream: WireServer) -> None:
    """Thoughts are sent together with the text, so that nothing has to be retracted before it."""
    running = serve(LIVE.format(url=upstream.base_url).replace("attempts: 1", "attempts: 2, initial_backoff_s: 0.01"))
    broken = Reply(events=chat_events(THINKING), reset_after=3)
    replies = [broken, Reply(events=chat_events(THINKING))]
    upstream.reply = lambda _: replies.pop(0)
    assert streamed(running, "default") == [
        ("reasoning_content", THOUGHT), ("content", "it is 51"), ("finish_reason", "stop")
    ]  # fmt: skip
    assert not replies
