"""No text of a megabyte holds a reader for long: neither of a client, nor of a model, nor of a provider.

What runs on an event loop is here by name. The words come from every module with a pattern that reads such texts, so that a
new pattern is attacked as soon as it exists.
"""

import asyncio
import importlib
import logging
import os
import pkgutil
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

import cascade
import judges
from cascade.costs.token_bound import prompt_tokens
from cascade.engine.plan import TaskPlan
from cascade.gateway.anthropic.request import read as read_message
from cascade.gateway.errors import ApiError
from cascade.gateway.openai.chat import read as read_chat
from cascade.gateway.openai.responses.request import read as read_response
from cascade.gateway.response import dump
from cascade.gateway.validation import json_object
from cascade.models.adaptation import Adaptation
from cascade.models.anthropic import AnthropicModel
from cascade.models.error_body import error_message
from cascade.models.openai import OpenAIModel
from cascade.models.protocol import ModelError, Request
from cascade.models.retry_delay import retry_delay
from cascade.policy.routes import script_of
from cascade.util.redaction import redact
from judges import Answer, JudgeInput, Prompt
from judges.equivalence import KINDS, LONGEST, key
from judges.logprob import LogprobJudge
from judges.reading import ReasoningStream, find_json, read_answer, read_finish_reason, read_tool_calls
from judges.reading.tool_calls import sent_calls
from judges.rules import RulesJudge
from judges.same_meaning import comparison_prompt
from judges.schema import SchemaJudge
from judges.schema.offload import is_small
from judges.tools import ToolsJudge
from judges.verifier import verification_prompt
from judges.votes import vote_of
from tests.text_attacks import Reader, Slow, cases, patterns, slow, units

# Three times the promise of 0.1 s, since machines differ. What is linear takes a fifth of this; what is not, minutes.
LIMIT_S = 0.3
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
TOOL = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}
PROMPT = Prompt.of("What?")
# Their patterns read what the operator writes (a policy, a command line), or a head of at most 64 KB.
OPERATORS = {
    *("cascade.policy.environment", "cascade.policy.load", "cascade.gateway.auth.keys"),
    *("cascade.gateway.cors", "cascade.gateway.serve.protocol", "cascade.gateway.dashboard.events"),
    "cascade.journal.read.commands",
}  # fmt: skip


def modules() -> Iterator[ModuleType]:
    """Every module with a pattern that reads texts of clients, models or providers."""
    for package in (judges, cascade):
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if info.name not in OPERATORS and not info.name.endswith("__main__"):
                module = importlib.import_module(info.name)
                if patterns(module):
                    yield module


def judge(judge: Any, prompt: Prompt = PROMPT) -> Reader:
    """A judge's work on a text."""
    return lambda text: judge.judge(JudgeInput(prompt=prompt, answer=Answer(text)))


def small_schema(text: str) -> None:
    """The schema judge's work on the loop: the rest is done in a worker process."""
    if is_small(SCHEMA, text):
        SchemaJudge(repair=True).validate(JudgeInput(prompt=replace(PROMPT, schema=SCHEMA), answer=Answer(text)))


def stream(text: str) -> None:
    """A reply in pieces."""
    reader = ReasoningStream()
    for start in range(0, len(text), 4096):
        reader.add(text[start : start + 4096])
    reader.end()


def calls(text: str) -> tuple[Mapping[str, Any], ...]:
    """A tool call with these arguments."""
    return ({"id": "c", "type": "function", "function": {"name": "f", "arguments": text}},)


def choice(text: str) -> Mapping[str, Any]:
    """OpenAI's body with a text, a thought and a call."""
    message = {"content": text[: len(text) // 2], "reasoning_content": text[len(text) // 2 :]}
    return {
        "choices": [{"message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1},
    }


def message(text: str) -> Mapping[str, Any]:
    """Anthropic's body with a text."""
    usage = {"input_tokens": 1, "output_tokens": 1}
    return {"content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "usage": usage}


def tolerant(reader: Callable[[str], object]) -> Reader:
    """A reader that may refuse a text."""

    def read(text: str) -> None:
        with suppress(ValueError, RecursionError, ApiError, ModelError):
            reader(text)

    return read


OPENAI = OpenAIModel(name="m", model="m", base_url="http://127.0.0.1:1", api_key="k")
ANTHROPIC = AnthropicModel(name="m", model="m", base_url="http://127.0.0.1:1", api_key="k")
SENT = {"model": "default", "max_tokens": 5}
READERS: Mapping[str, Reader] = {
    "reasoning": lambda text: read_answer(Answer(text)),
    "reasoning in a stream": stream,
    "finish reason": read_finish_reason,
    "JSON": tolerant(lambda text: find_json(text[:LONGEST])),  # longer ones are read in a worker process
    "tool calls": lambda text: read_tool_calls([{"name": "f", "arguments": text}]),
    "tool calls of a history": lambda text: sent_calls(calls(text)),
    **{f"equivalence {kind}": (lambda text, kind=kind: key(text, kind)) for kind in KINDS},  # type: ignore[misc]
    "vote": lambda text: asyncio.run(vote_of(Answer(text))),
    "vote by a schema": lambda text: asyncio.run(vote_of(Answer(text[:60_000]), SCHEMA)),
    "vote of calls": lambda text: asyncio.run(vote_of(Answer("", tool_calls=calls(text)))),
    "verifier": lambda text: verification_prompt(Prompt.of(text), Answer(text)),
    "comparison": lambda text: comparison_prompt(Prompt.of(text), Answer(text), Answer(text)),
    "rules": judge(RulesJudge()),
    "rules with choices": judge(RulesJudge(choices=("yes", "no"))),
    "rules with a pattern": judge(RulesJudge(pattern="^(a|b)+$")),
    "schema": small_schema,
    "tools": judge(ToolsJudge(), replace(PROMPT, tools=(TOOL,))),
    "log-probabilities": judge(LogprobJudge()),
    "tokens of a prompt": lambda text: prompt_tokens(Prompt.of(text)),
    "tokens of a call": lambda text: prompt_tokens(Prompt(({"role": "assistant", "tool_calls": [*calls(text)]},))),
    "task": lambda text: TaskPlan(tag="task", patterns=(("a", "^(a|b)+$"),), variants={}).task_of(Prompt.of(text), None),
    "script": script_of,
    "body": tolerant(lambda text: json_object(b'{"a":%s}' % dump(text))),
    "body that is no JSON": tolerant(lambda text: json_object(text.encode("utf-8", "surrogatepass"))),
    "chat": tolerant(lambda text: read_chat({**SENT, "messages": [{"role": "user", "content": text}]})),
    "name of a field": tolerant(lambda text: read_chat({**SENT, text: 1})),
    "name of a model": tolerant(lambda text: read_chat({"model": text, "messages": [{"role": "user", "content": "a"}]})),
    "message": tolerant(lambda text: read_message({**SENT, "messages": [{"role": "user", "content": text}]})),
    "response": tolerant(lambda text: read_response({"model": "default", "input": text})),
    "sealed thought": tolerant(
        lambda text: read_response(
            {"model": "default", "input": [{"type": "reasoning", "encrypted_content": f"cascade:{text}"}]}
        )
    ),
    "OpenAI's answer": tolerant(lambda text: OPENAI.answers(choice(text))),
    "Anthropic's answer": tolerant(lambda text: ANTHROPIC.answers(message(text))),
    "OpenAI's request": lambda text: OPENAI.body(Prompt.of(text), Request()),
    "Anthropic's request": lambda text: ANTHROPIC.body(Prompt.of(text), Request()),
    "provider's error": lambda text: redact(error_message({"error": {"message": text}}), "secret-key"),
    "delay in an error": lambda text: retry_delay({}, {"error": {"message": f"Please retry in {text}"}}),
    "parameter in an error": lambda text: Adaptation("m").learn(ModelError(f"temperature {text}", model="m", status=400)),
    "response's body": dump,
}


def test_every_module_with_a_pattern_is_attacked() -> None:
    """A module's words are taken by its patterns, and no module that reads others' texts is left out."""
    names = {module.__name__ for module in modules()}
    for part in ("judges.reading", "judges.equivalence", "judges.sanitize", "cascade.models", "cascade.gateway"):
        assert any(name.startswith(part) for name in names), part
    assert {"</think>", "Answer: ", "\\boxed{"} & set(units(*modules()))
    for name in OPERATORS:
        assert patterns(importlib.import_module(name)), f"{name} has no pattern any more: take it out of OPERATORS"


def test_quadratic_readers_are_noticed() -> None:
    """The measurement itself: a reader that begins anew at each mark is found by the mark in its pattern."""

    def quadratic(text: str) -> None:
        at = 0
        while (at := text.find("@!", at) + 1) and at < 2000:
            text.count("@", at)

    noticed = slow({"quadratic": quadratic, "linear": len}, cases(["@!"], pairs=0, seed=1)[:1], 0.02, 200_000)
    assert [attack.reader for attack in noticed] == ["quadratic"]


def attack(count: int, pairs: int, seed: int) -> list[Slow]:
    """The slow ones of a random choice of attacks."""
    logging.disable()
    try:
        every = cases(units(*modules()), pairs, seed)
        return slow(READERS, random.Random(seed).sample(every, min(count, len(every))), LIMIT_S)
    finally:
        logging.disable(logging.NOTSET)


# What once took too long.
KNOWN_TEXTS = [
    *("<think>", "<think></think>", "<think></think>a", "</think> a", "<answer> ", "<|channel|>analysis<|message|>a<|end|>"),
    *("0", "①", "\u0301\u0316", "\ufdfa", "\u00bd", '```json\n{"a":[1', "\\boxed{", '{"a":', "1e999999,"),
]  # fmt: skip


@pytest.mark.parametrize("unit", KNOWN_TEXTS, ids=ascii)
def test_what_once_took_too_long(unit: str) -> None:
    """It takes a fraction of the limit."""
    assert slow(READERS, cases([unit], pairs=0, seed=0)[:1], LIMIT_S) == []


def test_some_texts() -> None:
    """A few others in every run; CI repeats the same ones, so that a failure is a change's."""
    seed = 0 if os.environ.get("CI") else random.randrange(10**6)
    assert attack(3, 200, seed) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_many_texts(seed: int) -> None:
    """A wide sweep."""
    assert attack(150, 4000, seed) == []
