"""The examples with FastAPI, LangChain and OpenAI Agents, and the documentation's clients, against a running gateway."""

import asyncio
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cascade.gateway.conftest import Serve
from tests.wire_server import Received, Reply, WireServer, chat

pytestmark = pytest.mark.clients

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/how-to/client-libraries.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```py\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
QUESTION = "What is the capital of France? Reply with the answer only."
RECORDED = """
journal: {{url: "sqlite:///{folder}/journal.db", durability: full}}
models:
  small: {{provider: recorded, recording: starter, model: qwen2.5-coder-0.5b-instruct}}
policies:
  default: {{when_unsure: abstain, tiers: [{{name: cheap, model: small, accept_at: {accept_at}, judges: [rules, logprob]}}]}}
"""
LIVE = """
models:
  small: {{provider: openai, model: small-1, base_url: "{url}/v1", price: {{input_per_mtok: 1, output_per_mtok: 2}}}}
policies:
  default: {{tiers: [{{name: cheap, model: small, accept_at: 0.0, judges: [rules]}}]}}
"""
CALL = {"id": "call_1", "type": "function", "function": {"name": "order_status", "arguments": '{"number": 17}'}}


@pytest.fixture(autouse=True)
def examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples can be imported, and no client finds a key or an address of its own."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "examples"), *sys.path])
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "LANGSMITH_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split()[1])
def test_clients_in_the_documentation_work(
    block: str, upstream: WireServer, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each client of the page prints the answer when it is pointed at the gateway."""
    upstream.reply = lambda received: Reply(chat("Paris"))
    gateway = serve(LIVE.format(url=upstream.base_url))
    exec(compile(block.replace("http://127.0.0.1:8000", gateway.url), "client-libraries.md", "exec"), {})
    assert capsys.readouterr().out.startswith("Paris")


def test_fastapi_answers_and_takes_feedback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question, a question without an answer, feedback for the right and the wrong run, health."""
    testclient = pytest.importorskip("fastapi.testclient", reason="fastapi is not installed: make test-clients")
    (tmp_path / "policies.yaml").write_text(RECORDED.format(folder=tmp_path, accept_at=0.5), encoding="utf-8")
    monkeypatch.setenv("CASCADE_POLICIES", str(tmp_path / "policies.yaml"))
    from fastapi_service import app

    with testclient.TestClient(app) as client:
        reply = client.post("/answer", json={"text": QUESTION}).json()
        assert (reply["text"], reply["needs_review"]) == ("Paris", False)
        assert client.post("/feedback", json={"run_id": reply["run_id"], "quality": 1.0}).status_code == 204
        assert client.post("/feedback", json={"run_id": "0" * 32, "quality": 1.0}).status_code == 409
        assert client.post("/answer", json={"text": "never recorded"}).status_code == 502
        assert client.post("/answer", json={"text": QUESTION, "deadline_s": 0}).status_code == 422
        assert client.get("/health").json() == {"models": {"small": "closed"}}


@pytest.mark.parametrize("accept_at", [0.5, 0.99])
def test_langchain_raises_where_nothing_was_accepted(serve: Serve, tmp_path: Path, accept_at: float) -> None:
    """The chain ends with an accepted answer, or raises."""
    pytest.importorskip("langchain_openai", reason="langchain-openai is not installed: make test-clients")
    from langchain_client import chain

    gateway = serve(RECORDED.format(folder=tmp_path, accept_at=accept_at))
    if accept_at < 0.9:
        assert chain(f"{gateway.url}/v1").invoke(QUESTION) == "Paris"
    else:
        with pytest.raises(ValueError, match="no answer was accepted"):
            chain(f"{gateway.url}/v1").invoke(QUESTION)


def test_an_agent_uses_its_tool(upstream: WireServer, serve: Serve) -> None:
    """The model calls the tool, the agent runs it, and the second turn has the result."""
    pytest.importorskip("agents", reason="openai-agents is not installed: make test-clients")
    from agents_client import ask

    def reply(received: Received) -> Reply:
        results: list[Any] = [m for m in received.body["messages"] if m["role"] == "tool"]
        if results:
            return Reply(chat(f"It is {results[-1]['content']}."))
        return Reply(chat(None, message={"tool_calls": [CALL]}, choice={"finish_reason": "tool_calls"}))

    upstream.reply = reply
    gateway = serve(LIVE.format(url=upstream.base_url))
    assert asyncio.run(ask("Where is order 17?", f"{gateway.url}/v1")) == "It is on its way."
    assert len(upstream.received) == 2
