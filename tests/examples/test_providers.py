"""The policy examples of providers, each run against a local server with that provider's paths, headers and answers."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from cascade import Cascade, Result
from cascade.policy.load import load
from tests.wire_server import Received, Reply, WireServer, chat, chat_events, message

FOLDER = Path(__file__).parents[2] / "examples/providers"
UNSURE = {"logprobs": {"content": [{"token": "51", "logprob": -3.0}]}}
KEY = "provider-key-0123456789"


@pytest.fixture
def server() -> Any:
    """The provider."""
    with WireServer() as running:
        yield running


def run(name: str, **options: Any) -> Result:
    """One run by the example."""

    async def go() -> Result:
        async with Cascade(load(FOLDER / f"{name}.yaml")) as cascade:
            return await cascade.arun("What is 17 * 3?", **options)

    return asyncio.run(go())


def test_every_example_is_tested() -> None:
    """By a test of its name here, and named in the documentation."""
    page = (FOLDER.parents[1] / "docs/how-to/use-a-provider.md").read_text(encoding="utf-8")
    for file in FOLDER.iterdir():
        assert f"test_{file.stem}" in globals()
        assert f"examples/providers/{file.name}" in page


def test_azure(server: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key in ``api-key`` and nowhere else, deployments as models, log-probabilities from the small one."""
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", server.base_url)
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)

    def reply(received: Received) -> Reply:
        if received.path != "/openai/v1/chat/completions" or received.headers.get("api-key") != KEY:
            return Reply({"error": {"code": "401", "message": "Access denied due to invalid subscription key"}}, status=401)
        assert "authorization" not in received.headers
        return Reply(chat("51", choice=UNSURE if received.body["model"] == "gpt-4.1-mini" else {}))

    server.reply = reply
    result = run("azure")
    assert (result.text, result.tier, result.reason) == ("51", "large", "last_tier")
    assert [r.body["model"] for r in server.received] == ["gpt-4.1-mini", "gpt-5"]
    assert result.cost_usd == pytest.approx((10 * 0.4 + 5 * 1.6 + 10 * 1.25 + 5 * 10) / 1e6)


def test_bedrock(server: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two interfaces with one bearer token: four samples one by one, and Anthropic's messages."""
    monkeypatch.setenv("BEDROCK_RUNTIME", server.base_url)
    monkeypatch.setenv("BEDROCK_MANTLE", server.base_url)
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", KEY)
    texts = iter(["1", "2", "3", "4", "5"])

    def reply(received: Received) -> Reply:
        if received.headers.get("authorization") != f"Bearer {KEY}" or "x-api-key" in received.headers:
            return Reply({"message": "Authentication failed: Please make sure your API Key is valid."}, status=403)
        if received.path == "/anthropic/v1/messages":
            return Reply(message({"type": "text", "text": "51"}))
        assert received.path == "/openai/v1/chat/completions"
        return Reply(chat(f"<reasoning>Hm.</reasoning>{next(texts)}"))

    server.reply = reply
    result = run("bedrock")
    assert (result.text, result.tier, result.reason) == ("51", "large", "last_tier")
    assert server.received[-1].body["model"] == "anthropic.claude-sonnet-4-5"


def test_vertex(server: WireServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The token is renewed between two runs of one Cascade; an error that is a list is read."""
    monkeypatch.setenv("VERTEX_ENDPOINT", server.base_url)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
    token = tmp_path / "token"
    token.write_text("ya29.first\n")
    monkeypatch.setenv("VERTEX_TOKEN_FILE", str(token))
    valid = ["ya29.first"]
    path = "/v1/projects/my-project/locations/global/endpoints/openapi/chat/completions"

    def reply(received: Received) -> Reply:
        assert received.path == path
        if received.headers.get("authorization") != f"Bearer {valid[0]}":
            return Reply(
                [{"error": {"code": 401, "message": "Request had invalid authentication credentials."}}], status=401
            )
        return Reply(chat("51", usage={"total_tokens": 115}))  # 100 tokens of thought

    server.reply = reply

    async def go() -> list[Result]:
        async with Cascade(load(FOLDER / "vertex.yaml")) as cascade:
            results = [await cascade.arun("What is 17 * 3?")]
            valid[0] = "ya29.second"
            (tmp_path / "new").write_text("ya29.second\n")
            os.replace(tmp_path / "new", token)
            return [*results, await cascade.arun("What is 17 * 3?")]

    for result in asyncio.run(go()):
        assert (result.text, result.tier, result.accepted) == ("51", "small", True)
        assert result.cost_usd is not None
        requests = [r for r in server.received if r.headers.get("authorization") == f"Bearer {valid[0]}"]
        assert result.cost_usd == pytest.approx(len(requests) * (10 * 0.1 + 105 * 0.4) / 1e6)


@pytest.mark.parametrize("stream", [False, True])
def test_openrouter(server: WireServer, monkeypatch: pytest.MonkeyPatch, stream: bool) -> None:
    """Its own count of the money, also at the end of a stream, between its comments."""
    monkeypatch.setenv("OPENROUTER_ADDRESS", f"{server.base_url}/api")
    monkeypatch.setenv("OPENROUTER_API_KEY", KEY)

    def reply(received: Received) -> Reply:
        assert received.path == "/api/v1/chat/completions"
        assert received.headers["authorization"] == f"Bearer {KEY}"
        assert received.body["usage"] == {"include": True}
        body = chat("51", usage={"cost": 0.002})
        if received.body.get("stream"):
            return Reply(events=[b": OPENROUTER PROCESSING\n\n", *chat_events(body)])
        return Reply(body)

    server.reply = reply
    if not stream:
        result = run("openrouter")
    else:
        with Cascade(load(FOLDER / "openrouter.yaml")) as cascade:
            result = list(cascade.stream("What is 17 * 3?"))[-1].result  # type: ignore[union-attr]
    assert (result.text, result.tier) == ("51", "small")
    assert result.cost_usd == pytest.approx(0.002 * result.attempts[0].calls)
    assert KEY not in json.dumps(result.to_dict())
