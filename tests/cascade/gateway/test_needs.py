"""What one call needs, over HTTP: a least confidence, seconds, money; in chat completions, streams and ``/v1/route``."""

import json
from typing import Any

import pytest

from tests.cascade.gateway.conftest import Running, Serve
from tests.wire_server import Received, Reply, WireServer, chat, chat_events

POLICIES = """
models:
  slow: {{provider: openai, model: slow-1, base_url: "{url}/v1", logprobs: true, retry: {{attempts: 1}},
    price: {{input_per_mtok: 1, output_per_mtok: 1}}, max_tokens: 50}}
  fast: {{provider: openai, model: fast-1, base_url: "{url}/v1", retry: {{attempts: 1}},
    price: {{input_per_mtok: 10, output_per_mtok: 10}}, max_tokens: 50}}
policies:
  default:
    tiers:
      - {{name: cheap, model: slow, accept_at: 0.5, judges: [rules, logprob], p95_s: 8}}
      - {{name: premium, model: fast, accept_at: 0.0, judges: [rules], prior: 0.8, p95_s: 2}}
  abstaining:
    when_unsure: abstain
    tiers: [{{name: cheap, model: slow, accept_at: 0.5, judges: [rules, logprob]}}]
  fused:
    final: vote
    tiers:
      - {{name: cheap, model: slow, accept_at: 0.99, judges: [rules, logprob]}}
      - {{name: fused, model: fast, fuse: [slow], samples: 2, accept_at: 0.0, judges: [rules], prior: 0.8}}
"""


def logged(text: str, logprob: float) -> dict[str, Any]:
    """A completion whose token has this log-probability."""
    return chat(text, choice={"logprobs": {"content": [{"token": text, "logprob": logprob, "top_logprobs": []}]}})


@pytest.fixture
def running(upstream: WireServer, serve: Serve) -> Running:
    """A gateway whose cheap model is slow and fairly sure (0.9), and whose dear one is fast."""

    def reply(received: Received) -> Reply:
        body = logged("cheap", -0.105) if received.body["model"] == "slow-1" else chat("dear")
        return Reply(events=chat_events(body)) if received.body.get("stream") else Reply(body)

    upstream.reply = reply
    return serve(POLICIES.format(url=upstream.base_url))


def route(running: Running, **fields: Any) -> dict[str, Any]:
    """What ``/v1/route`` answers."""
    reply = running.post("/v1/route", {"prompt": "Why?", **fields})
    assert reply.status_code == 200, reply.text
    data: dict[str, Any] = reply.json()
    return data


@pytest.mark.parametrize(
    ("fields", "tiers", "accepted"),
    [
        ({}, ["cheap"], True),
        ({"accuracy": 0}, ["cheap"], True),
        ({"accuracy": 0.85}, ["cheap"], True),
        ({"accuracy": 0.95}, ["cheap", "premium"], False),
        ({"accuracy": 1}, ["cheap", "premium"], False),
        ({"accuracy": None, "latency": None, "budget": None}, ["cheap"], True),
        ({"latency": 100}, ["cheap"], True),
        ({"latency": 5}, ["cheap", "premium"], False),  # the cheap tier is too slow; no judge scores the other's answer
        ({"latency": 0.001}, ["cheap", "premium"], False),
        ({"latency": 5, "accuracy": 0.85}, ["cheap", "premium"], False),
        ({"budget": 1, "accuracy": 0.95, "latency": 100}, ["cheap", "premium"], False),
        ({"budget": "0.0002", "accuracy": 0.95}, ["cheap", "premium"], False),  # enough for the cheap tier alone
    ],
)
def test_needs_in_route(running: Running, fields: dict[str, Any], tiers: list[str], accepted: bool) -> None:
    """Each says which tiers are asked, and whether the answer is good enough."""
    data = route(running, **fields)
    assert [attempt["tier"] for attempt in data["attempts"]] == tiers
    assert data["accepted"] is accepted
    reasons = [attempt["reason"] for attempt in data["attempts"]]
    if 0 < (fields.get("latency") or 0) < 8:
        assert reasons[0] == "too_slow"
        assert data["answer"] == "dear"
    if fields.get("budget") == "0.0002":
        assert (reasons[1], data["answer"]) == ("budget", "cheap")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("needs", "text"),
    [
        ({"accuracy": 0.95}, "cheap"),  # the surer one of two that do not suffice
        ({"latency": 5}, "dear"),
        ({"accuracy": 0.85}, "cheap"),
        ({"budget_usd": 0.5}, "cheap"),
        ({"budget": "0.0002", "accuracy": 0.95}, "cheap"),  # enough for the cheap tier alone
    ],
)
def test_needs_in_chat_completions(running: Running, needs: dict[str, Any], text: str, stream: bool) -> None:
    """The same fields in ``cascade``, also where the answer is streamed."""
    reply = running.chat(cascade=needs, stream=stream)
    assert reply.status_code == 200
    if not stream:
        assert reply.json()["choices"][0]["message"]["content"] == text
        return
    lines = [line[6:] for line in reply.text.splitlines() if line.startswith("data: {")]
    deltas = [choice["delta"].get("content") or "" for line in lines for choice in json.loads(line)["choices"]]
    assert "".join(deltas) == text


@pytest.mark.parametrize(("needs", "text"), [({"latency": 5}, "dear"), ({"budget": 0.0002, "accuracy": 0.95}, "cheap")])
def test_needs_in_messages_and_responses(running: Running, needs: dict[str, Any], text: str) -> None:
    """Anthropic's messages and OpenAI's responses take the same fields."""
    body = {"model": "default", "max_tokens": 50, "messages": [{"role": "user", "content": "Why?"}], "cascade": needs}
    assert running.post("/v1/messages", body).json()["content"][0]["text"] == text
    responded = running.post("/v1/responses", {"model": "default", "input": "Why?", "cascade": needs}).json()
    assert responded["output"][0]["content"][0]["text"] == text


def test_a_policy_that_abstains_returns_no_answer(running: Running) -> None:
    """Where nothing reaches the accuracy."""
    data = route(running, policy="abstaining", accuracy=0.95)
    assert (data["answer"], data["accepted"], data["reason"]) in [(None, False, "unsure"), ("", False, "unsure")]


@pytest.mark.parametrize(
    ("path", "fields", "message"),
    [
        ("/v1/route", {"accuracy": "0.9"}, "accuracy: must be a number from 0 to 1"),
        ("/v1/route", {"accuracy": True}, "accuracy: must be a number from 0 to 1"),
        ("/v1/route", {"accuracy": -0.1}, "accuracy: must be a number from 0 to 1"),
        ("/v1/route", {"latency": "fast"}, "latency: must be a number from 0.001"),
        ("/v1/route", {"latency": 1e9}, "latency: must be a number from 0.001"),
        ("/v1/route", {"latency": -1}, "latency: must be a number from 0.001"),
        ("/v1/route", {"budget": True}, "budget: must be"),
        ("/v1/route", {"min_confidence": 0.9}, "unknown field; here it is 'accuracy'; known:"),
        ("/v1/route", {"max_latency_s": 2}, "unknown field; here it is 'latency'; known:"),
        ("/v1/route", {"budget_usd": 2}, "unknown field; here it is 'budget'; known:"),
        ("chat", {"accuracy": 2}, "cascade.accuracy: must be a number from 0 to 1"),
        ("chat", {"latency": 0}, "cascade.latency: must be a number from 0.001"),
        ("chat", {"budget": "much"}, "cascade.budget: must be USD"),
        ("chat", {"budget": -1}, "cascade.budget: must be a number from 0"),
        ("chat", {"budget": 1, "budget_usd": 1}, "cascade.budget: is the same as cascade.budget_usd"),
        ("chat", {"min_confidence": 1}, "cascade.min_confidence: unknown field; here it is 'accuracy'"),
    ],
)
def test_needs_that_make_no_sense_are_refused(running: Running, path: str, fields: dict[str, Any], message: str) -> None:
    """A 400 with the field, and nobody is asked."""
    refused = running.chat(cascade=fields) if path == "chat" else running.post(path, {"prompt": "q", **fields})
    assert refused.status_code == 400
    assert message in refused.json()["error"]["message"]


def test_a_budget_of_nothing_is_said_so(running: Running, upstream: WireServer) -> None:
    """No model is asked, and the error names the budget."""
    refused = running.post("/v1/route", {"prompt": "q", "budget": 0})
    assert refused.status_code >= 400
    assert "budget" in refused.json()["error"]["message"]
    assert upstream.received == []


@pytest.mark.parametrize("stream", [False, True])
def test_fused_answers_and_votes_over_http(running: Running, upstream: WireServer, stream: bool) -> None:
    """A stream holds the fused answer, and no candidate; the run says how the vote went."""
    reply = running.chat(model="fused", stream=stream)
    assert reply.status_code == 200
    if stream:
        assert "<candidate" not in reply.text
        lines = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: {")]
        text = "".join(choice["delta"].get("content") or "" for line in lines for choice in line["choices"])
    else:
        data = reply.json()
        text = data["choices"][0]["message"]["content"]
        assert data["cascade"]["vote"] == {"agree": 1, "answers": 2, "clusters": 2}
    assert text in ("dear", "cheap")
    fused = [received.body for received in upstream.received if received.body["model"] == "fast-1"]
    assert len(fused) == 1
    assert fused[0]["messages"][-1]["content"].count("</candidate ") == 2
