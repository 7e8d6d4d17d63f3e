"""The matrix of client libraries: every one in every way, with only its base URL changed."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cascade.gateway.conftest import Serve
from tests.clients.matrix import ANSWER, CLIENTS, NODE_CLIENTS, PARSED, RAIN, WAYS, Client
from tests.wire_server import Received, Reply, WireServer, chat, chat_events

pytestmark = pytest.mark.clients

NODE = Path(__file__).parent / "node"
EXPECTED = {"plain": ANSWER, "streamed": ANSWER, "tools": RAIN, "schema": PARSED}
POLICIES = """
aliases: {{gpt-4o: default}}
models:
  small: {{provider: openai, model: small-1, base_url: "{url}/v1", price: {{input_per_mtok: 1, output_per_mtok: 2}}}}
policies:
  default: {{tiers: [{{name: cheap, model: small, accept_at: 0.0, judges: [schema, rules]}}]}}
"""


def reply(received: Received) -> Reply:
    """A model: calls a tool it has not called yet, follows a schema, else answers in words."""
    body = received.body
    conversation = json.dumps(body["messages"])
    tools = {tool["function"]["name"]: tool["function"] for tool in body.get("tools", ())}
    answer: dict[str, Any] = chat(ANSWER)
    if body.get("response_format", {}).get("type") == "json_schema":
        answer = chat(json.dumps(PARSED))
    elif "rain in Ulm" in conversation:
        answer = chat(RAIN)
    elif tools:
        name, function = next(iter(tools.items()))
        arguments = PARSED if "answer" in function["parameters"]["properties"] else {"city": "Ulm"}
        call = {"id": "call_1", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        answer = chat(None, message={"tool_calls": [call]}, choice={"finish_reason": "tool_calls"})
    return Reply(events=chat_events(answer)) if body.get("stream") else Reply(answer)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)
def test_a_client(client: Client, way: str, upstream: WireServer, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads what the model answered; with tools, the model received what the tool returned."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "LANGSMITH_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    upstream.reply = reply
    gateway = serve(POLICIES.format(url=upstream.base_url))
    assert client(gateway.url, way) == EXPECTED[way]
    assert ("rain in Ulm" in json.dumps(upstream.received[-1].body)) == (way == "tools")


@pytest.fixture(scope="module")
def node_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script beside the installed Vercel AI SDK."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("ai")
    shutil.copy(NODE / "ai.mjs", folder)
    packages = ["ai@^6", "@ai-sdk/openai@^3", "@ai-sdk/anthropic@^3", "zod@^4"]
    install = [npm, "install", "--silent", "--no-audit", "--no-fund", *packages]
    installed = subprocess.run(install, cwd=folder, capture_output=True, text=True)
    if installed.returncode != 0:
        pytest.skip(f"the client cannot be installed: {installed.stderr[-300:]}")
    return folder / "ai.mjs"


@pytest.mark.parametrize("name", NODE_CLIENTS)
def test_the_vercel_ai_sdk(name: str, node_client: Path, upstream: WireServer, serve: Serve) -> None:
    """In every way, by each of its providers."""
    upstream.reply = reply
    gateway = serve(POLICIES.format(url=upstream.base_url))
    command = ["node", str(node_client), gateway.url, name.partition(", ")[2]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    read = json.loads(done.stdout)
    assert read.pop("chunks") > 1
    assert read == EXPECTED
