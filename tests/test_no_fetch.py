"""Nothing is fetched that the policy does not name: in a process that may connect to one address only, everything is run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.wire_server import Received, Reply, WireServer, chat, message

ROOT = Path(__file__).parents[1]
GUARDED = """
import socket, sys, tempfile
from pathlib import Path

port, tried = int(sys.argv[1]), []

def allowed(address):
    return isinstance(address, tuple) and address[:2] == ("127.0.0.1", port)

def guarded(name):
    real = getattr(socket.socket, name)
    def connect(self, address, *rest):
        # Pairs of sockets inside of this process are how event loops wake up.
        if self.family in (socket.AF_INET, socket.AF_INET6) and not allowed(address):
            tried.append(f"{name} {address}")
            raise OSError("not allowed here")
        return real(self, address, *rest)
    return connect

for name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, name, guarded(name))

real = socket.getaddrinfo
def getaddrinfo(host, *rest, **options):
    if host not in ("127.0.0.1", None):
        tried.append(f"getaddrinfo {host}")
        raise socket.gaierror("not allowed here")
    return real(host, *rest, **options)
socket.getaddrinfo = getaddrinfo

import cascade
from cascade import Cascade, CascadeError
from cascade.policy.load import parse
from cascade.telemetry import Telemetry
from pydantic import BaseModel, Field, HttpUrl

class Page(BaseModel):
    url: HttpUrl = Field(json_schema_extra={"$ref": "http://schema.invalid/pydantic"})

SCHEMAS = [
    {"$schema": "http://schema.invalid/meta", "type": "object"},
    {"$id": "http://schema.invalid/base", "type": "object", "properties": {"url": {"$ref": "other.json"}}},
    {"$ref": "http://schema.invalid/remote.json"},
    {"$ref": "https://json-schema.org/draft/2019-09/schema"},
    {"$dynamicRef": "http://schema.invalid/dynamic#x"},
    {"properties": {"url": {"format": "uri", "pattern": "http://.*"}}},
    Page,
]
TEXT = \"\"\"
models:
  a: {provider: openai, model: gpt-4o-mini, base_url: 'http://127.0.0.1:PORT/v1', logprobs: true, retry: {attempts: 1}}
  b: {provider: anthropic, model: claude-sonnet-4-5, base_url: 'http://127.0.0.1:PORT', retry: {attempts: 1}}
  c: {provider: openai, model: gpt-4o-mini, base_url: 'http://127.0.0.1:PORT/v1', temperature: 0}
policies:
  default:
    tiers:
      - model: a
        accept_at: 0.9
        judges: [schema, rules, logprob, {use: self_consistency, samples: 2}, {use: verifier, model: b}]
      - {model: b, accept_at: 1.0, judges: [schema, rules, verifier]}
      - {model: c, accept_at: 0.0, judges: [rules]}
    on_judge_error: ignore
\"\"\"
folder = Path(tempfile.mkdtemp())
file = parse(TEXT.replace("PORT", str(port)))
ran = 0
telemetry = Telemetry(traces=True, metrics=True, content=True)
with Cascade(file, journal=f"sqlite:///{folder}/j.db", telemetry=telemetry) as c:
    image = {"type": "image_url", "image_url": {"url": "http://image.invalid/x.png"}}
    prompts = ["see http://prompt.invalid/", [{"role": "user", "content": [{"type": "text", "text": "what?"}, image]}]]
    for schema in [None, *SCHEMAS]:
        for prompt in prompts:
            try:
                result = c.run(prompt, schema=schema)
                assert result.tier == "c", result
                list(c.stream(prompt, schema=schema))
            except CascadeError as error:
                print("run", type(error).__name__, error, file=sys.stderr)
            ran += 1
        c.gate("q", '{"url": "http://answer.invalid/"}', schema=schema)

# Prices by the published list: of a known model, an unknown one, and one of another provider's address.
from cascade.costs.prices import Pricer
from cascade.policy.schema import ModelSpec
from judges import Usage
for provider, model, url in [
    ("openai", "gpt-4o", None),
    ("anthropic", "claude-sonnet-4-5", None),
    ("openai", "no-such-model", None),
    ("openai", "llama-3", "https://api.groq.com/openai/v1"),
]:
    spec = ModelSpec.model_validate({"provider": provider, "model": model, "base_url": url})
    Pricer("m", spec).cost(Usage(10, 10))
cascade.run("What is the capital of France? Reply with the answer only.", policy_file=sys.argv[2])

from cascade.cli import main
main(["check", sys.argv[2]])
main(["schema"])
print("RAN", ran, "TRIED", tried, file=sys.stderr)
sys.exit(1 if tried else 0)
"""
GUARDED = GUARDED.replace(", FileUrl, EmailStr if False else HttpUrl", "").replace(
    "import ipaddress, socket", "import socket"
)


@pytest.fixture
def answering() -> WireServer:
    """A server that gives unsure answers with addresses in them."""
    server = WireServer()

    def reply(received: Received) -> Reply:
        text = json.dumps({"url": f"http://answer.invalid/{len(server.received)}"})
        usage = {"prompt_tokens": 5, "completion_tokens": 5}
        choices = [
            {"index": i, "message": {"content": text}, "finish_reason": "stop"} for i in range(received.body.get("n", 1))
        ]
        if received.body.get("stream"):
            return Reply({"error": {"message": "no streams here"}}, 400)
        return Reply(
            {
                **message({"type": "text", "text": text}),
                **chat(),
                "choices": choices,
                "usage": {**usage, **message()["usage"]},
            }
        )

    server.reply = reply
    return server


def test_nothing_else_is_connected_to(answering: WireServer) -> None:
    """SDKs, schemas with remote references, prices, pydantic, images, journal and telemetry: one host, no name looked up."""
    with answering as server:
        port = server.base_url.rsplit(":", 1)[1]
        command = [sys.executable, "-c", GUARDED, port, str(ROOT / "policies.yaml")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert "RAN 16 TRIED []" in done.stderr, done.stderr[-3000:]
    assert done.returncode == 0
    assert len(server.received) > 50
    assert "http://schema.invalid" not in {r.path for r in server.received}


def test_the_guard_notices() -> None:
    """Another address is refused and reported, so that the test above can fail."""
    code = GUARDED.split("import cascade\n")[0] + (
        "import urllib.request\n"
        "for url in ('http://127.0.0.1:9/', 'http://schema.invalid/'):\n"
        "    try: urllib.request.urlopen(url, timeout=1)\n"
        "    except OSError: pass\n"
        "print(tried)"
    )
    done = subprocess.run([sys.executable, "-c", code, "1"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "connect ('127.0.0.1', 9)" in done.stdout
    assert "getaddrinfo schema.invalid" in done.stdout
