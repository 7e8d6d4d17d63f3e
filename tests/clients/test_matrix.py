"""The matrix of client libraries: every one in every way, with only its base URL changed."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cascade.gateway.conftest import Running, Serve
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
LADDER = """
aliases: {{gpt-4o: default}}
models:
  small: {{provider: openai, model: small-1, base_url: "{url}/v1", price: {{input_per_mtok: 1, output_per_mtok: 2}}}}
  large: {{provider: openai, model: large-1, base_url: "{url}/v1", price: {{input_per_mtok: 10, output_per_mtok: 20}}}}
policies:
  default:
    tiers:
      - {{name: cheap, model: small, accept_at: 0.0, judges: [schema, rules]}}
      - {{name: premium, model: large, accept_at: 0.0, judges: [schema, rules]}}
"""
LADDERS = {"one tier": POLICIES, "escalates": LADDER}


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


def reply_of_ladder(received: Received) -> Reply:
    """Two models, of which the small one is never good enough: a wrong shape, a tool that does not exist, a refusal."""
    body = received.body
    if body["model"] == "large-1":
        return reply(received)
    answer = chat("I'm sorry, but I can't help with that.")
    if body.get("response_format", {}).get("type") == "json_schema":
        answer = chat('{"answer": "many"}')
    elif body.get("tools") and "rain in Ulm" not in json.dumps(body["messages"]):
        call = {"id": "call_0", "type": "function", "function": {"name": "wether", "arguments": '{"city": "Ul'}}
        answer = chat(None, message={"tool_calls": [call]}, choice={"finish_reason": "tool_calls"})
    return Reply(events=chat_events(answer)) if body.get("stream") else Reply(answer)


def served(ladder: str, serve: Serve, upstream: WireServer) -> Running:
    """A gateway with this ladder, and its models."""
    upstream.reply = reply if ladder == "one tier" else reply_of_ladder
    return serve(LADDERS[ladder].format(url=upstream.base_url))


def check_models(ladder: str, upstream: WireServer) -> None:
    """Which models were asked: in a ladder both, in turns."""
    models = [received.body["model"] for received in upstream.received]
    expected = ["small-1"] if ladder == "one tier" else ["small-1", "large-1"]
    assert models == expected * (len(models) // len(expected))


@pytest.mark.parametrize("ladder", LADDERS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)
def test_a_client(
    client: Client, way: str, ladder: str, upstream: WireServer, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads what the model answered; with tools, the model received what the tool returned.

    In a ladder each request escalates, and nothing of the cheap tier's answer reaches the client.
    """
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "LANGSMITH_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    gateway = served(ladder, serve, upstream)
    assert client(gateway.url, way) == EXPECTED[way]
    check_models(ladder, upstream)
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


@pytest.mark.parametrize("ladder", LADDERS)
@pytest.mark.parametrize("name", NODE_CLIENTS)
def test_the_vercel_ai_sdk(name: str, ladder: str, node_client: Path, upstream: WireServer, serve: Serve) -> None:
    """In every way, by each of its providers."""
    gateway = served(ladder, serve, upstream)
    command = ["node", str(node_client), gateway.url, name.partition(", ")[2]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    read = json.loads(done.stdout)
    check_models(ladder, upstream)
    assert read.pop("chunks") > 1
    assert read == EXPECTED
