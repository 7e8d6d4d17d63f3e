"""Hostile answers through every judge and through gate(): bounded time and memory, and only documented results."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from time import process_time
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from cascade import Policy
from judges import Answer, Prompt, TokenLogprob, Verdict, make
from judges.equivalence import KINDS, key
from judges.protocol import JudgeInput
from judges.schema.complexity import branches

MEGA = 1_000_000
SECONDS = 8  # each of them takes under 3 s on a free core; a hang takes for ever
TEXTS = {
    "open brackets": "[" * 100_000,
    "closed brackets": "[" * 100_000 + "]" * 100_000,
    "open braces": '{"a":' * 100_000,
    "closed braces": '{"a":' * 50_000 + "1" + "}" * 50_000,
    "20 MB of a letter": "a" * 20 * MEGA,
    "20 MB of words": "word " * (4 * MEGA),
    "20 MB of spaces": " " * 20 * MEGA,
    "20 MB of brackets": "[{" * 10 * MEGA,
    "20 MB of quotes": '"' * 20 * MEGA,
    "20 MB of numbers": "1," * 10 * MEGA,
    "a million digits": "9" * MEGA,
    "a million digits in JSON": "[" + "9" * MEGA + "]",
    "a million decimals": '{"a":0.' + "1" * MEGA + "}",
    "huge exponent": '{"a": 1e999999999}',
    "tiny exponent": '{"a": 1e-999999999}',
    "exponent in words": "The answer is 1e999999999",
    "large numbers": "[" + ",".join(["1e308"] * 20_000) + "]",
    "not a number": '{"a": NaN, "b": [Infinity, -Infinity]}',
    "lone surrogates": "\ud800" * 100_000,
    "lone surrogates in JSON": '{"a":"\\udfff\\ud800", "b": "\udc00"}',
    "nul": "\0" * 100_000,
    "nul in JSON": '{"a\\u0000":"\\u0000"}',
    "right to left": "\u202e" * 100_000 + "42\u202c",
    "combining marks": "a" + "\u0301" * 200_000,
    "mixed combining marks": "a" + "\u0301\u0323\u0327" * 100_000,
    "jamo": "\u1100\u1161\u11a8" * 100_000,
    "one for eighteen": "\ufdfa" * 50_000,
    "joiners": "\u200d" * 200_000,
    "tag characters": "\U000e0041" * 100_000,
    "other digits": "٣" * 100_000,
    "control characters": "".join(map(chr, range(32))) * 3000,
    "beyond": "\U0010ffff\uffff" * 50_000,
    "fences": "```json\n{\n" * 30_000,
    "boxes": "\\boxed{" * 100_000,
    "markers": "Answer: #### " * 50_000,
    "dates": "99/99/9999 2024-02-30 " * 50_000,
    "groups": "1,234," * 100_000,
    "choices": "(A) B) C. " * 50_000,
    "apologies": "I'm sorry, but " * 20_000 + "I can't help",
    "backslashes": '"' + "\\" * 200_001,
    "the same key": "{" + ",".join(['"k":1'] * 100_000) + "}",
    "many keys": "{" + ",".join(f'"k{i}":{i}' for i in range(50_000)) + "}",
    "many items": '["' + '","'.join(["x" * 10] * 50_000) + '"]',
    "reasoning in reasoning": '{"reasoning":' * 400 + "1" + "}" * 400,
    "answers in answers": '{"answer":' * 900 + "1" + "}" * 900,
    "marks": "</candidate " * 50_000,
    "pattern": "a" * 50_000 + "!",
}
SCHEMA = {
    "type": ["object", "array", "string", "number"],
    "properties": {"a": {"type": "number", "multipleOf": 0.1}, "k": {"pattern": "^(x+x+)+y$"}},
    "patternProperties": {"^(a+)+$": {}},
    "uniqueItems": True,
    "items": {"anyOf": [{"multipleOf": 3}, {"type": "string", "pattern": "^(x+x+)+y$"}, {}]},
}


def policy() -> Policy:
    """All built-in judges; none stops the others by a threshold."""
    rules = [{"use": "rules", "choices": ["yes", "no"], "truncated": False}, {"use": "rules", "pattern": "^(a+)+$"}]
    judges = ["schema", *rules, "logprob", {"use": "self_consistency", "samples": 2}, "verifier"]
    return Policy.model_validate({"tiers": [{"model": "m", "accept_at": 1.0, "judges": judges}], "on_judge_error": "raise"})


@pytest.mark.parametrize("name", TEXTS)
def test_every_judge_alone(name: str) -> None:
    """Each says something in time, and raises nothing."""
    text = TEXTS[name]

    async def ask(prompt: Prompt, *, n: int = 1, **options: Any) -> list[Answer]:
        return [Answer(text, first_token_top={text[:50]: 0.0})] * n

    async def all_judges() -> dict[str, float]:
        by_name = {}
        for rule in policy().tiers[0].judges:
            case = JudgeInput(prompt=Prompt.of("q", schema=SCHEMA), answer=Answer(text), ask=ask)
            start = process_time()
            judged = make(rule.use, **rule.options).judge(case)
            assert isinstance(judged if isinstance(judged, Verdict) else await judged, Verdict)
            by_name[rule.use] = process_time() - start
        return by_name

    for judge, seconds in asyncio.run(all_judges()).items():
        assert seconds < SECONDS, judge


HUNGRY = """
import json, resource, sys
limit = 1_500_000_000  # bytes of address space, of which the interpreter and its libraries take a third
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
from time import process_time
from cascade import Cascade, Result, ScriptedModel
from tests.test_hostile import MEGA, SCHEMA, TEXTS, policy
for name, text in TEXTS.items():
    start = process_time()
    try:
        with Cascade(policy(), models={"m": ScriptedModel("m", [text])}) as c:
            result = c.gate(text[:MEGA], text, schema=SCHEMA)
        facts = [isinstance(result, Result), result.accepted, result.text == text, result.reason]
        print(json.dumps([name, facts, process_time() - start]), flush=True)
    except Exception as error:
        print(json.dumps([name, repr(error)[:2000], 0]), flush=True)
        if isinstance(error, MemoryError):
            raise
    result = None
"""


@pytest.fixture(scope="module")
def gated() -> subprocess.CompletedProcess[str]:
    """All of them through a gate, in a process within a fixed address space."""
    root = Path(__file__).parents[1]
    return subprocess.run([sys.executable, "-c", HUNGRY], cwd=root, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("name", TEXTS)
def test_through_a_gate(gated: subprocess.CompletedProcess[str], name: str) -> None:
    """gate() gives a result, whatever the prompt and the answer hold."""
    results = {n: (facts, seconds) for n, facts, seconds in map(json.loads, gated.stdout.splitlines())}
    assert name in results, gated.stderr[-2000:]
    facts, seconds = results[name]
    assert facts in ([True, False, True, "vetoed"], [True, False, True, "unsure"])
    assert seconds < SECONDS


def test_memory_is_bounded(gated: subprocess.CompletedProcess[str]) -> None:
    """No answer takes more than some times its own size."""
    assert gated.returncode == 0, gated.stderr[-2000:]
    assert len(gated.stdout.splitlines()) == len(TEXTS)


@pytest.mark.parametrize("kind", KINDS)
def test_long_answers_are_compared_by_their_end(kind: str) -> None:
    """Behind a long train of thought a marked answer still counts; without one, only the very same text is the same."""
    thought = "I think that it may be 7 or 8. " * 10_000
    assert key(thought + "Answer: 42", kind) == key("different thoughts. " * 20_000 + "Answer: 42", kind)
    assert key(thought + "Answer: 42", kind) != key(thought + "Answer: 43", kind) or kind in ("choice", "date")
    if kind == "auto":
        assert key(thought + "Answer: 42", kind) == key("42", kind)
        assert key("x" + thought, kind) != key("y" + thought, kind)
    assert key(thought, kind) == key(thought, kind)


class Add(BaseModel):
    """One of two that refer to each other without a discriminator."""

    op: Literal["add"]
    left: "Add | Mul | int"


class Mul(BaseModel):
    """The other."""

    op: Literal["mul"]
    left: "Add | Mul | int"


def node(op: str) -> dict[str, Any]:
    """The same in JSON Schema."""
    return {
        "type": "object",
        "properties": {"op": {"const": op}, "left": {"$ref": "#/$defs/node"}},
        "required": ["op"],
    }


TREE = {"$defs": {"node": {"anyOf": [node("add"), node("mul"), {"type": "number"}]}}, "$ref": "#/$defs/node"}


@pytest.mark.parametrize("schema", [TREE, Add], ids=["JSON Schema", "pydantic"])
@pytest.mark.parametrize("depth", [25, 200])
def test_alternatives_that_double_with_depth(schema: Any, depth: int) -> None:
    """2 to the power of the answer's depth ways to fail are not all tried."""
    text = '{"op":"x","left":' * depth + "1" + "}" * depth
    start = process_time()
    verdict = make("schema", schema=schema).judge(JudgeInput(prompt=Prompt.of("q"), answer=Answer(text)))
    assert isinstance(verdict, Verdict)
    assert verdict.veto
    assert "too" in verdict.reason
    assert process_time() - start < SECONDS


@pytest.mark.parametrize("schema", [TREE, Add], ids=["JSON Schema", "pydantic"])
def test_a_good_tree_is_good(schema: Any) -> None:
    """Up to a depth that answers have."""
    text = '{"op":"add","left":{"op":"mul","left":' * 4 + "1" + "}}" * 4
    verdict = make("schema", schema=schema).judge(JudgeInput(prompt=Prompt.of("q"), answer=Answer(text)))
    assert isinstance(verdict, Verdict)
    assert not verdict.veto


def test_which_models_can_explode() -> None:
    """Only those whose circular references are alternatives without a discriminator."""

    class Chain(BaseModel):
        next: "Chain | None" = None

    class Leaf(BaseModel):
        x: int

    class Wide(BaseModel):
        either: Leaf | Chain | None = None

    assert [branches(m.model_json_schema()) for m in (Add, Chain, Leaf, Wide)] == [2, 1, 1, 1]


def test_odd_log_probabilities() -> None:
    """Two hundred thousand tokens, and values that no provider should send."""
    odd = [float("nan"), float("inf"), -float("inf"), 5.0, -1e308, 0.0]
    tokens = tuple(TokenLogprob("```" if i % 7 == 0 else "x\ud800\n", odd[i % len(odd)]) for i in range(200_000))
    start = process_time()
    verdict = make("logprob").judge(JudgeInput(prompt=Prompt.of("q"), answer=Answer("x", logprobs=tokens)))
    assert isinstance(verdict, Verdict)
    assert verdict.score is None or 0 <= verdict.score <= 1
    assert process_time() - start < SECONDS
