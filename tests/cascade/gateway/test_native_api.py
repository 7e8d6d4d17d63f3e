"""The gateway's own interface: route, gate, feedback."""

from pathlib import Path
from typing import Any

import pytest

from cascade.gateway.routes.openapi import document
from cascade.journal.open_store import open_store
from cascade.journal.read.to_recording import _answer
from evals.recording.check import RecordingError, check_answer
from tests.cascade.gateway.conftest import POLICIES, Running, Serve
from tests.cascade.gateway.openai.test_chat import by_model, logged
from tests.wire_server import Reply, WireServer, chat, message


def test_route(running: Running, upstream: WireServer) -> None:
    """A prompt and a budget -> the answer and how it came."""
    upstream.reply = by_model(logged('{"a": "x"}', -0.01), chat('{"a": 1}'))
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    body = {"prompt": "Give a.", "budget": "0.50", "policy": "default", "schema": schema, "deadline_s": 10}
    reply = running.post("/v1/route", body)
    done = reply.json()
    assert (done["answer"], done["parsed"], done["tier"], done["model"]) == ('{"a": 1}', {"a": 1}, "premium", "large-1")
    assert done["cost_usd"] == pytest.approx(2e-5 + 2e-4)
    assert [a["reason"] for a in done["attempts"]] == ["vetoed", "last_tier"]
    assert done["attempts"][0]["verdicts"][0]["veto"] is True
    assert reply.headers["x-cascade-run-id"] == done["run_id"]
    assert done["latency_s"] > 0


def test_a_budget_that_allows_nothing(running: Running) -> None:
    """It is a clear error, and no model is called."""
    refused = running.post("/v1/route", {"prompt": "q", "budget": "0.000001"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "insufficient_quota")


def test_a_budget_that_nobody_could_keep(running: Running) -> None:
    """A model without a known price is the client's mistake only where the client asks for a budget."""
    refused = running.post("/v1/route", {"prompt": "q", "policy": "claude", "budget": 1})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unpriced")
    assert "claude" in refused.json()["error"]["message"]


def test_gate(running: Running, upstream: WireServer) -> None:
    """An answer that the caller has is judged by a tier's judges; no model is asked."""
    done = running.post(
        "/v1/gate", {"prompt": "q", "answer": "I'm sorry, I can't help with that.", "tier": "premium"}
    ).json()
    assert (done["accepted"], done["reason"], "answer" in done) == (False, "vetoed", False)
    done = running.post("/v1/gate", {"prompt": "q", "answer": "51", "policy": "default/premium"}).json()
    assert (done["accepted"], done["judged"], done["reason"], done["cost_usd"]) == (False, False, "unjudged", 0.0)
    assert [v["judge"] for v in done["attempts"][0]["verdicts"]] == ["schema", "rules"]
    assert not upstream.received
    assert running.post("/v1/gate", {"prompt": "q", "answer": "51", "tier": "best"}).status_code == 404


def test_feedback_and_tags_reach_the_journal(serve: Serve, upstream: WireServer, tmp_path: Path) -> None:
    """Feedback is stored with the run's record; an unknown run is a 404."""
    upstream.reply = by_model(logged("51", -0.01), chat("never"))
    running = serve("journal: {url: sqlite:///j.db}" + POLICIES.format(url=upstream.base_url))
    done = running.post("/v1/route", {"prompt": "q", "tags": {"team": "a"}}).json()
    chatted = running.chat(user="ana", metadata={"ticket": "7"}).json()
    assert running.post("/v1/feedback", {"run_id": done["run_id"], "quality": 1.0, "note": "right"}).status_code == 200
    assert running.post("/v1/feedback", {"run_id": "0" * 32, "quality": 1.0}).status_code == 404
    assert running.post("/v1/feedback", {"run_id": done["run_id"], "quality": 2.0}).status_code == 400
    running.stop()
    store = open_store(f"sqlite:///{tmp_path}/j.db", create=False)
    record, second = store.find(done["run_id"]), store.find(chatted["cascade"]["run_id"])
    store.close()
    assert record is not None
    assert second is not None
    assert (record.tags, record.feedback[0]["quality"], record.feedback[0]["note"]) == ({"team": "a"}, 1.0, "right")
    assert second.tags == {"user": "ana", "ticket": "7"}


def test_feedback_needs_a_journal(running: Running) -> None:
    """It is a 409, since the gateway is configured without a journal."""
    refused = running.post("/v1/feedback", {"run_id": "0" * 32, "quality": 1.0})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "no_journal")


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/v1/route", {}, "prompt: is missing"),
        ("/v1/route", {"prompt": ""}, "prompt: must be a non-empty string"),
        ("/v1/route", {"prompt": []}, "prompt: is empty"),
        ("/v1/route", {"prompt": "q", "budget": "much"}, "budget: must be USD"),
        ("/v1/route", {"prompt": "q", "budget": -1}, "budget: must be a number from 0"),
        ("/v1/route", {"prompt": "q", "budget": "nan"}, "budget: must be USD"),
        ("/v1/route", {"prompt": "q", "deadline": 5}, "deadline: unknown field"),
        ("/v1/route", {"prompt": "q", "accuracy": 90}, "accuracy: must be a number from 0 to 1"),
        ("/v1/route", {"prompt": "q", "latency": 0}, "latency: must be a number from 0.001"),
        ("/v1/gate", {"prompt": "q", "answer": "a", "accuracy": "high"}, "accuracy: must be a number from 0 to 1"),
        ("/v1/route", {"prompt": "q", "tags": {"a": []}}, "tags.a: must be"),
        ("/v1/route", {"prompt": "q", "tags": {"a": "x" * 500}}, "a text has at most 256"),
        ("/v1/gate", {"prompt": "q"}, "answer: is missing"),
        ("/v1/feedback", {"run_id": "x"}, "quality: is missing"),
    ],
)
def test_mistakes_are_named(running: Running, path: str, body: dict[str, Any], message: str) -> None:
    """A 400 with the field."""
    refused = running.post(path, body)
    assert refused.status_code == 400
    assert message in refused.json()["error"]["message"]


def test_what_one_call_needs(running: Running, upstream: WireServer) -> None:
    """A higher accuracy escalates what the policy would accept; the time that is allowed leaves slow tiers out."""
    upstream.reply = by_model(logged("51", -0.08), chat("52"))
    assert running.post("/v1/route", {"prompt": "q"}).json()["tier"] == "cheap"
    surer = running.post("/v1/route", {"prompt": "q", "accuracy": 0.99}).json()
    assert ([a["tier"] for a in surer["attempts"]], surer["accepted"]) == (["cheap", "premium"], False)
    chatted = running.chat(cascade={"accuracy": 0.99, "latency": 60})
    assert not chatted.json()["cascade"]["accepted"]
    assert running.chat().json()["cascade"]["accepted"]
    refused = running.chat(cascade={"accuracy": 2})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "cascade.accuracy")
    gated = running.post("/v1/gate", {"prompt": "q", "answer": "51", "policy": "claude", "accuracy": 0.9}).json()
    assert not gated["accepted"]


@pytest.mark.parametrize("journal_text", [True, False])
def test_thoughts_are_returned_and_stored_as_text_is(
    serve: Serve, upstream: WireServer, tmp_path: Path, journal_text: bool
) -> None:
    """Beside the answer for the client; in the journal only with ``journal_text: true``. No thoughts, no field."""
    url = f"sqlite:///{tmp_path}/runs.db"
    policies = POLICIES.replace(
        "  claude:\n    tiers", f"  claude:\n    journal_text: {str(journal_text).lower()}\n    tiers"
    )
    running = serve(f"journal: {{{{url: '{url}'}}}}\n{policies}".format(url=upstream.base_url))
    thought = {"type": "thinking", "thinking": "zebra quagga", "signature": "c2ln"}
    upstream.reply = Reply(message(thought, {"type": "text", "text": "51"}))
    history = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "yes", "reasoning_content": "okapi"},
        {"role": "user", "content": "17 * 3?"},
    ]
    done = running.post("/v1/route", {"prompt": history, "policy": "claude"}).json()
    assert (done["answer"], done["reasoning"], done["ignored"]) == ("51", "zebra quagga", ["messages.reasoning_content"])
    upstream.reply = Reply(message())
    plain = running.post("/v1/route", {"prompt": "hi", "policy": "claude"}).json()
    assert not {"reasoning", "ignored"} & plain.keys()
    judged = running.post("/v1/gate", {"prompt": "hi", "answer": "<think>okapi</think>51", "policy": "claude"}).json()
    assert "reasoning" not in judged
    running.stop()
    store = open_store(url, create=False)
    try:
        record = store.find(done["run_id"])
    finally:
        store.close()
    assert record is not None
    text = str(record)
    assert ("zebra quagga" in text, "okapi" in text, "c2ln" in text) == (journal_text, journal_text, False)
    if journal_text:
        assert record.attempts[0]["answer"]["reasoning"] == "zebra quagga"
        (row,) = [_answer(attempt) for attempt in record.attempts]
        assert row["reasoning"] == "zebra quagga"
        check_answer({**row, "reasoning": "x"}, "answer")
        with pytest.raises(RecordingError, match=r"answer\.reasoning: must be text"):
            check_answer({**row, "reasoning": 1}, "answer")


def test_the_document_describes_thoughts() -> None:
    """Both fields are optional."""
    answer = document()["components"]["schemas"]["Answer"]
    assert {"reasoning", "ignored"} <= answer["properties"].keys()
    assert answer["required"] == ["answer"]
