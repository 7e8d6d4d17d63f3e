"""An agent's session of 30 turns through the gateway: the provider's prompt cache works as it does without one.

The provider is a local server that speaks Anthropic's interface and prices its cache as Anthropic does: a request reads the
longest prefix that an earlier one wrote at a breakpoint, compared byte for byte, and pays for what it writes.
"""

import hashlib
import json
import random
import re
from dataclasses import dataclass, field
from typing import Any

import anthropic
import pytest

from tests.cascade.gateway.conftest import Serve
from tests.wire_server import Received, Reply, WireServer, message_events

TURNS = 30
BREAKPOINT = {"cache_control": {"type": "ephemeral"}}
PRICE = {"input": 3.0, "output": 15.0, "read": 0.3, "write": 3.75}  # USD per million tokens
POLICIES = """
models:
  claude: {{provider: anthropic, model: claude-1, base_url: "{url}", retry: {{attempts: 1}}, max_tokens: 32000, price:
    {{input_per_mtok: 3, output_per_mtok: 15, cached_input_per_mtok: 0.3, cache_write_per_mtok: 3.75}}}}
policies:
  default: {{tiers: [{{model: claude, accept_at: 0.0, judges: [rules]}}]}}
"""
TOOLS: list[Any] = [
    {
        "name": name,
        "description": f"{name}: {detail} " * 12,
        "input_schema": {"type": "object", "properties": {arg: {"type": "string"} for arg in args}, "required": [args[0]]},
    }
    for name, detail, args in [
        ("Read", "reads a file and returns its lines with numbers.", ["file_path", "offset"]),
        ("Bash", "runs a command in a shell and returns what it prints.", ["command", "description"]),
        ("Edit", "replaces one text in a file by another.", ["file_path", "old_string", "new_string"]),
        ("Grep", "finds a pattern in the files of a folder.", ["pattern", "path"]),
    ]
]
SYSTEM: list[Any] = [
    {"type": "text", "text": "You are a coding agent in a terminal."},
    {
        "type": "text",
        "text": "Rules of the project. Prefer small changes; run the tests; é ü 漢字 \u2028 stay as they are. " * 60,
    },
]
TEXT = "the parser reads a token until the input ends; a test failed here: expected 3 got 4; see line 12"
WORDS = re.findall(r"\S+", TEXT)


@dataclass
class CachingProvider:
    """Answers like the model of a coding agent, and counts tokens with a cache of prefixes.

    Attributes:
        sent: The requests, as bytes of their prefixes.
        usd: What the requests cost together.
    """

    seed: int
    usd: float = 0.0
    bodies: list[dict[str, Any]] = field(default_factory=list)
    _cache: set[str] = field(default_factory=set)

    def reply(self, received: Received) -> Reply:
        """One turn: a thought, a sentence, one or two calls; the last turn has text only."""
        body = received.body
        self.bodies.append(body)
        turn = sum(message["role"] == "assistant" for message in body["messages"])
        content = _turn(random.Random(f"{self.seed}/{turn}"), turn)
        usage = self._usage(body, sum(_size(block) for block in content))
        answer = {
            "id": f"msg_{turn}", "type": "message", "role": "assistant", "model": "claude-1", "content": content,
            "stop_reason": "end_turn" if turn == TURNS - 1 else "tool_use", "stop_sequence": None, "usage": usage,
        }  # fmt: skip
        return Reply(events=message_events(answer)) if body.get("stream") else Reply(answer)

    def _usage(self, body: dict[str, Any], output: int) -> dict[str, int]:
        blocks = [*body.get("tools", ()), *body.get("system", ())]
        blocks += [[message["role"], block] for message in body["messages"] for block in _blocks(message["content"])]
        digest, total, read, written = hashlib.sha256(), 0, 0, 0
        marks = []
        for block in blocks:
            marked = isinstance(block, dict) and "cache_control" in block
            marked = marked or (isinstance(block, list) and "cache_control" in block[1])
            digest.update(json.dumps(_unmarked(block), ensure_ascii=False).encode())
            total += _size(_unmarked(block))
            if digest.hexdigest() in self._cache:
                read = total
            if marked:
                marks.append((digest.hexdigest(), total))
        for key, size in marks:
            written = max(written, size - read)
            self._cache.add(key)
        plain = total - read - written
        cost = plain * PRICE["input"] + read * PRICE["read"] + written * PRICE["write"] + output * PRICE["output"]
        self.usd += cost / 1e6
        return {
            "input_tokens": plain, "cache_read_input_tokens": read, "cache_creation_input_tokens": written,
            "output_tokens": output,
        }  # fmt: skip


def _blocks(content: Any) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _unmarked(block: Any) -> Any:
    if isinstance(block, list):
        return [block[0], _unmarked(block[1])]
    return {name: value for name, value in block.items() if name != "cache_control"}


def _size(block: Any) -> int:
    return len(json.dumps(block, ensure_ascii=False)) // 4 + 1


def _prose(rng: random.Random, n: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(n))


def _turn(rng: random.Random, turn: int) -> list[dict[str, Any]]:
    thought = {"type": "thinking", "thinking": _prose(rng, 40), "signature": f"c2ln{turn}{rng.randrange(10**9)}=="}
    blocks: list[dict[str, Any]] = [thought]
    if turn % 7 == 3:
        blocks.append({"type": "redacted_thinking", "data": f"cmVk{rng.randrange(10**9)}"})
    if turn % 3 == 0 or turn == TURNS - 1:
        blocks.append({"type": "text", "text": f"Step {turn}: {_prose(rng, 12)}"})
    if turn < TURNS - 1:
        for i in range(1 + turn % 2):
            tool = TOOLS[(turn + i) % len(TOOLS)]
            arguments = {arg: _prose(rng, 4) for arg in tool["input_schema"]["properties"]} | {
                "timeout": 1.5,
                "ß": [1, None],
            }
            blocks.append({"type": "tool_use", "id": f"toolu_{turn:02}_{i}", "name": tool["name"], "input": arguments})
    return blocks


def _results(rng: random.Random, turn: int, content: list[Any]) -> list[dict[str, Any]]:
    """What the tools returned, as the agent's next message: text, sometimes an image or an error, a reminder."""
    blocks: list[dict[str, Any]] = []
    for block in content:
        if block["type"] != "tool_use":
            continue
        result: dict[str, Any] = {"type": "tool_result", "tool_use_id": block["id"], "content": _prose(rng, 150)}
        if turn % 5 == 1:
            source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
            result["content"] = [{"type": "text", "text": _prose(rng, 50)}, {"type": "image", "source": source}]
        if turn % 6 == 2:
            result["is_error"] = True
        blocks.append(result)
    return [*blocks, {"type": "text", "text": "<system-reminder>Keep the list of tasks up to date.</system-reminder>"}]


def session(client: anthropic.Anthropic, model: str, seed: int) -> tuple[list[Any], float | None]:
    """The agent: sends the whole conversation each turn, with breakpoints at its end, and returns it with its cost."""
    rng = random.Random(f"agent/{seed}")
    history: list[Any] = [
        {"role": "user", "content": [{"type": "text", "text": "Fix the failing test. " + _prose(rng, 30)}]}
    ]
    usd: float | None = 0.0
    for turn in range(TURNS):
        marked = [
            *history[:-1],
            {**history[-1], "content": [*history[-1]["content"][:-1], history[-1]["content"][-1] | BREAKPOINT]},
        ]
        fields: dict[str, Any] = {
            "model": model, "max_tokens": 32000, "messages": marked, "tools": [*TOOLS[:-1], TOOLS[-1] | BREAKPOINT],
            "system": [*SYSTEM[:-1], SYSTEM[-1] | BREAKPOINT], "metadata": {"user_id": "user_1_session_2"},
            "thinking": {"type": "enabled", "budget_tokens": 31999}, "betas": ["interleaved-thinking-2025-05-14"],
            "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        }  # fmt: skip
        if turn % 4 == 3:  # an agent counts from time to time, and some of its requests are not streamed
            done = client.beta.messages.create(**fields, timeout=60)
            run = (done.model_extra or {}).get("cascade")
        else:
            with client.beta.messages.stream(**fields) as stream:
                ends = [event for event in stream if event.type == "message_delta"]
                done = stream.get_final_message()
            run = (ends[-1].model_extra or {}).get("cascade")
        usd = None if run is None or usd is None else usd + run["cost_usd"]
        assert run is None or "ignored" not in run, "something did not reach the model"
        content = [_plain(block) for block in done.content]
        history.append({"role": "assistant", "content": content})
        if done.stop_reason != "tool_use":
            assert turn == TURNS - 1
            break
        history.append({"role": "user", "content": _results(rng, turn, content)})
    return history, usd


def _plain(block: Any) -> dict[str, Any]:
    fields = {"thinking": ("type", "thinking", "signature"), "redacted_thinking": ("type", "data"), "text": ("type", "text")}
    return {name: getattr(block, name) for name in fields.get(block.type, ("type", "id", "name", "input"))}


def test_a_session_costs_what_it_costs_without_the_gateway(serve: Serve, upstream: WireServer) -> None:
    """Nothing is refused or ignored, every byte of every prefix arrives the same, and the bill is within 0.5 %."""
    seed = 1
    direct = CachingProvider(seed)
    upstream.reply = direct.reply
    with anthropic.Anthropic(base_url=upstream.base_url, api_key="k", max_retries=0) as client:
        direct_history, _ = session(client, "claude-1", seed)
    gateway = serve(POLICIES.format(url=upstream.base_url))
    through = CachingProvider(seed)
    upstream.reply = through.reply
    with gateway.anthropic() as client:
        history, usd = session(client, "default", seed)
    assert len(through.bodies) == len(direct.bodies) == TURNS
    assert history == direct_history
    for sent, expected in zip(through.bodies, direct.bodies, strict=True):
        for name in ("tools", "system", "messages"):
            assert json.dumps(sent[name]) == json.dumps(expected[name]), name
        for name in ("thinking", "max_tokens", "context_management"):
            assert sent[name] == expected[name]
    assert through.usd == pytest.approx(direct.usd, rel=0.005)
    assert usd == pytest.approx(direct.usd, rel=0.005)
    uncached = CachingProvider(seed)
    for body in direct.bodies:
        uncached._cache.clear()
        uncached._usage(body, 0)
    assert through.usd < 0.5 * uncached.usd, "the cache was hit"
