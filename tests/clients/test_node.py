"""OpenAI's own Node client against the running gateway."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cascade.gateway.conftest import Serve
from tests.wire_server import Received, Reply, WireServer, chat, chat_events

pytestmark = pytest.mark.clients

NODE = Path(__file__).parent / "node"
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Ulm"}'}}
POLICIES = """
models:
  small: {{provider: openai, model: small-1, base_url: "{url}/v1", price: {{input_per_mtok: 1, output_per_mtok: 2}}}}
  calls: {{provider: openai, model: calls-1, base_url: "{url}/v1"}}
  vague: {{provider: openai, model: vague-1, base_url: "{url}/v1"}}
  exact: {{provider: openai, model: exact-1, base_url: "{url}/v1"}}
policies:
  default: {{tiers: [{{name: cheap, model: small, accept_at: 0.0}}]}}
  tools: {{tiers: [{{model: calls, accept_at: 0.0}}]}}
  json: {{tiers: [{{model: vague, accept_at: 0.0, judges: [schema]}}, {{model: exact, accept_at: 0.0, judges: [schema]}}]}}
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script beside an installed client."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("node")
    for file in NODE.iterdir():
        shutil.copy(file, folder)
    installed = subprocess.run(
        [npm, "install", "--silent", "--no-audit", "--no-fund"], cwd=folder, capture_output=True, text=True
    )
    if installed.returncode != 0:
        pytest.skip(f"the client cannot be installed: {installed.stderr[-300:]}")
    return folder / "client.mjs"


def reply(received: Received) -> Reply:
    """What each model says."""
    output: dict[str, Any] = {
        "small-1": chat("fifty-one, I think"),
        "calls-1": chat(None, message={"tool_calls": [CALL]}, choice={"finish_reason": "tool_calls"}),
        "vague-1": chat('{"answer": "many"}'),
        "exact-1": chat('{"answer": 51}'),
    }
    body = output[received.body["model"]]
    return Reply(events=chat_events(body)) if received.body.get("stream") else Reply(body)


def test_openais_node_client(client: Path, upstream: WireServer, serve: Serve) -> None:
    """Plain, streamed, tools, a schema, errors and the list of models, as the client itself reads them."""
    upstream.reply = reply
    gateway = serve(POLICIES.format(url=upstream.base_url))
    done = subprocess.run(["node", str(client), f"{gateway.url}/v1"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    saw = json.loads(done.stdout)
    assert saw["plain"] == {"text": "fifty-one, I think", "tier": "cheap", "accepted": "false", "tokens": 15}
    assert saw["stream"].pop("chunks") > 2
    assert saw["stream"] == {"text": "fifty-one, I think", "finish": "stop", "tier": "cheap", "tokens": 15}
    assert saw["tools"] == {"finish": "tool_calls", "call": {"name": "weather", "arguments": '{"city": "Ulm"}'}}
    assert saw["schema"] == {"parsed": {"answer": 51}, "attempts": 2}
    policy, field = saw["errors"]["policy"], saw["errors"]["field"]
    assert (policy["kind"], policy["status"], policy["code"], policy["param"]) == (True, 404, "model_not_found", "model")
    assert (field["kind"], field["status"], field["param"]) == (True, 400, "temperature")
    assert {"default", "tools", "json"} <= set(saw["models"])
